"""Detectors of canonical keypoints and of how head and face move them (face-vid2vid, Wang et al. 2021, supplement A).

An option in place of `MotionExtractor`, which does both.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float

from vasa_jax.models.keypoint_layers import BatchNorm, ConvBlock, corner_grid, volume_from_picture
from vasa_jax.models.keypoint_motion import RawMotion, pose_and_expression
from vasa_jax.models.layers import Conv, Dtype, upsample

SHRINK = 4  # the detector sees a quarter of the side
TEMPERATURE = 0.1  # of the softmax over places


class CanonicalKeypointDetector(nn.Module):
    """Finds canonical keypoints (B, K, 3) of images (B, H, W, 3) in [0, 1]: mean places under K heat maps, float32.

    H and W: multiples of 4 times 2 to the number of `down_widths`.
    """

    keypoints: int = 15
    down_widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    up_widths: tuple[int, ...] = (512, 256, 128, 64, 32)
    depth: int = 16
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> Float[Array, "B K 3"]:
        batch, height, width, _ = image.shape
        small = (batch, height // SHRINK, width // SHRINK, 3)
        x = jax.image.resize(image, small, "linear", antialias=False)
        for i, features in enumerate(self.down_widths):
            x = ConvBlock(features, pool=(2, 2), dtype=self.dtype, name=f"down_blocks_{i}")(x, train)
        lift = Conv(x.shape[-1] * self.depth, 1, standardise=False, bias=True, dtype=self.dtype, name="lift")
        x = volume_from_picture(lift(x), self.depth)
        for i, features in enumerate(self.up_widths):
            x = ConvBlock(features, dtype=self.dtype, name=f"up_blocks_{i}")(upsample(x, (1, 2, 2)), train)
        x = Conv(self.keypoints, 3, standardise=False, bias=True, dtype=self.dtype, name="heat")(x)
        grid = corner_grid(*x.shape[1:4]).reshape(-1, 3)
        share = jax.nn.softmax(x.astype(jnp.float32).reshape(batch, -1, self.keypoints) / TEMPERATURE, axis=1)
        # Written out per coordinate: by default a product of matrices rounds to bfloat16 or TF32 on accelerators.
        return jnp.stack([(share * grid[:, axis, None]).sum(1) for axis in range(3)], -1)


class Bottleneck(nn.Module):
    """Adds 1 x 1, 3 x 3 (with the stride) and 1 x 1 convolutions to its input, a quarter as wide inside; ReLU."""

    features: int
    stride: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w c"], train: bool = False) -> Float[Array, "B h2 w2 c2"]:
        h = ConvBlock(self.features // 4, 1, dtype=self.dtype, name="block1")(x, train)
        h = ConvBlock(self.features // 4, 3, self.stride, dtype=self.dtype, name="block2")(h, train)
        h = Conv(self.features, 1, standardise=False, bias=True, dtype=self.dtype, name="conv3")(h)
        h = BatchNorm(self.dtype, name="norm3")(h, train)
        if x.shape != h.shape:
            x = Conv(self.features, 1, self.stride, False, bias=True, dtype=self.dtype, name="skip")(x)
            x = BatchNorm(self.dtype, name="skip_norm")(x, train)
        return nn.relu(x + h)


class HeadPoseExpressionEstimator(nn.Module):
    """Reads logits of the angles, translation and expression from faces (B, H, W, 3) in [0, 1], float32.

    The method knows no scale: it is 1 here. `canonical`: the keypoints that go into the answer.
    """

    keypoints: int = 15
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (4, 4, 6, 3)
    stem: int = 64
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], canonical: Float[Array, "B K 3"], train: bool = False
    ) -> RawMotion:
        x = ConvBlock(self.stem, 7, 2, dtype=self.dtype, name="stem")(image, train)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                x = Bottleneck(width, stride, self.dtype, name=f"stages_{stage}_{block}")(x, train)
        x = x.astype(jnp.float32).mean((1, 2))
        return RawMotion(
            **pose_and_expression(x, self.keypoints),
            scale=jnp.ones((x.shape[0], 1), jnp.float32),
            keypoints=canonical,
        )


class SeparateMotionExtractor(nn.Module):
    """Reads motion from faces by both detectors, in the place of a `MotionExtractor`.

    `detector`, `estimator`: other fields of `CanonicalKeypointDetector` and `HeadPoseExpressionEstimator`.
    """

    keypoints: int = 15
    depth: int = 16
    detector: Mapping[str, Any] = FrozenDict()
    estimator: Mapping[str, Any] = FrozenDict()
    dtype: Dtype = jnp.float32

    def setup(self):
        self.canonical_keypoint_detector = CanonicalKeypointDetector(
            self.keypoints, depth=self.depth, **self.detector, dtype=self.dtype
        )
        self.head_pose_expression_estimator = HeadPoseExpressionEstimator(
            self.keypoints, **self.estimator, dtype=self.dtype
        )

    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> RawMotion:
        """Runs both networks on the same images."""
        canonical = self.canonical_keypoint_detector(image, train)
        return self.head_pose_expression_estimator(image, canonical, train)

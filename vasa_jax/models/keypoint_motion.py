"""MotionExtractor: canonical keypoints, head pose and expression of a face, from one network (LivePortrait's M).

The backbone is ConvNeXt V2 (Woo et al. 2023). Everything is read from one pooled vector.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.layers import Dtype

POSE_BINS = 66  # of 3 degrees
_LAYER_NORM_EPSILON = 1e-6
_GRN_EPSILON = 1e-6  # added to the mean response, not inside of the root
# A training starts with heads of size 1 in the middle, and with the same keypoints, spread out, for every face.
_FAINT = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
_SPREAD = nn.initializers.normal(0.3)


class RawMotion(NamedTuple):
    """The networks' answer about a face, before the angles are read from their bins."""

    pitch: Float[Array, "B 66"]  # logits
    yaw: Float[Array, "B 66"]
    roll: Float[Array, "B 66"]
    translation: Float[Array, "B 3"]
    expression: Float[Array, "B K 3"]  # displacements of the keypoints
    scale: Float[Array, "B 1"]
    keypoints: Float[Array, "B K 3"]  # canonical
    places: Float[Array, "B K 2"] | None = None  # where a reader sees the keypoints in the image, if it says so


class GlobalResponseNorm(nn.Module):
    """Weights channels by their share of the whole response (GRN); the identity at initialisation."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        gamma = self.param("gamma", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        beta = self.param("beta", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        x32 = x.astype(jnp.float32)
        response = jnp.sqrt(jnp.square(x32).sum((1, 2), keepdims=True))
        share = response / (response.mean(-1, keepdims=True) + _GRN_EPSILON)
        return (gamma * (x32 * share) + beta + x32).astype(x.dtype)


class ConvNeXtBlock(nn.Module):
    """Adds depthwise 7 x 7, layer norm, four times the width, exact GELU, GRN and the way back to its input."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        h = nn.Conv(width, (7, 7), feature_group_count=width, dtype=self.dtype, name="dwconv")(x)
        h = _layer_norm(self.dtype, "norm")(h)
        h = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, name="pwconv1")(h), approximate=False)
        h = GlobalResponseNorm(name="grn")(h)
        return x + nn.Dense(width, dtype=self.dtype, name="pwconv2")(h)


class ConvNeXt(nn.Module):
    """Encodes images in [0, 1] as one vector each. The first stage quarters the side, each other one halves it."""

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B C"]:
        x = image.astype(self.dtype)
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            # The first convolution comes before its norm, the others after theirs: so are the layers numbered.
            conv, norm = ("0", "1") if stage == 0 else ("1", "0")
            step = 4 if stage == 0 else 2
            reduce = nn.Conv(
                width, (step, step), (step, step), "VALID", dtype=self.dtype, name=f"downsample_layers_{stage}_{conv}"
            )
            normalise = _layer_norm(self.dtype, f"downsample_layers_{stage}_{norm}")
            x = normalise(reduce(x)) if stage == 0 else reduce(normalise(x))
            for block in range(depth):
                x = ConvNeXtBlock(self.dtype, name=f"stages_{stage}_{block}")(x)
        return _layer_norm(jnp.float32, "norm")(x.astype(jnp.float32).mean((1, 2)))


class MotionExtractor(nn.Module):
    """Reads the motion of faces (B, 256, 256, 3) in [0, 1], float32; the side may be any multiple of 32."""

    keypoints: int = 21
    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> RawMotion:
        del train  # nothing in here differs in training
        x = ConvNeXt(self.depths, self.widths, self.dtype, name="detector")(image)
        return RawMotion(
            **pose_and_expression(x, self.keypoints),
            scale=nn.Dense(1, kernel_init=_FAINT, bias_init=nn.initializers.ones, name="fc_scale")(x),
            keypoints=nn.Dense(3 * self.keypoints, kernel_init=_FAINT, bias_init=_SPREAD, name="fc_kp")(x).reshape(
                -1, self.keypoints, 3
            ),
        )


def pose_and_expression(x: Float[Array, "B features"], keypoints: int) -> dict[str, Array]:
    """Reads fields of `RawMotion` off a pooled vector, by dense layers of the module that calls it."""
    return {
        "pitch": nn.Dense(POSE_BINS, name="fc_pitch")(x),
        "yaw": nn.Dense(POSE_BINS, name="fc_yaw")(x),
        "roll": nn.Dense(POSE_BINS, name="fc_roll")(x),
        "translation": nn.Dense(3, kernel_init=_FAINT, name="fc_t")(x),
        "expression": nn.Dense(3 * keypoints, kernel_init=_FAINT, name="fc_exp")(x).reshape(-1, keypoints, 3),
    }


def _layer_norm(dtype: Dtype, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(_LAYER_NORM_EPSILON, dtype=dtype, use_fast_variance=False, name=name)

"""Judges that this project trains itself: an identity embedding, and features that know parts and points of a face.

The embedding learns by CosFace (Wang et al. 2018). VASA-1 and MegaPortraits use networks of others there.

Trained by `training/tasks/loss_networks.py` on renders of people whom neither the codec nor the face probe meets.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.backbones import ResNet
from vasa_jax.models.layers import Conv, Dtype, GroupNorm, ResidualBlock, average_pool, upsample

IDENTITY_SIZE = 96  # pixels that the identity judge sees


class IdentityJudge(nn.Module):
    """Embeds images as unit vectors that tell people apart: a small residual network at 96 x 96 pixels."""

    embedding: int = 128
    widths: tuple[int, ...] = (32, 48, 64, 96)
    stem: int = 24
    groups: int = 8
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
        batch = image.shape[0]
        x = jax.image.resize(image, (batch, IDENTITY_SIZE, IDENTITY_SIZE, 3), "linear", antialias=True)
        x = ResNet(
            depths=(1,) * len(self.widths),
            widths=self.widths,
            stem=self.stem,
            strides=(2,) * len(self.widths),
            stem_size=3,
            stem_stride=1,
            stem_pool=False,
            groups=self.groups,
            dtype=self.dtype,
            name="resnet",
        )(2.0 * x - 1.0)
        x = Conv(24, 1, standardise=False, bias=True, dtype=self.dtype, name="reduce")(x)
        x = x.astype(jnp.float32).reshape(batch, -1)
        x = nn.Dense(self.embedding, name="embedding")(x)
        return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


class FaceReading(NamedTuple):
    """The perceptual judge's reading of images, float32."""

    features: list[Array]  # after the ReLU, at 1, 1/2, 1/4 and 1/8 of the size
    segmentation: Float[Array, "B h w segments"]  # logits at half the size
    heat: Float[Array, "B h w points"]  # logits at a quarter of the size


class PerceptualJudge(nn.Module):
    """Names parts and finds points of a face: a small U-Net, fully convolutional, for any size divisible by 8."""

    segments: int
    points: int
    widths: tuple[int, ...] = (16, 32, 48, 64)
    groups: int = 8
    dtype: Dtype = jnp.float32

    def setup(self):
        common = {"groups": self.groups, "dtype": self.dtype}
        self.stem = Conv(self.widths[0], standardise=False, bias=True, dtype=self.dtype)
        self.blocks = [ResidualBlock(width, **common) for width in self.widths]
        self.norms = [GroupNorm(self.groups, self.dtype) for _ in self.widths]
        self.lateral = [
            Conv(self.widths[1], 1, standardise=False, bias=True, dtype=self.dtype) for _ in self.widths[1:]
        ]
        self.segmentation = Conv(self.segments, standardise=False, bias=True, dtype=self.dtype)
        self.heat = Conv(self.points, standardise=False, bias=True, dtype=self.dtype)

    def __call__(self, image: Float[Array, "B H W 3"]) -> FaceReading:
        maps = self._maps(image)
        x = self.lateral[2](maps[3])
        x = quarter = upsample(x, (2, 2)) + self.lateral[1](maps[2])
        x = upsample(x, (2, 2)) + self.lateral[0](maps[1])
        return FaceReading(
            [x.astype(jnp.float32) for x in maps],
            self.segmentation(nn.relu(x)).astype(jnp.float32),
            self.heat(nn.relu(quarter)).astype(jnp.float32),
        )

    def features(self, image: Float[Array, "B H W 3"]) -> list[Array]:
        """Returns the feature maps alone."""
        return [x.astype(jnp.float32) for x in self._maps(image)]

    def _maps(self, image: Array) -> list[Array]:
        x, maps = self.stem(2.0 * image - 1.0), []
        for i, (block, norm) in enumerate(zip(self.blocks, self.norms, strict=True)):
            x = block(average_pool(x) if i else x)
            maps.append(nn.relu(norm(x)))
        return maps

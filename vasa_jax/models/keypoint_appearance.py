"""AppearanceFeatureExtractor: an image as a volume of features in its own view (LivePortrait's F)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.keypoint_layers import ConvBlock, ResidualBlock3D, volume_from_picture
from vasa_jax.models.layers import Conv, Dtype


class AppearanceFeatureExtractor(nn.Module):
    """Lifts images (B, H, W, 3) in [0, 1] to volumes of a quarter of the side with the default two halvings.

    `first_size`: 3 in LivePortrait, 7 in face-vid2vid.
    """

    width: int = 64
    down_blocks: int = 2
    max_width: int = 512  # also of the map that becomes the volume: channels times depth
    channels: int = 32
    depth: int = 16
    blocks_3d: int = 6
    first_size: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> Float[Array, "B D h w C"]:
        if self.channels * self.depth != self.max_width:
            raise ValueError(f"{self.channels} channels of {self.depth} slices do not come out of {self.max_width}")
        x = ConvBlock(self.width, self.first_size, dtype=self.dtype, name="first")(image, train)
        for i in range(self.down_blocks):
            width = min(self.max_width, self.width * 2 ** (i + 1))
            x = ConvBlock(width, pool=(2, 2), dtype=self.dtype, name=f"down_blocks_{i}")(x, train)
        x = Conv(self.max_width, 1, standardise=False, bias=True, dtype=self.dtype, name="second")(x)
        x = volume_from_picture(x, self.depth)
        for i in range(self.blocks_3d):
            x = ResidualBlock3D(self.dtype, name=f"resblocks_3d_{i}")(x, train)
        return x

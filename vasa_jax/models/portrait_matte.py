"""PortraitMatte: which share of each pixel of a portrait is the person's.

A residual U-Net (Ronneberger, Fischer and Brox 2015) over the picture as the codec sees it. It runs once per portrait:
the codec's own matte, made for rendered frames, takes leaves, roofs and windows for hair.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.geometry import pixel_grid
from vasa_jax.models.layers import Conv, Dtype, GroupNorm, ResidualBlock, average_pool

SIDE = 256  # pixels of the picture that it is trained on


class PortraitMatte(nn.Module):
    """Maps a picture in [0, 1] to the logit of the person's share of each pixel, float32.

    Each width is a scale, half as fine as the one before; the picture's side must halve as often.
    """

    widths: tuple[int, ...] = (16, 32, 48, 64, 96, 128)
    groups: int = 8
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B n n 3"]) -> Float[Array, "B n n"]:
        size = image.shape[1]
        # Portraits are framed alike: where a pixel lies says much about it.
        place = jnp.broadcast_to(pixel_grid(size, size), (*image.shape[:3], 2))
        x = Conv(self.widths[0], dtype=self.dtype, name="stem")(jnp.concatenate([2.0 * image - 1.0, place], -1))
        scales = []
        for i, width in enumerate(self.widths):
            x = ResidualBlock(width, self.groups, dtype=self.dtype, name=f"down_{i}")(average_pool(x) if i else x)
            scales.append(x)
        for i, skip in reversed(list(enumerate(scales[:-1]))):
            x = ResidualBlock(skip.shape[-1], self.groups, (2, 2), dtype=self.dtype, name=f"up_{i}")(x) + skip
        x = nn.relu(GroupNorm(self.groups, self.dtype, name="norm")(x))
        return Conv(1, standardise=False, bias=True, dtype=self.dtype, name="share")(x)[..., 0].astype(jnp.float32)

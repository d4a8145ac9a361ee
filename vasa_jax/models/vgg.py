"""The convolutional stacks of VGG-19 (ImageNet) and of VGG-16 (VGGFace), for perceptual losses.

Simonyan and Zisserman 2014; Parkhi et al. 2015. Only what lies before the taps is built: the five layers convI_1.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.layers import Conv, Dtype


class VGGLayout(NamedTuple):
    """Convolutions per stage, and mean and deviation of the network's inputs for pictures in [0, 1]."""

    depths: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


WIDTHS = (64, 128, 256, 512, 512)
VGG19 = VGGLayout((2, 2, 4, 4, 1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# VGGFace takes values of 0 to 255, of which a mean colour is subtracted.
VGGFACE = VGGLayout(
    (2, 2, 3, 3, 1), tuple(value / 255.0 for value in (129.1863, 104.7624, 93.5940)), (1 / 255.0,) * 3
)


class VGG(nn.Module):
    """Pictures (B, H, W, 3) in [0, 1] to relu1_1, relu2_1, ..., relu5_1."""

    layout: VGGLayout
    widths: tuple[int, ...] = WIDTHS
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> list[Array]:
        x = (image - jnp.array(self.layout.mean)) / jnp.array(self.layout.std)
        taps = []
        for stage, (depth, width) in enumerate(zip(self.layout.depths, self.widths, strict=True), start=1):
            if stage > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
            for i in range(1, depth + 1):
                name = f"conv{stage}_{i}"
                x = nn.relu(Conv(width, standardise=False, bias=True, dtype=self.dtype, name=name)(x))
                if i == 1:
                    taps.append(x)
        return taps

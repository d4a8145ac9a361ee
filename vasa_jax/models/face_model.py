"""Deep3DFaceRecon's network (Deng et al. 2019, arXiv 1903.08527): a morphable face's coefficients from a picture.

A ResNet-50 whose pooled features go through a linear layer for each group of coefficients. Batch norms (epsilon 1e-5)
are folded into the convolutions (weights/published_networks.py).
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

SIDE = 224  # pixels
# Coefficients by group, in the order of the file: person, expression, texture, angles (radians), light, place.
GROUPS = {"identity": 80, "expression": 64, "texture": 80, "angles": 3, "light": 27, "across": 2, "away": 1}
DEPTHS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # of the width, behind the last convolution of a block


class FaceModelBlock(nn.Module):
    """Adds 1 x 1, 3 x 3 (with the stride) and 1 x 1 convolutions to its input."""

    width: int
    stride: int
    skip: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B h w c"]) -> Float[Array, "B h2 w2 c2"]:
        h = nn.relu(_convolution(self.width, 1, 1, "conv1")(x))
        h = nn.relu(_convolution(self.width, 3, self.stride, "conv2")(h))
        h = _convolution(EXPANSION * self.width, 1, 1, "conv3")(h)
        if self.skip:
            x = _convolution(EXPANSION * self.width, 1, self.stride, "skip")(x)
        return nn.relu(x + h)


class FaceModelNetwork(nn.Module):
    """Maps pictures of aligned faces in [0, 1] to 257 coefficients, GROUPS side by side."""

    @nn.compact
    def __call__(self, x: Float[Array, "B h w 3"]) -> Float[Array, "B 257"]:
        x = nn.relu(_convolution(WIDTHS[0], 7, 2, "conv1")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))  # behind a ReLU, so that zeros around change nothing
        for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=1):
            for i in range(depth):
                x = FaceModelBlock(width, 2 if i == 0 and stage > 1 else 1, i == 0, name=f"layer{stage}_{i}")(x)
        x = x.mean((1, 2))
        groups = [nn.Dense(size, precision="highest", name=name)(x) for name, size in GROUPS.items()]
        return jnp.concatenate(groups, -1)


def _convolution(width: int, size: int, stride: int, name: str) -> nn.Conv:
    pad = size // 2
    return nn.Conv(width, (size, size), stride, ((pad, pad), (pad, pad)), precision="highest", name=name)

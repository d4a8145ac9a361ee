"""I3D (Carreira and Zisserman 2017, "Quo vadis, action recognition?"): the network whose logits FVD compares.

Inception v1 with kernels in space and time, trained to name 400 actions of Kinetics. Padding is TensorFlow's SAME, with
zeros, which depends on the size of the input: XLA's SAME is the same. Batch norms (epsilon 1e-5 in the lineage of
TATS, whose file this reads) are folded into the convolutions (weights/published_networks.py). Poolings see values that
a ReLU has made, so that zeros beyond the border and nothing there are one.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

SIDE = 224  # pixels
# Widths of 1x1; 1x1, 3x3; 1x1, 3x3; pool, 1x1. By name, with the pooling before: kernel and stride.
BLOCKS = {
    "3b": (64, 96, 128, 16, 32, 32), "3c": (128, 128, 192, 32, 96, 64), "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64), "4d": (128, 128, 256, 24, 64, 64), "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128), "5b": (256, 160, 320, 32, 128, 128), "5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
_POOLS = {"3b": ((1, 3, 3), (1, 2, 2)), "4b": ((3, 3, 3), (2, 2, 2)), "5b": ((2, 2, 2), (2, 2, 2))}


class Unit(nn.Module):
    """Convolution, batch norm folded in, ReLU."""

    width: int
    size: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B t h w c"]) -> Float[Array, "B t2 h2 w2 width"]:
        shape, strides = (self.size,) * 3, (self.stride,) * 3
        return nn.relu(nn.Conv(self.width, shape, strides, padding="SAME", precision="highest", name="conv3d")(x))


class Mixed(nn.Module):
    """Four branches side by side."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "B t h w c"]) -> Float[Array, "B t h w c2"]:
        b0, b1a, b1b, b2a, b2b, b3b = self.widths
        pooled = nn.max_pool(x, (3, 3, 3), (1, 1, 1), "SAME")
        branches = (
            Unit(b0, name="b0")(x),
            Unit(b1b, 3, name="b1b")(Unit(b1a, name="b1a")(x)),
            Unit(b2b, 3, name="b2b")(Unit(b2a, name="b2a")(x)),
            Unit(b3b, name="b3b")(pooled),
        )
        return jnp.concatenate(branches, -1)


class I3D(nn.Module):
    """Videos of 9 frames or more to the logits of 400 actions, mean over time."""

    classes: int = 400

    @nn.compact
    def __call__(self, x: Float[Array, "B t h w 3"]) -> Float[Array, "B classes"]:
        """x: red, green, blue in [-1, 1]."""
        x = Unit(64, 7, 2, name="Conv3d_1a_7x7")(x)
        x = nn.max_pool(x, (1, 3, 3), (1, 2, 2), "SAME")
        x = Unit(64, name="Conv3d_2b_1x1")(x)
        x = Unit(192, 3, name="Conv3d_2c_3x3")(x)
        for name, widths in BLOCKS.items():
            if name in _POOLS:
                x = nn.max_pool(x, *_POOLS[name], "SAME")
            x = Mixed(widths, name=f"Mixed_{name}")(x)
        # The published pooling is 2 x 7 x 7, which is all of a picture of 224 pixels.
        x = x.mean((2, 3))
        x = (x[:, 1:] + x[:, :-1]) / 2.0
        return nn.Dense(self.classes, precision="highest", name="logits")(x).mean(1)

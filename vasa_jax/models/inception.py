"""Inception v3 (Szegedy et al. 2016) as FID has it: the network whose 2048 features of pictures FID compares.

The layers are those of the graph of 2015-12-05 (Heusel et al. 2017), in the naming of its PyTorch port. Averages of
three by three pixels leave out what lies beyond the border; the last block takes the largest value instead. Batch norms
(epsilon 1e-3) are folded into the convolutions (weights/published_networks.py).
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

SIDE = 299  # pixels
FEATURES = 2048
CLASSES = 1008  # of the file's last layer, which no feature needs


class Step(NamedTuple):
    """A convolution and a ReLU. Those of stride 2 and the `bare` ones have no padding."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    bare: bool = False


class Block(NamedTuple):
    """Branches side by side, and a pooling beside them: `average` or `max`, then 1 x 1; or `halved`, of stride 2 alone.

    Steps in a branch's innermost tuple read the same input.
    """

    branches: tuple[tuple[Step | tuple[Step, ...], ...], ...]
    pool: str = "halved"
    pool_width: int = 0


_ACROSS, _DOWN = (1, 7), (7, 1)


def _block_5(pool_width: int) -> Block:
    return Block((
        (Step("branch1x1", 64),),
        (Step("branch5x5_1", 48), Step("branch5x5_2", 64, (5, 5))),
        (Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, (3, 3)), Step("branch3x3dbl_3", 96, (3, 3))),
    ), "average", pool_width)  # fmt: skip


def _block_6(width: int) -> Block:
    return Block((
        (Step("branch1x1", 192),),
        (Step("branch7x7_1", width), Step("branch7x7_2", width, _ACROSS), Step("branch7x7_3", 192, _DOWN)),
        (Step("branch7x7dbl_1", width), Step("branch7x7dbl_2", width, _DOWN), Step("branch7x7dbl_3", width, _ACROSS),
         Step("branch7x7dbl_4", width, _DOWN), Step("branch7x7dbl_5", 192, _ACROSS)),
    ), "average", 192)  # fmt: skip


def _block_7(pool: str) -> Block:
    def both(name: str) -> tuple[Step, Step]:
        return Step(f"{name}a", 384, (1, 3)), Step(f"{name}b", 384, (3, 1))

    return Block((
        (Step("branch1x1", 320),),
        (Step("branch3x3_1", 384), both("branch3x3_2")),
        (Step("branch3x3dbl_1", 448), Step("branch3x3dbl_2", 384, (3, 3)), both("branch3x3dbl_3")),
    ), pool, 192)  # fmt: skip


# What comes first, with a largest value of three by three at every second pixel where a name is empty.
STEM = (
    Step("Conv2d_1a_3x3", 32, (3, 3), 2), Step("Conv2d_2a_3x3", 32, (3, 3), bare=True),
    Step("Conv2d_2b_3x3", 64, (3, 3)), Step("", 0), Step("Conv2d_3b_1x1", 80),
    Step("Conv2d_4a_3x3", 192, (3, 3), bare=True), Step("", 0),
)  # fmt: skip
BLOCKS = {
    "Mixed_5b": _block_5(32), "Mixed_5c": _block_5(64), "Mixed_5d": _block_5(64),
    "Mixed_6a": Block((
        (Step("branch3x3", 384, (3, 3), 2),),
        (Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, (3, 3)), Step("branch3x3dbl_3", 96, (3, 3), 2)),
    )),
    "Mixed_6b": _block_6(128), "Mixed_6c": _block_6(160), "Mixed_6d": _block_6(160), "Mixed_6e": _block_6(192),
    "Mixed_7a": Block((
        (Step("branch3x3_1", 192), Step("branch3x3_2", 320, (3, 3), 2)),
        (Step("branch7x7x3_1", 192), Step("branch7x7x3_2", 192, _ACROSS), Step("branch7x7x3_3", 192, _DOWN),
         Step("branch7x7x3_4", 192, (3, 3), 2)),
    )),
    "Mixed_7b": _block_7("average"), "Mixed_7c": _block_7("max"),
}  # fmt: skip


class Unit(nn.Module):
    """Does a step."""

    step: Step

    @nn.compact
    def __call__(self, x: Float[Array, "B h w c"]) -> Float[Array, "B h2 w2 c2"]:
        s = self.step
        padding = "VALID" if s.bare or s.stride > 1 else "SAME"
        return nn.relu(nn.Conv(s.width, s.kernel, s.stride, padding, precision="highest", name="conv")(x))


class Mixed(nn.Module):
    """Does a block."""

    block: Block

    @nn.compact
    def __call__(self, x: Float[Array, "B h w c"]) -> Float[Array, "B h2 w2 c2"]:
        found = []
        for branch in self.block.branches:
            h = x
            for step in branch:
                steps = (step,) if isinstance(step, Step) else step
                h = jnp.concatenate([Unit(one, name=one.name)(h) for one in steps], -1)
            found.append(h)
        if self.block.pool == "halved":
            return jnp.concatenate([*found, _halved(x)], -1)
        if self.block.pool == "max":
            pooled = nn.max_pool(x, (3, 3), (1, 1), "SAME")
        else:
            pooled = nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
        found.append(Unit(Step("branch_pool", self.block.pool_width), name="branch_pool")(pooled))
        return jnp.concatenate(found, -1)


class Inception(nn.Module):
    """Pictures to the 2048 features before the last layer, means over places."""

    @nn.compact
    def __call__(self, x: Float[Array, "B h w 3"]) -> Float[Array, "B 2048"]:
        """x: red, green, blue in [-1, 1], of 299 pixels a side as published, of 75 at least."""
        for step in STEM:
            x = Unit(step, name=step.name)(x) if step.name else _halved(x)
        for name, block in BLOCKS.items():
            x = Mixed(block, name=name)(x)
        return x.mean((1, 2))


def _halved(x: Float[Array, "B h w c"]) -> Float[Array, "B h2 w2 c"]:
    return nn.max_pool(x, (3, 3), (2, 2), "VALID")

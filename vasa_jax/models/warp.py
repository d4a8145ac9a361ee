"""The non-rigid half of the warp between a head and the canonical volume (MegaPortraits, section 3.1)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.layers import Conv, Dtype, GroupNorm, ResidualBlock

START = 4  # side of the identity map, and of the volume a warp generator starts from
REACH = 0.5  # largest displacement, in canonical coordinates


class MotionEmbedding(nn.Module):
    """Joins identity map and facial dynamics in one 4 x 4 map: conv1(((linear z) + identity) / 2).

    `map_width` below the embedding's width makes the linear layer that narrow and lifts it by a 1 x 1 convolution.
    """

    width: int
    map_width: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, identity: Float[Array, "#B 4 4 width"], dynamics: Float[Array, "#B z"]
    ) -> Float[Array, "B 4 4 width"]:
        linear = nn.Dense(START * START * self.map_width, use_bias=False, dtype=self.dtype, name="dynamics_map")
        motion = linear(dynamics).reshape(-1, START, START, self.map_width)
        if self.map_width != self.width:
            motion = Conv(self.width, 1, standardise=False, dtype=self.dtype, name="dynamics_lift")(motion)
        combine = Conv(self.width, 1, standardise=False, dtype=self.dtype, name="combine")
        return combine((motion + identity.astype(self.dtype)) / 2.0)


class WarpGenerator(nn.Module):
    """Predicts displacements on the grid of the canonical volume, at most REACH per coordinate; zero at initialisation.

    The embedding becomes a volume of side 4; each adaptive residual block, one per entry of `widths`, doubles every
    axis that has not reached `depth` or `side`.
    """

    depth: int
    side: int
    widths: tuple[int, ...]
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, embedding: Float[Array, "B 4 4 width"]) -> Float[Array, "B D S S 3"]:
        batch, _, _, width = embedding.shape
        places = embedding.reshape(batch, START * START, width)
        x_BHWC = Conv(width * START, 1, dtype=self.dtype, name="start")(embedding)
        x_BDHWC = x_BHWC.reshape(batch, START, START, START, width).transpose(0, 3, 1, 2, 4)
        target = (self.depth, self.side, self.side)
        for i, features in enumerate(self.widths):
            factors = tuple(2 if have < want else 1 for have, want in zip(x_BDHWC.shape[1:4], target))
            block = ResidualBlock(features, self.groups, factors, self.dtype, name=f"block{i}")
            x_BDHWC = block(x_BDHWC, places)
        if x_BDHWC.shape[1:4] != target:
            raise ValueError(f"{len(self.widths)} warp widths lead to {x_BDHWC.shape[1:4]}, the volume has {target}")
        x_BDHWC = nn.relu(GroupNorm(self.groups, self.dtype, name="norm")(x_BDHWC))
        plain = {"standardise": False, "bias": True, "kernel_init": nn.initializers.zeros, "dtype": self.dtype}
        delta_BDHW3 = Conv(3, name="head", **plain)(x_BDHWC)
        return REACH * jnp.tanh(delta_BDHW3.astype(jnp.float32))

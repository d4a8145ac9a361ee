"""FaceDecoder: a canonical volume, driven by a head pose and facial dynamics, as a picture (VASA-1, section 3.1)."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models import geometry
from vasa_jax.models.layers import Conv, Dtype, GroupNorm, ResidualBlock, pixel_shuffle
from vasa_jax.models.warp import MotionEmbedding, WarpGenerator


class Decoded(NamedTuple):
    """A picture of the head; `rgb` means something only where `matte` is above 0."""

    rgb: Float[Array, "T H W 3"]  # [0, 1], float32
    matte: Float[Array, "T H W 1"]  # share of head and body in the pixel, float32


class ImageNet2D(nn.Module):
    """G2D: residual blocks at the side of the volume, then one block per doubling, then colour and matte.

    The last doubling is a pixel shuffle of the head's channels where `shuffle` is 2.
    """

    width: int
    blocks: int
    up_widths: tuple[int, ...]
    shuffle: int
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "T S S DC"]) -> Decoded:
        x = Conv(self.width, 1, bias=True, dtype=self.dtype, name="project")(x)
        for i in range(self.blocks):
            x = ResidualBlock(self.width, self.groups, dtype=self.dtype, name=f"block{i}")(x)
        for i, width in enumerate(self.up_widths):
            x = ResidualBlock(width, self.groups, (2, 2), self.dtype, name=f"up{i}")(x)
        x = nn.relu(GroupNorm(self.groups, self.dtype, name="norm")(x))
        x = Conv(4 * self.shuffle**2, standardise=False, bias=True, dtype=self.dtype, name="head")(x)
        x = nn.sigmoid(pixel_shuffle(x, self.shuffle).astype(jnp.float32))
        return Decoded(x[..., :3], x[..., 3:])


class FaceDecoder(nn.Module):
    """Latents to pictures.

    The rigid and the learned half of the warp are composed first (a 3-channel lookup) and the volume is gathered once.
    To drive one portrait with T frames, pass its appearance and identity with batch size 1: neither is copied.
    """

    image_size: int = 512
    volume: tuple[int, int, int] = (96, 16, 64)  # channels C, depth D, side S
    width: int = 384
    blocks: int = 6
    up_widths: tuple[int, ...] = (256, 128)
    shuffle: int = 2
    warp_widths: tuple[int, ...] = (256, 128, 64, 32)
    embedding_width: int = 512
    embedding_map_width: int = 512
    groups: int = 32
    dtype: Dtype = jnp.float32

    def setup(self):
        _, depth, side = self.volume
        size = side * self.shuffle * 2 ** len(self.up_widths)
        if size != self.image_size:
            raise ValueError(f"volume, up_widths and shuffle make {size} pixels, not {self.image_size}")
        self.embedding = MotionEmbedding(self.embedding_width, self.embedding_map_width, self.dtype)
        self.warp_net = WarpGenerator(depth, side, self.warp_widths, self.groups, self.dtype)
        self.image_net = ImageNet2D(self.width, self.blocks, self.up_widths, self.shuffle, self.groups, self.dtype)

    def __call__(
        self,
        appearance: Float[Array, "#T D S S C"],
        identity: Float[Array, "#T 4 4 E"],
        pose: Float[Array, "T 9"],
        dynamics: Float[Array, "T Z"],
    ) -> Decoded:
        return self.image_net(self.drive(appearance, identity, pose, dynamics))

    def drive(
        self,
        appearance: Float[Array, "#T D S S C"],
        identity: Float[Array, "#T 4 4 E"],
        pose: Float[Array, "T 9"],
        dynamics: Float[Array, "T Z"],
    ) -> Float[Array, "T S S DC"]:
        """The volume as the camera sees it, depth and channels in one axis."""
        channels, depth, side = self.volume
        # Depth last among the axes of the grid: the gather then writes the channels of a pixel side by side.
        grid = self.driven_grid(identity, pose, dynamics).transpose(0, 2, 3, 1, 4)
        driven = geometry.trilinear_sample(appearance.astype(self.dtype), grid)
        return driven.reshape(-1, side, side, depth * channels)

    def driven_grid(
        self, identity: Float[Array, "#T 4 4 E"], pose: Float[Array, "T 9"], dynamics: Float[Array, "T Z"]
    ) -> Float[Array, "T D S S 3"]:
        """Where in the canonical volume each voxel of the view is found: q + delta(q) with q = R^T (p - t) / s."""
        _, depth, side = self.volume
        points = geometry.canonical_from_image(geometry.pixel_grid(depth, side, side)[None], pose)
        return geometry.compose(self.warp_net(self.embedding(identity, dynamics)), points)

"""FaceDecoder: a canonical volume, driven by a head pose and facial dynamics, as an image (VASA-1, section 3.1)."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models import geometry
from vasa_jax.models.layers import Conv, Dtype, GroupNorm, ResidualBlock, pixel_shuffle, pixel_unshuffle, resized
from vasa_jax.models.portrait_pixels import (
    Appearance,
    PortraitPlaces,
    beyond_share,
    blurred,
    held_at_edges,
    moved_pixels,
)
from vasa_jax.models.warp import MotionEmbedding, WarpGenerator

KEPT_AT_FIRST = -2.0  # logit: a new image network paints most of the image
_ZEROS = nn.initializers.zeros


class PortraitUse(NamedTuple):
    """What a decoder did with the portrait's own pixels, float32: displacements are in the portrait's [-1, 1]."""

    places_coarse: Float[Array, "T S S 2"]  # where the volume's warp takes them from
    places: Float[Array, "T h h 2"]  # the same after the refinement of `pixel_blocks`
    kept: Float[Array, "T H W 1"]  # logit of the share that is kept of them


class Decoded(NamedTuple):
    """An image of the head; `rgb` means something only where `matte` is above 0."""

    rgb: Float[Array, "T H W 3"]  # [0, 1], float32
    matte: Float[Array, "T H W 1"]  # share of head and body in the pixel, float32
    portrait: PortraitUse | None = None  # of a decoder that sees the portrait's pixels


class ImageNet2D(nn.Module):
    """Decodes features into colour and matte (G2D): residual blocks, then one block per doubling of the size.

    The last doubling is a pixel shuffle of the head's channels where `shuffle` is 2. If the portrait is given, its
    pixels are warped to the target view and blended with the generated image by a predicted mask. With `pixel_blocks`
    > 0 the warp is refined once before blending, by cubic interpolation with `cubic_pixels`. Cubic pixels, or those of
    a `detail`, are held at the edges that cut a body; what they take from beyond the others are blurred colours.

    `detail` is the same portrait with more pixels: those are blended in its place, and the image gets its size.
    """

    width: int
    blocks: int
    up_widths: tuple[int, ...]
    shuffle: int
    pixel_blocks: int
    cubic_pixels: bool
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "T S S DC"],
        portrait: Float[Array, "V H W 3"] | None = None,
        moved: Float[Array, "T S S 2"] | None = None,
        detail: Float[Array, "V N N 3"] | None = None,
    ) -> Decoded:
        x = Conv(self.width, 1, bias=True, dtype=self.dtype, name="project")(x)
        for i in range(self.blocks):
            x = ResidualBlock(self.width, self.groups, dtype=self.dtype, name=f"block{i}")(x)
        for i, width in enumerate(self.up_widths):
            x = ResidualBlock(width, self.groups, (2, 2), self.dtype, name=f"up{i}")(x)
        x = nn.relu(GroupNorm(self.groups, self.dtype, name="norm")(x))
        plain = {"standardise": False, "bias": True, "dtype": self.dtype}
        if portrait is not None:
            finest, places, cubic = portrait if detail is None else detail, moved, False
            shown = pixel_unshuffle(2.0 * moved_pixels(portrait, moved) - 1.0, self.shuffle).astype(self.dtype)
            merge = Conv(x.shape[-1], 1, kernel_init=_ZEROS, name="merge", **plain)
            x = nn.relu(x + merge(jnp.concatenate([x, shown], -1)))
            if self.pixel_blocks:
                x = self._looked_closer(x)
                cell = 2.0 / x.shape[1]
                shift = Conv(2, kernel_init=_ZEROS, name="shift", **plain)(x).astype(jnp.float32) * cell
                places, cubic = resized(moved, x.shape[1]) + shift, self.cubic_pixels
        painted = Conv(4 * self.shuffle**2, name="head", **plain)(x)
        painted = nn.sigmoid(pixel_shuffle(painted, self.shuffle).astype(jnp.float32))
        if detail is not None:
            painted = resized(painted, detail.shape[1])
        rgb, matte, use = painted[..., :3], painted[..., 3:], None
        if portrait is not None:
            if self.pixel_blocks:
                matte = matte * _under_the_edge(places, finest.shape[1])
            keep = Conv(self.shuffle**2, kernel_init=_ZEROS, name="keep", **plain)
            use = PortraitUse(moved, places, pixel_shuffle(keep(x), self.shuffle).astype(jnp.float32) + KEPT_AT_FIRST)
            kept = nn.sigmoid(resized(use.kept, finest.shape[1]))
            if cubic or detail is not None:
                places = held_at_edges(places)
                share = beyond_share(places, finest.shape[1])
                beyond, inside = blurred(portrait, places, finest.shape[1]), moved_pixels(finest, places, cubic)
                pixels = share * beyond + (1.0 - share) * inside
            else:
                pixels = moved_pixels(finest, places, cubic)
            rgb = kept * pixels + (1.0 - kept) * rgb
        return Decoded(rgb, matte, use)

    def _looked_closer(self, x: Float[Array, "T h w C"]) -> Float[Array, "T h w C"]:
        for i in range(self.pixel_blocks):
            x = ResidualBlock(x.shape[-1], self.groups, dtype=self.dtype, name=f"pixel_block{i}")(x)
        return nn.relu(GroupNorm(self.groups, self.dtype, name="pixel_norm")(x))


def _under_the_edge(places: Float[Array, "T h h 2"], size: int) -> Float[Array, "T size size 1"]:
    """0 where a warp of the portrait (displacements) reaches over its upper edge, 1 elsewhere, one pixel soft.

    Hair that the edge cuts ends there. Painting on, or repeating the edge, would give the head a tall hat.
    """
    height = resized(places[..., 1:], size) + geometry.pixel_grid(size, size)[..., 1:]
    return jnp.clip((height + 1.0) * size / 2.0 + 1.0, 0.0, 1.0)


class FaceDecoder(nn.Module):
    """Decodes latents to images.

    The rigid and the learned half of the warp are composed first (a 3-channel lookup) and the volume is gathered once.
    To drive V portraits with T / V neighbouring frames each, pass the appearances and identities with batch size V:
    appearances are not copied.
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
    portrait_pixels: bool = False  # whether it sees the portrait's own pixels too; then appearances are `Appearance`
    pixel_blocks: int = 0  # see ImageNet2D
    cubic_pixels: bool = False  # likewise
    groups: int = 32
    dtype: Dtype = jnp.float32

    def setup(self):
        _, depth, side = self.volume
        size = side * self.shuffle * 2 ** len(self.up_widths)
        if size != self.image_size:
            raise ValueError(f"volume, up_widths and shuffle make {size} pixels, not {self.image_size}")
        self.embedding = MotionEmbedding(self.embedding_width, self.embedding_map_width, self.dtype)
        self.warp_net = WarpGenerator(depth, side, self.warp_widths, self.groups, self.dtype)
        self.image_net = ImageNet2D(
            self.width,
            self.blocks,
            self.up_widths,
            self.shuffle,
            self.pixel_blocks,
            self.cubic_pixels,
            self.groups,
            self.dtype,
        )
        if self.portrait_pixels:
            self.pixels = PortraitPlaces(depth, self.dtype)

    def __call__(
        self,
        appearance: Float[Array, "V D S S C"] | Appearance,
        identity: Float[Array, "V 4 4 E"],
        pose: Float[Array, "T 9"],
        dynamics: Float[Array, "T Z"],
        detail: Float[Array, "V N N 3"] | None = None,
    ) -> Decoded:
        """Returns images of `image_size`, or of the side of `detail`: the portrait with more pixels.

        ValueError for `detail` where `portrait_pixels` is off.
        """
        if not self.portrait_pixels:
            if detail is not None:
                raise ValueError("detail: the decoder does not see the portrait's pixels")
            return self.image_net(self.drive(appearance, identity, pose, dynamics))
        canonical = self.driven_grid(identity, pose, dynamics)
        features = self._seen(appearance.volume, canonical)
        return self.image_net(features, appearance.portrait, self.pixels(appearance, features, canonical), detail)

    def drive(
        self,
        appearance: Float[Array, "V D S S C"],
        identity: Float[Array, "V 4 4 E"],
        pose: Float[Array, "T 9"],
        dynamics: Float[Array, "T Z"],
    ) -> Float[Array, "T S S DC"]:
        """Samples the volume as the camera sees it, depth and channels in one axis."""
        return self._seen(appearance, self.driven_grid(identity, pose, dynamics))

    def driven_grid(
        self, identity: Float[Array, "V 4 4 E"], pose: Float[Array, "T 9"], dynamics: Float[Array, "T Z"]
    ) -> Float[Array, "T D S S 3"]:
        """Returns where in the canonical volume each voxel of the view is found.

        These are the points q + delta(q) with q = R^T (p - t) / s.
        """
        _, depth, side = self.volume
        points = geometry.canonical_from_image(geometry.pixel_grid(depth, side, side)[None], pose)
        identity = geometry.rows_for(identity, dynamics.shape[0])
        return geometry.compose(self.warp_net(self.embedding(identity, dynamics)), points)

    def _seen(
        self, volume: Float[Array, "V D S S C"], canonical: Float[Array, "T D S S 3"]
    ) -> Float[Array, "T S S DC"]:
        """The volume at canonical points, depth and channels in one axis."""
        channels, depth, side = self.volume
        # Depth last among the axes of the grid: the gather then writes the channels of a pixel side by side.
        seen_THWDC = geometry.trilinear_sample(volume.astype(self.dtype), canonical.transpose(0, 2, 3, 1, 4))
        return seen_THWDC.reshape(-1, side, side, depth * channels)

"""The portrait's own pixels, moved with the head: the detail that a volume of some thousand voxels cannot hold.

Every voxel of a driven view has a place in the canonical frame (FaceDecoder), and every canonical place one in the
portrait (VASAFaceEncoder's warp). Put together they say where in the portrait each pixel of the view was seen. An
addition of ours to VASA-1's decoder; keypoint codecs (face-vid2vid, LivePortrait) move features in the same way.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models import geometry
from vasa_jax.models.layers import Conv, Dtype, resized

CELLS = 16  # a side: of the portrait's colours that go on beyond its edges
FADE = 0.05  # image coordinates (the side is 2) over which they take the place of the edge's own pixels
HELD = 0.25  # image coordinates from an edge within which a body that comes in over it is stretched instead


class Appearance(NamedTuple):
    """The canonical volume, and what it takes to find a canonical point in the portrait."""

    volume: Float[Array, "B D S S C"]  # V_app
    portrait: Float[Array, "B H W 3"]  # [0, 1]
    warp: Float[Array, "B D S S 3"]  # displacements of the canonical grid into the portrait's expression, float32
    pose: Float[Array, "B 9"]  # the portrait's


class PortraitPlaces(nn.Module):
    """Finds where in the portrait the driven head's pixels were seen, as displacements on the grid of the view.

    Which of a pixel's depths is the surface is told from the driven features. Occlusion is not: what the portrait does
    not show is for the image network to see and to paint.
    """

    depth: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        appearance: Appearance,
        features: Float[Array, "T S S DC"],
        canonical: Float[Array, "T D S S 3"],
    ) -> Float[Array, "T S S 2"]:
        seen = geometry.compose(appearance.warp, canonical)
        places = geometry.image_from_canonical(seen, geometry.rows_for(appearance.pose, seen.shape[0]))[..., :2]
        surface = Conv(self.depth, standardise=False, bias=True, dtype=self.dtype, name="surface")(features)
        surface = jax.nn.softmax(surface.astype(jnp.float32), axis=-1)
        place = jnp.einsum("tdhwc,thwd->thwc", places, surface, precision="highest")
        # Displacements rather than places are what is made finer: a head that does not move is then copied exactly.
        return place - geometry.pixel_grid(*place.shape[1:3])


def moved_pixels(
    portrait: Float[Array, "V H H 3"], moved: Float[Array, "T h h 2"], cubic: bool = False
) -> Float[Array, "T H H 3"]:
    """Samples the portrait at displaced places, in its own resolution; `cubic` keeps texture that linear would blur."""
    places = _places(moved, portrait.shape[1])
    if cubic:
        return geometry.cubic_sample(portrait, places)
    return geometry.bilinear_sample(portrait, places, "border")


def held_at_edges(moved: Float[Array, "T h h 2"]) -> Float[Array, "T h h 2"]:
    """Returns displacements that do not reach over the lower and the side edges, where a portrait cuts the body.

    What would come in over an edge the portrait does not show, and its last pixels, repeated, would be streaks. Pixels
    stay where they are on the edge, and move the freer the further inside they are. The upper edge cuts hair, not a
    body: see ImageNet2D.
    """
    x, y = jnp.split(geometry.pixel_grid(*moved.shape[1:3]), 2, -1)
    right, down = jnp.split(moved, 2, -1)
    to_side = jnp.where(right > 0.0, 1.0 - x, 1.0 + x)
    return jnp.concatenate([_held(right, to_side), jnp.where(down > 0.0, _held(down, 1.0 - y), down)], -1)


def _held(moved: Array, to_edge: Array) -> Array:
    """A displacement towards an edge, 0 on it. Its slope stays above -2/3: places keep their order."""
    return moved * jnp.clip(to_edge / jnp.maximum(HELD, 1.5 * jnp.abs(moved)), 0.0, 1.0)


def beyond_share(moved: Float[Array, "T h h 2"], size: int) -> Float[Array, "T N N 1"]:
    """Returns how far each pixel of a view of `size` was seen beyond the portrait's edges: 0 inside, 1 from FADE on."""
    return jnp.clip((jnp.abs(_places(moved, size)).max(-1, keepdims=True) - 1.0) / FADE, 0.0, 1.0)


def blurred(portrait: Float[Array, "V H H 3"], moved: Float[Array, "T h h 2"], size: int) -> Float[Array, "T N N 3"]:
    """Samples the portrait's means over CELLS x CELLS cells, as `moved_pixels` does; the edge's colours go on."""
    cell = portrait.shape[1] // CELLS
    cells = portrait.reshape(len(portrait), CELLS, cell, CELLS, cell, 3).mean((2, 4))
    return geometry.bilinear_sample(cells, _places(moved, size), "border")


def _places(moved: Float[Array, "T h h 2"], size: int) -> Float[Array, "T N N 2"]:
    """Where in the portrait each pixel of a view of `size` is seen."""
    return resized(moved, size) + geometry.pixel_grid(size, size)

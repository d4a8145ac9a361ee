"""The dark line in which lids meet. A photograph of open eyes shows none, and without it a shut eye looks half open."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.corpus.photos import topology as T
from vasa_jax.corpus.photos.expression import Motion
from vasa_jax.corpus.photos.texture import step

MEETING = 0.55, 0.95  # of a blink, between which the line appears
LINE = 0.05  # half its height over the eye's width
LASHES = 0.14  # how far lashes hang below it
DARKEST, LASH_SHADE = 0.85, 0.40  # share of the light that they take
ENDS = 0.40, 0.54  # distance from the middle of the eye, over its width, between which they fade
_ROWS = (
    (T.EYE_CORNERS[0][0], *T.UPPER_LID[0], T.EYE_CORNERS[0][1]),
    (T.EYE_CORNERS[1][1], *T.UPPER_LID[1][::-1], T.EYE_CORNERS[1][0]),
)  # upper lids from the image's left to its right


def lash_shade(points: Float[Array, "V 2"], motion: Motion, size: int) -> Float[Array, "n n"]:
    """Returns what light is left at every pixel of a square of `size`: 1 away from lids that meet.

    points: of the face, image coordinates.
    """
    axis = (jnp.arange(size) * 2.0 + 1.0) / size - 1.0
    x, y = jnp.meshgrid(axis, axis)
    left = jnp.ones((size, size))
    for row, blink in zip(_ROWS, (motion["blink_r"], motion["blink_l"])):
        lid = points[jnp.array(row)]
        across = lid[-1] - lid[0]
        square = jnp.maximum(jnp.square(across).sum(), 1e-6)
        middle = 0.5 * (lid[0] + lid[-1])

        def along_and_below(dx, dy, across=across, square=square):
            return (dx * across[0] + dy * across[1]) / square, (dy * across[0] - dx * across[1]) / square

        knots, heights = along_and_below(*(lid - middle).T)
        along, below = along_and_below(x - middle[0], y - middle[1])
        below = below - jnp.interp(along, knots, heights)
        inside = 1.0 - step(*ENDS, jnp.abs(along))
        line = 1.0 - step(0.3 * LINE, LINE, jnp.abs(below - 0.5 * LINE))
        hanging = jnp.where(below > 0, 1.0 - step(0.0, LASHES, below), 0.0)
        dark = jnp.maximum(DARKEST * line, LASH_SHADE * hanging)
        left = left * (1.0 - step(*MEETING, blink) * inside * dark)
    return left

"""The inside of a photo head's mouth: cavity, tongue, gums, two rows of teeth, and what the photograph itself shows."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vasa_jax.corpus.photos import topology as T
from vasa_jax.corpus.photos.mouth import BOX, PATCH
from vasa_jax.corpus.photos.texture import bilinear, step

CAVITY, TONGUE, GUMS = (70.0, 26.0, 24.0), (185.0, 95.0, 92.0), (165.0, 85.0, 80.0)


RIM = 1.0  # pixels by which the opening is wider than the lips leave it, so that no gap is between them


def mouth_opening(points: Float[Array, "V 2"], size: int) -> Bool[Array, "n n"]:
    """Tells which of size x size pixels lie between the inner edges of the lips; `points` of the mesh, in pixels.

    A pixel is inside by the even-odd rule over the contour's 20 edges, or RIM near one of them.
    """
    contour = points[jnp.array((*T.UPPER_LIP[3], *T.LOWER_LIP[3][-2:0:-1]))]
    middles = jnp.arange(size) + 0.5
    x, y = middles[None, :], middles[:, None]
    inside, near = jnp.zeros((size, size), bool), jnp.zeros((size, size), bool)
    for a, b in zip(contour, jnp.roll(contour, -1, 0)):
        dx, dy = b - a
        crossed = (a[1] > y) != (b[1] > y)
        inside ^= crossed & (x < a[0] + (y - a[1]) * dx / jnp.where(dy == 0, 1.0, dy))
        along = jnp.clip(((x - a[0]) * dx + (y - a[1]) * dy) / jnp.maximum(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
        near |= jnp.square(x - a[0] - along * dx) + jnp.square(y - a[1] - along * dy) < RIM**2
    return inside | near


def inner_mouth(
    head: Mapping[str, Array], motion: Mapping[str, Array], face: Float[Array, "468 3"], u: Array, v: Array
) -> tuple[Float[Array, "h w 3"], Float[Array, "h w"]]:
    """Returns colours, 0 to 255, at places u, v, and the share of each that is the photograph's.

    Places are in units of the mouth's half width, v down from the closed lips.
    """
    teeth, skin = head["teeth"] * 255.0, head["skin"] * 255.0
    drop, lift = ((face[i, 1] - head["rest"][i, 1]) / head["mouth_half"] for i in (14, 13))  # of both lips
    jaw = 0.75 * drop
    warm, level = skin / jnp.maximum(skin.max(), 1.0), skin.mean() / 255.0
    depth = jnp.clip(1.0 - jnp.abs(u) * 0.7, 0.0, 1.0)[..., None]
    colour = jnp.asarray(CAVITY) * (0.35 + 0.6 * level) * warm * (0.35 + 0.65 * depth)
    tongue_top = jaw * 0.62 + 0.06 - 0.22 * motion["tongue"] + 0.55 * u * u
    lit = 0.45 + 0.55 * jnp.clip((v - tongue_top) * 2.5, 0, 1)[..., None]
    colour = _over(colour, step(0.0, 0.12, v - tongue_top), jnp.asarray(TONGUE) * (0.3 + 0.75 * level) * warm * lit)
    width, gaps = head["tooth_width"], head["tooth_gaps"]
    colour = _teeth(colour, teeth, gaps, jaw + 0.02, jaw + 0.40, u, v, width * 0.72, edge_below=False)
    colour = _teeth(colour, teeth, gaps, -0.6, head["tooth_edge"] + 0.10, u, v, width, edge_below=True)
    colour = _over(colour, step(0.0, 0.05, -0.28 - v), jnp.asarray(GUMS) * (0.3 + 0.7 * level) * warm)
    # Lips shade what is behind them, the upper lip from above.
    upper, lower = 0.55 + 0.45 * step(0.0, 0.22, v - lift + 0.02), 0.7 + 0.3 * step(0.0, 0.12, drop - v)
    colour = colour * (upper * lower)[..., None]
    x0, x1, y0, y1 = BOX
    seen = bilinear(head["mouth_seen"], (u - x0) / (x1 - x0) * PATCH - 0.5, (v - y0) / (y1 - y0) * PATCH - 0.5)
    own = seen[..., 3] / 255.0
    return _over(colour, own, seen[..., :3]), own


def _over(below: Array, share: Array, above: Array) -> Array:
    return share[..., None] * above + (1 - share[..., None]) * below


def _teeth(colour, teeth, gaps, top, bottom, u, v, width, edge_below: bool):
    """A row of teeth between two heights, rounded at its free edge, darker towards the corners and in the gaps."""
    phase = u / width
    across = jnp.abs(phase - jnp.floor(phase) - 0.5) * 2
    number = jnp.abs(jnp.floor(jnp.abs(jnp.floor(phase) + 0.5)) - 0.5)
    edge = 0.035 * across**4 + 0.02 * number
    curve = 0.05 * u * u
    high, low = top + curve + (0.0 if edge_below else edge), bottom - curve - (edge if edge_below else 0.0)
    inside = step(0.0, 0.03, v - high) * step(0.0, 0.03, low - v) * step(0.0, 0.08, 0.86 - jnp.abs(u))
    light = (1.0 - 0.35 * gaps * step(0.82, 1.0, across)) * (1.0 - 0.55 * jnp.clip(jnp.abs(u), 0, 1) ** 2.2)
    return _over(colour, inside, teeth * light[..., None])

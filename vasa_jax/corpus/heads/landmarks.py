"""Named points of the face, exact: on the surface that the renderer traces, projected by its camera.

`left` and `right` are the image's, so `left` has x < 0 on a frontal face (the person's right). The jaw's contour
runs from left to right. Those of eyes and lips run clockwise, as seen in the image, from their left corner. A point is
given whether or not something hides it.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from vasa_jax.conventions import (
    BROW_POINTS,
    EYE_POINTS,
    INNER_LIP_POINTS,
    JAW_POINTS,
    NOSE_POINTS,
    OUTER_LIP_POINTS,
)
from vasa_jax.corpus.heads.anatomy import SOCKET_CLEARANCE, head_to_world
from vasa_jax.corpus.heads.field import LIP_BLEND, LIP_SQUASH, head_skin, lid_edges, lip_arcs, lip_radii
from vasa_jax.corpus.heads.markings import brow_line, lip_borders


def inner_lip_edges(a, x):
    """Returns heights (upper, lower) of the visible gap between the lips at head-space x; equal where they meet.

    The lips are two tubes of elliptic section joined by a smooth minimum of radius k = LIP_BLEND, which closes narrow
    gaps: two surfaces at distance S (in the field's units) leave a gap of sqrt(k (2 S - k)) while S < k.
    """
    _, arc, upper_y, lower_y = lip_arcs(a, x)
    upper_radius, lower_radius = lip_radii(a, arc)
    top, bottom = upper_y - upper_radius / LIP_SQUASH, lower_y + lower_radius / LIP_SQUASH
    clear = (top - bottom) * LIP_SQUASH
    narrowed = jnp.sqrt(jnp.maximum(LIP_BLEND * (2.0 * clear - LIP_BLEND), 1e-12))
    gap = jnp.where(clear < LIP_BLEND, jnp.where(clear > 0.5 * LIP_BLEND, narrowed, 0.0), clear) / LIP_SQUASH
    middle = 0.5 * (top + bottom)
    return middle + 0.5 * gap, middle - 0.5 * gap


def lid_gaps(a):
    """Returns openings in head units between the lids over the eye's middle, (image left, image right)."""
    return tuple(jnp.maximum(upper - lower, 0.0) for upper, lower in (a.lids_right, a.lids_left))


def rest_lid_gap(a):
    """Returns the opening of this person's eyes in a neutral face."""
    return a.lid_rest[0] + a.lid_rest[1]


def mouth_gap(a):
    """Returns the opening in head units between the inner lips at the middle."""
    upper, lower = inner_lip_edges(a, jnp.zeros(()))
    return upper - lower


def _march(a, origin, direction, steps: int = 28):
    """Points where the closed-eyed head's skin is met from `origin` along the unit `direction` (arrays (N,))."""

    def step(_, travel):
        p = tuple(o + d * travel for o, d in zip(origin, direction))
        return travel + 0.95 * head_skin(a, p, closed_eyes=True)

    travel = lax.fori_loop(0, steps, step, jnp.zeros_like(origin[0]))
    return tuple(o + d * travel for o, d in zip(origin, direction))


def _jaw_rays(a):
    """Rays (origin, direction) to the outline of the lower face, from the left ear over the chin to the right ear.

    They come from outside towards one point inside the head, in a plane that falls from the ears to the chin; as the
    jaw opens the plane follows the chin.
    """
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, JAW_POINTS).astype(np.float32)
    side, down = np.sin(angle), np.cos(angle)
    centre_y, centre_z = a.ear[0][1] - 0.02, -0.05
    chin_y, chin_z = a.chin[0][1] - 0.10, a.chin[0][2] + 0.03
    fall = jnp.sqrt(jnp.square(chin_y - centre_y) + jnp.square(chin_z - centre_z))
    direction = (
        jnp.asarray(side),
        down * (chin_y - centre_y) / fall,
        down * (chin_z - centre_z) / fall,
    )
    start = tuple(c + 1.45 * d for c, d in zip((0.0, centre_y, centre_z), direction))
    return start, tuple(-d for d in direction)


def _eye_contour(a, sign: float):
    """Eight points on the lid edges of the eye at x = sign * eye_x, left to right over the top and back below."""
    s = np.array([-1.0, -0.5, 0.0, 0.5, 1.0, 0.5, 0.0, -0.5], np.float32) * sign
    x = sign * (a.eye[0] + s * a.eye_half_width)
    s, upper, lower = lid_edges(a, x, jnp.abs(x))
    is_upper = np.arange(EYE_POINTS) < 5
    height = jnp.where(is_upper, jnp.maximum(upper, 0.5 * (upper + lower)), jnp.minimum(lower, 0.5 * (upper + lower)))
    dx = jnp.abs(x) - a.eye[0]
    dy = height + a.eye_tilt * dx
    # The lid's edge lies on the eyeball, midway through the lid.
    radius = a.eye_radius + 0.5 * SOCKET_CLEARANCE
    z = a.eye[2] + jnp.sqrt(jnp.maximum(radius * radius - dx * dx - dy * dy, 1e-4))
    return x, a.eye[1] + dy, z


def _lip_contours(a):
    half = a.mouth_half_width
    outer = np.array([-1, -0.66, -0.33, 0, 0.33, 0.66, 1, 0.66, 0.33, 0, -0.33, -0.66], np.float32)
    x = outer * half
    _, arc, upper_y, lower_y = lip_arcs(a, x)
    above, below = lip_borders(a, x, jnp.abs(x), arc)
    y = jnp.where(np.arange(OUTER_LIP_POINTS) < 7, upper_y + above, lower_y - below)
    inner = np.array([-0.8, -0.4, 0, 0.4, 0.8, 0.4, 0, -0.4], np.float32)
    inner_x = inner * half
    upper, lower = inner_lip_edges(a, inner_x)
    is_upper = np.arange(INNER_LIP_POINTS) < 5
    inner_y = jnp.where(is_upper, upper, lower)
    inner_y = jnp.where(np.abs(inner) > 0.7, 0.5 * (upper + lower), inner_y)  # the inner corners
    depth = jnp.where(is_upper, a.upper_lip_z, a.lower_lip_z) - a.lip_bend * inner_x * inner_x
    return (x, y), (inner_x, inner_y, depth)


def _brows(a):
    """(x, y) of the brows' middle lines."""
    s = np.linspace(0.0, 1.0, BROW_POINTS).astype(np.float32)
    offset = a.brow_inner_x + s * (a.brow_outer_x - a.brow_inner_x)
    height = brow_line(a, s)[0]
    # Left brow from its outer end inwards, right brow outwards: left to right in the image.
    return jnp.concatenate([-offset[::-1], offset]), jnp.concatenate([height[::-1], height])


def _nose_and_more(a):
    """(x, y) of bridge, tip, base, forehead and cheeks."""
    t = np.array([0.0, 0.3, 0.6, 0.85], np.float32)
    bridge_y = a.nose_root[1] + t * (a.nose_tip[0][1] - a.nose_root[1])
    wing, base = a.nose_wing, a.nostril[0]
    wing_x, wing_y = wing[0][0] + 0.85 * wing[1][0], wing[0][1]
    base_x, base_y = base[0], base[1] - 0.01
    x = [*(jnp.zeros(4)), 0.0, -wing_x, -base_x, 0.0, base_x, wing_x, 0.0, -a.cheekbone[0][0], a.cheekbone[0][0]]
    y = [*bridge_y, a.nose_tip[0][1], wing_y, base_y, base_y, base_y, wing_y, 0.50,
         a.cheekbone[0][1], a.cheekbone[0][1]]  # fmt: skip
    return _stack(x), _stack(y)


def _stack(values):
    return jnp.stack([jnp.asarray(v, jnp.float32) for v in values])


def head_landmarks(a) -> tuple:
    """Returns all LANDMARKS in head space, a tuple of three (N,) arrays."""
    centre, radii = a.ear
    ears = (_stack([-centre[0], centre[0]]), _stack([centre[1], centre[1]]), _stack([centre[2] + radii[2]] * 2))
    iris = tuple(
        _stack([mirror * c + g * a.eye_radius for mirror in mirrors])
        for c, g, mirrors in zip(a.eye, a.gaze, ((-1.0, 1.0), (1.0, 1.0), (1.0, 1.0)))
    )
    outer, inner = _lip_contours(a)
    # All points that lie on the skin as seen from the front or from the side are found by one march.
    seen = [_brows(a), outer, _nose_and_more(a)]
    x, y = (jnp.concatenate([g[i] for g in seen]) for i in range(2))
    front = (x, y, jnp.full_like(x, 1.15)), (jnp.zeros_like(x), jnp.zeros_like(x), jnp.full_like(x, -1.0))
    origin, direction = (
        tuple(jnp.concatenate(pair) for pair in zip(jaw, straight)) for jaw, straight in zip(_jaw_rays(a), front)
    )
    on_skin = _march(a, origin, direction)
    bounds = np.cumsum([JAW_POINTS, 2 * BROW_POINTS, OUTER_LIP_POINTS, NOSE_POINTS])
    jaw, brow, outer, nose, rest = zip(*(jnp.split(v, bounds) for v in on_skin))
    groups = (jaw, brow, _eye_contour(a, -1.0), _eye_contour(a, 1.0), iris, nose, outer, inner, rest, ears)
    return tuple(jnp.concatenate([g[i] for g in groups]) for i in range(3))


def landmarks(a) -> jnp.ndarray:
    """Returns (N, 3), x, y in [-1, 1] image coordinates (y down) and depth, of each of LANDMARKS for one frame."""
    return jnp.stack(a.camera.project(head_to_world(a, head_landmarks(a))), -1)

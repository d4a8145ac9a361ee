"""What the corpus's motion (27 numbers, `corpus.performance.muscles`) does to a face mesh, in canonical coordinates.

The amounts are those of the rendered heads (`corpus.heads.anatomy`), so that a rendered head and a photo head in one
motion show the same face. Handles are moved; the rest of the mesh follows by harmonic weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.corpus.photos import topology as T

UNIT = 0.709  # canonical units per head unit
JAW_ANGLE = 0.34  # radians at jaw = 1
HINGE = (0.12, 0.227)  # y, z of the jaw's hinge, canonical
MEETING_HEIGHT = 0.9  # of the lower lid's height, at which lids meet; those of rendered heads at 0.55, people's lower
PAST_EACH_OTHER = 0.006  # canonical units by which lids that meet stay apart
_ALONG = np.linspace(-1.0, 1.0, 11)  # along the lips' rows
_ARC, _ENDS = (1 - _ALONG**2).astype(np.float32), (np.abs(_ALONG) ** 1.5).astype(np.float32)
# How far points follow the jaw.
_JAW_OVAL = {
    152: 1.0, 148: 1.0, 377: 1.0, 176: 0.97, 400: 0.97, 149: 0.93, 378: 0.93, 150: 0.86, 379: 0.86, 136: 0.76,
    365: 0.76, 172: 0.62, 397: 0.62, 58: 0.42, 288: 0.42, 132: 0.22, 361: 0.22, 93: 0.07, 323: 0.07,
}  # fmt: skip
_JAW_CHIN = {199: 1.0, 175: 1.0, 18: 1.0, 200: 1.0}
_JAW_UPPER_LIP = (0.33, 0.12, 0.04, 0, 0, 0, 0, 0, 0.04, 0.12, 0.33)
_JAW_LOWER_LIP = (0.33, 0.64, 0.88, 0.98, 1, 1, 1, 0.98, 0.88, 0.64, 0.33)
_CHEEKS, _NOSE_WINGS = (50, 280, 117, 346, 205, 425), (129, 358, 98, 327, 64, 294)
_STILL = (168, 6, 197, 195, 5, 4, 1, 2, 151, 33, 133, 263, 362)

Motion = Mapping[str, Float[Array, ""]]


class Expression:
    """The face of a mesh in motion; a pure function of its arguments, for jit and vmap."""

    def __init__(self, mesh: T.Mesh):
        lips = {i for row in (*T.UPPER_LIP, *T.LOWER_LIP) for i in row}
        lids = {i for rows in (T.UPPER_LID, T.LOWER_LID) for row in rows for i in row}
        brows = {i for pair in T.BROWS for row in pair for i in row}
        self._handles = np.array(sorted({*lips, *lids, *brows, *_CHEEKS, *_NOSE_WINGS, *_STILL, *T.OVAL}))
        self._weights = jnp.asarray(T.harmonic_weights(mesh.face, self._handles), jnp.float32)
        jaw = dict.fromkeys((*T.OVAL, *_STILL, *_NOSE_WINGS, *lids, *brows), 0.0) | _JAW_OVAL
        for rows, follows in ((T.UPPER_LIP, _JAW_UPPER_LIP), (T.LOWER_LIP, _JAW_LOWER_LIP)):
            for row in rows:
                jaw |= dict(zip(row, follows))
        jaw |= _JAW_CHIN
        order = np.array(sorted(jaw))
        spread = T.harmonic_weights(mesh.face, order)
        self._jaw = jnp.asarray(spread @ np.array([jaw[i] for i in order]), jnp.float32)

    def __call__(self, rest: Float[Array, "468 3"], motion: Motion) -> Float[Array, "468 3"]:
        """Moves a face at rest, whose lips are together and whose lids are as open as the person's usually are."""
        move = jnp.zeros_like(rest)
        for part in (_lips, _brows, _lids, _cheeks):
            move = part(move, rest, motion)
        face = rest + self._jaw[:, None] * _jaw_opened(rest, motion) + self._weights @ move[self._handles]
        return _lips_apart(face)


def gaze_shift(motion: Motion) -> Float[Array, "2"]:
    """Returns how far the irises are from their neutral place, over the eye's width, along the canonical axes."""
    yaw, pitch = motion["gaze_yaw"], motion["gaze_pitch"]
    return 0.40 * jnp.stack([jnp.sin(yaw) * jnp.cos(pitch), -jnp.sin(pitch)])


def _jaw_opened(rest, m):
    angle = JAW_ANGLE * jnp.clip(m["jaw"], 0.0, 1.2)
    c, s = jnp.cos(angle), jnp.sin(angle)
    y, z = rest[:, 1] - HINGE[0], rest[:, 2] - HINGE[1]
    return jnp.stack([jnp.zeros_like(y), y * c - z * s - y, z * c + y * s - z], -1)


def _lips(move, rest, m):
    smile, width = jnp.clip(m["smile"], -1.0, 1.1), jnp.clip(m["width"], -1.0, 1.2)
    rounding, press = jnp.clip(m["round"], 0.0, 1.0), jnp.clip(m["press"], 0.0, 1.0)
    wider = 0.17 * width - 0.26 * rounding + 0.17 * jnp.clip(smile, -0.3, 1.0)
    middle = 0.5 * (rest[61, 0] + rest[291, 0])
    smirk = jnp.where(_ALONG > 0, jnp.maximum(m["smirk"], 0.0), jnp.maximum(-m["smirk"], 0.0))
    corner = -UNIT * (0.075 * smile + 0.05 * smirk) * _ENDS
    forward = -UNIT * (0.085 * rounding - 0.012 * jnp.maximum(width, 0.0)) * (0.4 + 0.6 * _ARC)
    lift = 0.05 * m["up"] + 0.03 * m["sneer"] + 0.014 * m["jaw"] + 0.012 * jnp.maximum(smile, 0.0)
    upper = -UNIT * lift * _ARC, jnp.zeros_like(_ARC)
    lower = UNIT * (0.05 * m["lo"] - 0.045 * m["tuck"]) * _ARC, UNIT * 0.04 * m["tuck"] * _ARC
    for rows, (down, back) in ((T.UPPER_LIP, upper), (T.LOWER_LIP, lower)):
        inner = rest[jnp.array(rows[3])]
        for row in rows:
            p = rest[jnp.array(row)]
            dy = down + corner + 0.45 * press * (inner[:, 1] - p[:, 1])
            move = move.at[jnp.array(row)].set(jnp.stack([(p[:, 0] - middle) * wider, dy, back + forward], -1))
    return move


def _brows(move, rest, m):
    inner, outer = 0.075 * m["brow_in"] - 0.045 * m["furrow"], 0.075 * m["brow_out"] - 0.01 * m["furrow"]
    out = np.linspace(1, 0, 5)  # from the outer to the inner end
    for side, pair in enumerate(T.BROWS):
        together = (1 if side == 0 else -1) * 0.022 * UNIT * m["furrow"] * (1 - out)
        dy = -UNIT * (inner * (1 - out) + outer * out)
        for row in pair:
            move = move.at[jnp.array(row)].set(jnp.stack([together, dy, jnp.zeros_like(dy)], -1))
    return move


def _lids(move, rest, m):
    squint, raised = jnp.clip(m["squint"], 0.0, 1.0), jnp.clip(m["smile"], 0.0, 1.0)
    for side, blink in enumerate((m["blink_r"], m["blink_l"])):
        outer, inner = (rest[i] for i in T.EYE_CORNERS[side])
        top, low = (jnp.array(rows[side]) for rows in (T.UPPER_LID, T.LOWER_LID))

        upper, lower = _height(rest[top], outer, inner), _height(rest[low], outer, inner)
        arc_up = jnp.abs(upper) / jnp.maximum(jnp.abs(upper).max(), 1e-3)
        arc_low = jnp.abs(lower) / jnp.maximum(jnp.abs(lower).max(), 1e-3)
        up = upper * (1 + 0.45 * m["wide"] - 0.25 * squint) - UNIT * 0.10 * m["gaze_pitch"] * arc_up
        lo = lower * (1 + 0.2 * m["wide"] - 0.7 * squint - 0.3 * raised) - UNIT * 0.04 * m["gaze_pitch"] * arc_low
        shut, amount = MEETING_HEIGHT * lo + 0.004 * arc_low, jnp.clip(blink, 0.0, 1.0)
        up = up + amount * (shut + 0.004 * arc_up - up)
        lo = lo + amount * (shut - 0.002 * arc_low - lo)
        up = jnp.minimum(up, lo + PAST_EACH_OTHER)
        zero = jnp.zeros_like(up)
        move = move.at[top].set(jnp.stack([zero, up - upper, -0.012 * amount * arc_up], -1))
        move = move.at[low].set(jnp.stack([zero, lo - lower, zero], -1))
    return move


def _height(points, outer, inner):
    """Of lid points over the line between the eye's corners; y is down, so the upper lid's is negative."""
    along = (points[:, 0] - outer[0]) / (inner[0] - outer[0])
    return points[:, 1] - (outer[1] + along * (inner[1] - outer[1]))


def _cheeks(move, rest, m):
    smile = jnp.clip(m["smile"], -1.0, 1.1)
    lift = jnp.stack([jnp.zeros(()), -UNIT * (0.05 * m["cheek"] + 0.03 * smile), -0.02 * jnp.maximum(smile, 0.0)])
    wing = jnp.stack([jnp.zeros(()), -UNIT * 0.02 * m["sneer"], jnp.zeros(())])
    return move.at[jnp.array(_CHEEKS)].set(lift).at[jnp.array(_NOSE_WINGS)].set(wing)


def _lips_apart(face):
    """Lips do not pass through each other."""
    upper, lower = (jnp.array(rows[3]) for rows in (T.UPPER_LIP, T.LOWER_LIP))
    over = jnp.maximum(face[upper, 1] - face[lower, 1], 0.0)
    for rows, sign in ((T.UPPER_LIP, -0.5), (T.LOWER_LIP, 0.5)):
        for row, share in zip(rows, (0.4, 0.6, 0.8, 1.0)):
            face = face.at[jnp.array(row[1:-1]), 1].add(sign * share * over[1:-1])
    return face

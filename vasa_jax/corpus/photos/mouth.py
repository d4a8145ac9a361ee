"""What lies behind the lips of a photograph: what an open mouth shows, and the colours of what it does not."""

from __future__ import annotations

import cv2
import numpy as np

from vasa_jax.corpus.photos import topology as T
from vasa_jax.corpus.photos.framing import Placed, from_canonical, sample

PATCH = 96  # pixels of the mouth patch's side
BOX = (-1.15, 1.15, -0.75, 1.45)  # of the patch over the mouth's half width: left, right, top, bottom
OPEN = 0.12  # gap between the lips over the mouth's half width from which teeth may be seen
BEHIND, BEND = 0.02, 1.3  # canonical depth behind the lips, and how the row of teeth bends back
_CHEEKS = (50, 280, 205, 425)
_IVORY = np.array([1.0, 0.97, 0.9])


def mouth_patch(
    face: np.ndarray, rest: np.ndarray, photo: Placed, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Returns the patch behind the lips of canonical `face` (468, 3), which at rest is `rest`.

    mouth_grid (63, 3) its vertices, canonical; mouth_local (63, 2) their places over the mouth's half width, v down
    from the closed lips; mouth_seen uint8 (PATCH, PATCH, 4) what the photograph shows there and its share; mouth_half;
    teeth and skin colours (3,) in [0, 1]; tooth_width, tooth_edge, tooth_gaps.
    """
    half = 0.5 * np.linalg.norm((rest[61] - rest[291])[:2])
    line = rest[[13, 14]].mean(0)
    centre = np.array([0.5 * (rest[78, 0] + rest[308, 0]), line[1], line[2]])

    def at(local):
        depth = centre[2] + BEHIND + BEND * (local[..., 0] * half) ** 2
        return np.concatenate([centre[:2] + local * half, depth[..., None]], -1)

    x0, x1, y0, y1 = BOX
    columns, rows = T.MOUTH_GRID
    grid = np.stack(np.meshgrid(np.linspace(x0, x1, columns), np.linspace(y0, y1, rows)), -1).reshape(-1, 2)
    steps = (np.arange(PATCH) + 0.5) / PATCH
    local = np.stack(np.meshgrid(x0 + steps * (x1 - x0), y0 + steps * (y1 - y0)), -1)
    seen = sample(photo.texture, from_canonical(at(local), photo.pose)[..., :2])
    hole = _hole(face, centre, half)
    skin = sample(photo.texture, from_canonical(face[None, list(_CHEEKS)], photo.pose)[..., :2])[0].mean(0)
    teeth = (0.45 * skin + 0.55 * skin.max()) * _IVORY * rng.uniform(0.9, 1.12)
    inside = hole > 0.5
    if inside.sum() > 160:
        light = seen[inside].mean(-1)
        bright = seen[inside][light >= np.quantile(light, 0.7)].mean(0)
        if bright.mean() > 0.7 * skin.mean():
            teeth = bright
    return {
        "mouth_grid": at(grid).astype(np.float32),
        "mouth_local": grid.astype(np.float32),
        "mouth_seen": np.clip(np.concatenate([seen, 255 * hole[..., None]], -1), 0, 255).astype(np.uint8),
        "mouth_half": np.float32(half),
        "teeth": (np.clip(teeth, 40, 245) / 255.0).astype(np.float32),
        "skin": (skin / 255.0).astype(np.float32),
        "tooth_width": np.float32(rng.uniform(0.19, 0.25)),
        "tooth_edge": np.float32(rng.uniform(-0.02, 0.08)),
        "tooth_gaps": np.float32(rng.uniform(0.3, 1.0)),
    }


def _hole(face, centre, half):
    """The share of each of the patch's pixels that the open mouth of the photograph shows; none of a closed one."""
    x0, x1, y0, y1 = BOX
    if np.linalg.norm(face[13] - face[14]) < OPEN * half:
        return np.zeros((PATCH, PATCH), np.float32)
    contour = np.concatenate([face[list(T.UPPER_LIP[3])], face[list(T.LOWER_LIP[3])][::-1]])
    pixels = ((contour[:, :2] - centre[:2]) / half - (x0, y0)) / (x1 - x0, y1 - y0) * PATCH - 0.5
    hole = np.zeros((PATCH, PATCH), np.uint8)
    cv2.fillPoly(hole, [(pixels * 16).round().astype(np.int32)], 1, shift=4)
    return cv2.GaussianBlur(cv2.erode(hole, np.ones((3, 3))).astype(np.float32), (0, 0), 1.4)

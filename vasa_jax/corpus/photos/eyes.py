"""What lies behind the lids of a photograph: the white of the eye without its iris, and the iris completed."""

from __future__ import annotations

import cv2
import numpy as np

from vasa_jax.corpus.photos import topology as T
from vasa_jax.corpus.photos.fill import filled
from vasa_jax.corpus.photos.framing import Placed, from_canonical, sample

WHITE_PATCH, IRIS_PATCH = (40, 64), 32  # pixels: height and width; side
HALF_WIDTH, HALF_HEIGHT = 0.70, 0.44  # half extents of an eye's patch over the eye's width
IRIS_REACH = 1.2  # of the iris's patch over its radius
RADII = 0.17, 0.26  # of an iris over the eye's width
CHEEKS = (50, 280)
_HALF = np.array([HALF_WIDTH, HALF_HEIGHT])
_DARK = np.array([60.0, 45.0, 38.0])  # an iris of which nothing is seen


def eye_patch(points: np.ndarray, photo: Placed, side: int) -> dict[str, np.ndarray]:
    """Returns the patch behind one eye (0 left, 1 right) of canonical `points` (478, 3).

    eye_grid (35, 3) its vertices, canonical; eye_local (35, 2) their places on the patch, in [-1, 1]; eye_white and
    iris, uint8 pictures; iris_radius over the eye's width.
    """
    outer, inner = (points[i] for i in T.EYE_CORNERS[side])
    middle, width = 0.5 * (outer + inner), np.linalg.norm((outer - inner)[:2])
    bulge = points[[*T.UPPER_LID[side], *T.LOWER_LID[side]], 2].mean() - middle[2]
    slope = (inner[2] - outer[2]) / (inner[0] - outer[0])

    def at(local, behind=0.0):
        """Returns canonical points of places (..., 2) that are given over the eye's width."""
        round_ = bulge * (1 - np.clip(2 * np.abs(local[..., 0]), 0, 1) ** 2)
        depth = middle[2] + slope * local[..., 0] * width + round_ + behind
        return np.concatenate([middle[:2] + local * width, depth[..., None]], -1)

    columns, rows = T.EYE_GRID
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows)), -1).reshape(-1, 2)
    height, breadth = WHITE_PATCH
    axes = ((np.arange(n) + 0.5) / n * 2 - 1 for n in (breadth, height))
    local = np.stack(np.meshgrid(*axes), -1) * _HALF
    opening = _opening(points, side, middle, width)
    iris = points[468 + 5 * side : 473 + 5 * side]
    centre = (iris[0, :2] - middle[:2]) / width
    radius = np.clip(np.linalg.norm(iris[1:, :2] - iris[0, :2], axis=1).mean() / width, *RADII)
    seen = sample(photo.texture, from_canonical(at(local), photo.pose)[..., :2])
    white = _white(seen, local, opening, np.linalg.norm(local - centre, axis=-1) / radius, _skin(points, photo))
    axis = ((np.arange(IRIS_PATCH) + 0.5) / IRIS_PATCH * 2 - 1) * IRIS_REACH
    disc = np.stack(np.meshgrid(axis, axis), -1)
    flat = at(centre + disc * radius)
    flat[..., 2] = middle[2] + bulge
    shown = sample(photo.texture, from_canonical(flat, photo.pose)[..., :2])
    return {
        "eye_grid": at(grid * _HALF, 0.012).astype(np.float32),
        "eye_local": grid.astype(np.float32),
        "eye_white": np.clip(white, 0, 255).astype(np.uint8),
        "iris": np.clip(_iris(shown, disc, centre, radius, opening), 0, 255).astype(np.uint8),
        "iris_radius": np.float32(radius),
    }


def _skin(points, photo):
    return sample(photo.texture, from_canonical(points[None, list(CHEEKS)], photo.pose)[..., :2])[0].mean(0)


def _opening(points, side, middle, width):
    """Where the patch is between the lids, uint8 WHITE_PATCH."""
    ring = [T.EYE_CORNERS[side][0], *T.UPPER_LID[side], T.EYE_CORNERS[side][1], *T.LOWER_LID[side][::-1]]
    contour = (points[ring, :2] - middle[:2]) / width
    pixels = (contour / _HALF + 1) / 2 * WHITE_PATCH[::-1] - 0.5
    opening = np.zeros(WHITE_PATCH, np.uint8)
    cv2.fillPoly(opening, [(pixels * 16).round().astype(np.int32)], 1, shift=4)
    return opening


def _white(seen, local, opening, from_iris, skin):
    white = (cv2.erode(opening, np.ones((3, 3))) > 0) & (from_iris > 1.12)
    if white.sum() > 12:
        light = seen.mean(-1)
        white &= light >= np.quantile(light[white], 0.35)  # without lashes and shadows
        base = np.median(seen[white], 0)
        whites = filled(seen, white)
    else:
        base = 0.35 * skin + 0.65 * skin.max()
        whites = np.broadcast_to(base, seen.shape)
    soft = cv2.GaussianBlur(((opening > 0) & (from_iris > 1.05)).astype(np.float32), (0, 0), 1.0)[..., None]
    # An eyeball turns away from the light at its ends and under the upper lid.
    ends = np.clip(np.abs(local[..., :1]) / HALF_WIDTH, 0, 1) ** 2
    shade = 1.0 - 0.25 * ends - 0.18 * np.clip(-local[..., 1:] / 0.25, 0, 1)
    return soft * seen + (1 - soft) * 0.5 * (whites + base) * shade


def _iris(shown, disc, centre, radius, opening):
    """What the lids hide of an iris is filled by rings of the median colour."""
    reach = np.hypot(disc[..., 0], disc[..., 1])
    pixels = (((centre + disc * radius) / _HALF + 1) / 2 * WHITE_PATCH[::-1] - 0.5).astype(np.float32)
    deep = cv2.erode(opening, np.ones((3, 3))).astype(np.float32)
    visible = cv2.remap(deep, pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR) > 0.6
    known, rings = visible & (reach < 1.05), np.clip((reach * 6).astype(int), 0, 7)
    profile = np.tile(np.median(shown[known], 0) if known.sum() > 10 else _DARK, (8, 1))
    for ring in range(8):
        members = known & (rings == ring)
        if members.sum() > 3:
            profile[ring] = np.median(shown[members], 0)
    position = np.clip(reach * 6 - 0.5, 0, 6.999)
    low = position.astype(int)
    smooth = profile[low] + (position - low)[..., None] * (profile[np.minimum(low + 1, 7)] - profile[low])
    soft = cv2.GaussianBlur(known.astype(np.float32), (0, 0), 1.2)[..., None]
    return soft * shown + (1 - soft) * smooth

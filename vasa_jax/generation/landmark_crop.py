"""The square that LivePortrait cuts out of a picture, from face landmarks (its cropping code; no InsightFace).

Its points are 106 or 203 of models that are not free for all uses. The 478 of MediaPipe's face mesh stand for them:
the jaw below the ears and the brows have about the extent of its points, the whole mesh with its forehead has not.
"""

from typing import NamedTuple

import numpy as np

from vasa_jax.data.face_crop import Crop
from vasa_jax.errors import InputError

PORTRAIT_SCALE, PORTRAIT_SHIFT = 2.3, -0.125  # of a portrait: side over the points' extent; up, over the side
DRIVING_SCALE, DRIVING_SHIFT = 2.2, -0.1  # of a driving video, whose square is not turned
CALIBRATION = 1.04  # extent of LivePortrait's own points over that of these
EYES = ((33, 159, 133, 145), (362, 386, 263, 374))  # of the mesh: image left, image right
LIP_CORNERS = (61, 291)
EXTENT = (
    127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285,
)  # fmt: skip  # jaw below the ears, brows
MESH_POINTS = 468  # at least


class TurnedSquare(NamedTuple):
    """A square of a picture, pixels. centre: (x, y); size: its side; angle: radians, of its x axis, clockwise.

    `str()` is what --config.crop takes, which knows upright squares only.
    """

    centre: tuple[float, float]
    size: float
    angle: float

    def __str__(self) -> str:
        return str(self.upright)

    @property
    def upright(self) -> Crop:
        """Returns the square of the same centre and size that is not turned."""
        return Crop(*(round(value - self.size / 2) for value in self.centre), round(self.size))


class FaceOpenness(NamedTuple):
    """Height over width of the image's left eye, its right eye, and the inner lips."""

    left: float
    right: float
    lips: float


def square_of(
    points: np.ndarray, scale: float = PORTRAIT_SCALE, shift: float = PORTRAIT_SHIFT, turn: bool = True
) -> TurnedSquare:
    """Returns the square around a face with mesh points (N >= 468, 2 or 3), pixels.

    scale: side over the larger extent of the points; shift: of the centre along the face's own axis from eyes to lips,
    over the side; turn: whether the square stands as the face does. InputError for other points.
    """
    points = _checked(points)
    eyes = np.mean([points[list(eye)].mean(0) for eye in EYES], axis=0)
    down = points[list(LIP_CORNERS)].mean(0) - eyes
    length = np.hypot(*down)
    down = down / length if length >= 1e-3 and turn else np.array([0.0, 1.0])
    right = np.array([down[1], -down[0]])
    axes, middle = np.stack([right, down]), points[list(EXTENT)].mean(0)
    own = (points[list(EXTENT)] - middle) @ axes.T
    low, high = own.min(0), own.max(0)
    size = float((high - low).max()) * CALIBRATION * scale
    centre = middle + ((low + high) / 2) @ axes + down * shift * size
    return TurnedSquare((float(centre[0]), float(centre[1])), size, float(np.arctan2(right[1], right[0])))


def openness_of(points: np.ndarray) -> FaceOpenness:
    """Returns how open eyes and lips of mesh points (N >= 468, 2 or 3) are."""
    points = _checked(points)

    def ratio(upper: int, lower: int, first: int, second: int) -> float:
        return float(np.hypot(*(points[upper] - points[lower])) / (np.hypot(*(points[first] - points[second])) + 1e-6))

    return FaceOpenness(ratio(159, 145, 33, 133), ratio(386, 374, 362, 263), ratio(13, 14, 78, 308))


def cut_square(image: np.ndarray, square: TurnedSquare, side: int) -> np.ndarray:
    """Returns the square of uint8 (H, W, 3) at `side` pixels; black beyond the picture."""
    import cv2

    linear, offset = square_place(square, side)
    factor = max(int(square.size / side), 1)  # averaged before it is sampled, else fine texture aliases
    if factor > 1:
        small = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        ratio = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]])
        image, linear, offset = small, linear * ratio[:, None], (offset + 0.5) * ratio - 0.5
    whole = np.concatenate([linear, offset[:, None]], 1)
    return cv2.warpAffine(image, whole, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def square_place(square: TurnedSquare, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (linear (2, 2), offset (2,)): pixel x of the cut square is pixel linear x + offset of the picture."""
    c, s = np.cos(square.angle), np.sin(square.angle)
    linear = square.size / side * np.array([(c, -s), (s, c)])
    return linear, np.array(square.centre) - 0.5 - linear @ (side / 2 - 0.5, side / 2 - 0.5)


def _checked(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or len(points) < MESH_POINTS or points.shape[1] < 2 or not np.isfinite(points).all():
        raise InputError(f"landmarks: {points.shape} are no points of MediaPipe's face mesh; give (478, 3)")
    return points[:, :2]

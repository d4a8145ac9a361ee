"""A portrait photograph with its points and matte, placed as the codec sees portraits, on a canvas a little wider.

Image coordinates run over [-1, 1] on the square that the codec sees; the canvas reaches to +-REACH.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from vasa_jax.conventions import rotation_matrices

REACH = 1.25
CANVAS = 640  # pixels of the canvas's side, 512 of the square's: two per pixel of a picture of 256
LOG_SCALES, SHIFTS = (-0.10, 0.14), ((-0.06, 0.06), (-0.15, 0.03))  # of heads as the portrait crop frames them
LARGEST_LOG_SCALE, LARGEST_SHIFT = 0.25, 0.22
SHORT = 0.1  # of an image unit that the square may reach beyond the photograph, over both sides


@dataclasses.dataclass(frozen=True)
class Placed:
    """A photograph on its canvas."""

    texture: np.ndarray  # uint8 (CANVAS, CANVAS, 3); beyond the photograph its edge is repeated
    matte: np.ndarray  # uint8 (CANVAS, CANVAS), share of the person
    points: np.ndarray  # float32 (478, 3), image coordinates
    pose: np.ndarray  # float32 (9,)
    bounds: np.ndarray  # float32 (4,): left, top, right, bottom of the photograph, image coordinates

    @property
    def square(self) -> np.ndarray:
        """The part that the codec sees, uint8, CANVAS / REACH pixels a side."""
        side = round(CANVAS / REACH)
        first = (CANVAS - side) // 2
        return self.texture[first : first + side, first : first + side]


def draw_framing(
    pose: np.ndarray, height: int, width: int, rng: np.random.Generator
) -> tuple[float, np.ndarray] | None:
    """Returns a log scale and a shift (2,) of the head that keep the square inside the photograph.

    `pose` (9,) has the scale in pixels per canonical unit and the centre in pixels. None where the photograph leaves
    too little room around the head.
    """
    scale, centre, room = np.exp(pose[6]), pose[7:9], np.array([width, height])
    least = np.log(2.0 * scale / room.min()) - 0.02
    if least > LARGEST_LOG_SCALE:
        return None
    log_scale = max(rng.uniform(*LOG_SCALES), least)
    unit = scale / np.exp(log_scale)
    wanted = np.array([rng.uniform(*limits) for limits in SHIFTS])
    low, high = 1.0 - (room - centre) / unit, centre / unit - 1.0  # the square's edges stay inside
    shift = np.where(low <= high, np.clip(wanted, low, high), 0.5 * (low + high))
    if np.abs(shift).max() > LARGEST_SHIFT or (low - high).max() > SHORT:
        return None
    return float(log_scale), shift


def place(
    image: np.ndarray, matte: np.ndarray, points: np.ndarray, pose: np.ndarray, log_scale: float, shift: np.ndarray
) -> Placed:
    """Puts a photograph on the canvas so that its head has this scale and place.

    image uint8 (H, W, 3), matte uint8 (H, W), points (478, 3) and `pose` in pixels (see `draw_framing`).
    """
    scale, centre = np.exp(pose[6]), pose[7:9]
    unit = scale / np.exp(log_scale)  # photograph's pixels per image unit
    origin = centre - shift * unit
    placed = np.concatenate([(points[:, :2] - origin) / unit, points[:, 2:] / unit], 1).astype(np.float32)
    ratio = CANVAS / (2 * REACH) / unit  # canvas pixels per photograph's
    new_pose = np.concatenate([pose[:6], [log_scale], shift]).astype(np.float32)
    size = np.array([image.shape[1], image.shape[0]])
    bounds = np.concatenate([-origin / unit, (size - origin) / unit]).astype(np.float32)
    return Placed(_onto(image, ratio, origin), _onto(matte, ratio, origin), placed, new_pose, bounds)


def to_canonical(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Returns image coordinates (..., 3) in the head's canonical frame."""
    moved = np.asarray(points, np.float64) - np.array([pose[7], pose[8], 0.0])
    return moved @ rotation_matrices(pose) / np.exp(pose[6])


def from_canonical(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Returns canonical points (..., 3) in image coordinates: the inverse of `to_canonical`."""
    return np.exp(pose[6]) * points @ rotation_matrices(pose).T + np.array([pose[7], pose[8], 0.0])


def canvas_pixels(places: np.ndarray, size: int = CANVAS) -> np.ndarray:
    """Returns image coordinates as pixel positions on a canvas of `size`, centres at integers, float32."""
    return ((places / REACH + 1.0) * size / 2.0 - 0.5).astype(np.float32)


def sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns a canvas's values at image coordinates (..., 2), linearly interpolated, float32 (..., channels)."""
    pixels = canvas_pixels(places, image.shape[0])
    shape = pixels.shape[:-1]
    pixels = pixels.reshape(shape[0], -1, 2)  # remap takes no side above 32,766
    value = cv2.remap(image, pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return value.reshape(*shape, -1).astype(np.float32)


def on_photograph(bounds: np.ndarray, size: int) -> np.ndarray:
    """Returns where a canvas of `size` pixels shows the photograph itself, bool (size, size)."""
    axis, margin = ((np.arange(size) + 0.5) / size * 2 - 1) * REACH, 4 * REACH / size
    columns = (axis > bounds[0] + margin) & (axis < bounds[2] - margin)
    rows = (axis > bounds[1] + margin) & (axis < bounds[3] - margin)
    return rows[:, None] & columns[None, :]


def _onto(image: np.ndarray, ratio: float, origin: np.ndarray) -> np.ndarray:
    """An image with `origin` in the canvas's middle, `ratio` times as large; averaged first where it shrinks much."""
    if ratio < 0.65:
        size = [max(1, round(n * ratio)) for n in image.shape[1::-1]]
        shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        stretch = ratio * np.array(image.shape[1::-1]) / np.array(size)
        scales = np.array(size) / np.array(image.shape[1::-1])
    else:
        shrunk, stretch, scales = image, np.array([ratio, ratio]), np.ones(2)
    matrix = np.array([[stretch[0], 0, 0], [0, stretch[1], 0]], np.float64)
    matrix[:, 2] = CANVAS / 2 - 0.5 - stretch * (origin * scales - 0.5)
    return cv2.warpAffine(shrunk, matrix, (CANVAS, CANVAS), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

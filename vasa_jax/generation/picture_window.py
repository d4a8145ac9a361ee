"""A frame of another shape that shows a window of a whole picture, or all of it on a blur of itself."""

import numpy as np

from vasa_jax.data.face_crop import Crop
from vasa_jax.generation.backdrop import blurred, covering
from vasa_jax.generation.landmark_crop import TurnedSquare
from vasa_jax.generation.paste import LONGEST
from vasa_jax.generation.picture_mark import picture_mark
from vasa_jax.generation.portraits import Portrait
from vasa_jax.generation.watermark import SMALLEST, Payload


class PictureWindow:
    """Shows whole pictures, uint8 (H, W, 3), in frames of a proportion, width over height.

    A frame is the largest window around the portrait's square; where that would cut the square, it is the whole picture
    on a blur of it.

    Attributes:
      portrait: as given, its picture reduced where the frame would be larger than what is written.
      size: height and width of a frame, once `look` has seen the picture.
    """

    def __init__(self, portrait: Portrait, proportion: float):
        """Nothing is made before `look`."""
        height, width = portrait.picture.shape[:2]
        least = min(within(height, width, proportion))
        self._cut = least >= min(portrait.crop.size, height, width) and least >= SMALLEST
        self.portrait, self._proportion = portrait, proportion
        if not self._cut:
            self.portrait = _reduced(portrait, LONGEST / max(around(height, width, proportion)))
        self.size, self._part, self._still = (0, 0), np.s_[:, :], None

    def look(self, picture: np.ndarray) -> None:
        """Finds its place for a picture, as it is written, of the portrait."""
        height, width = picture.shape[:2]
        if self._cut:
            self.size = within(height, width, self._proportion)
            centre = _centre(self.portrait.crop) * (height / self.portrait.picture.shape[0])
            sides = np.array(self.size[::-1])
            x, y = np.clip(centre - sides / 2, 0, (width, height) - sides).astype(int)
            self._part = np.s_[y : y + self.size[0], x : x + self.size[1]]
            return
        self.size = around(height, width, self._proportion)
        y, x = ((n - m) // 2 for n, m in zip(self.size, (height, width)))
        self._part = np.s_[y : y + height, x : x + width]
        self._still = blurred(covering(picture, *self.size))

    def mark(self, picture: np.ndarray, payload: Payload) -> np.ndarray:
        """Looks at a picture and returns the levels (H, W) that mark it, so that whole frames are marked."""
        self.look(picture)
        levels = picture_mark(self(picture), payload)
        if self._cut:
            marks = np.zeros(picture.shape[:2], np.float32)
            marks[self._part] = levels
            return marks
        self._still = np.clip(self._still + levels[..., None] + 0.5, 0, 255).astype(np.uint8)
        return levels[self._part]

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Returns the frame that shows a picture."""
        if self._cut:
            return np.ascontiguousarray(picture[self._part])
        frame = self._still.copy()
        frame[self._part] = picture
        return frame


def around(height: int, width: int, proportion: float) -> tuple[int, int]:
    """Returns even height and width of the smallest frame of a proportion, width over height, that holds a picture."""
    if width / height < proportion:
        return height // 2 * 2, 2 * round(height * proportion / 2)
    return 2 * round(width / proportion / 2), width // 2 * 2


def within(height: int, width: int, proportion: float) -> tuple[int, int]:
    """Returns even height and width of the largest part of a proportion, width over height, that a picture holds."""
    if width / height > proportion:
        return height // 2 * 2, int(height * proportion) // 2 * 2
    return int(width / proportion) // 2 * 2, width // 2 * 2


def _centre(square: Crop | TurnedSquare) -> np.ndarray:
    """Returns the middle of a square, (x, y)."""
    if isinstance(square, Crop):
        return np.array([square.x, square.y]) + square.size / 2
    return np.array(square.centre)


def _reduced(portrait: Portrait, factor: float) -> Portrait:
    """Returns a portrait whose picture is reduced; the same where the factor is no reduction."""
    import cv2

    if factor >= 1:
        return portrait
    height, width = (max(int(n * factor), 1) for n in portrait.picture.shape[:2])
    picture = cv2.resize(portrait.picture, (width, height), interpolation=cv2.INTER_AREA)
    square = portrait.crop
    if isinstance(square, Crop):
        return portrait._replace(picture=picture, crop=Crop(*(factor * value for value in square)))
    moved = square._replace(centre=tuple(factor * _centre(square)), size=factor * square.size)
    return portrait._replace(picture=picture, crop=moved)

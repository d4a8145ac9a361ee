"""What stands behind the head: its own background, a blur of it, a colour, a picture, or nothing."""

import dataclasses

import numpy as np

from vasa_jax.data.image_files import parse_colour, read_image
from vasa_jax.errors import InputError
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

TRANSPARENT, BLUR = "transparent", "blur"
GREEN = (0, 177, 64)  # of painted studio walls: further from skin and hair than the colour named green
GREY = (128, 128, 128)  # what is hidden behind a transparent background
BLURRED = 1 / 16  # of the shorter side: standard deviation of the blur


@dataclasses.dataclass(frozen=True)
class Backdrop:
    """kind: "own", "blur", "transparent" or "still"; still: of the last, uint8 (H, W, 3), or (1, 1, 3) of a colour."""

    kind: str
    still: np.ndarray | None = None

    @property
    def transparent(self) -> bool:
        """Returns whether nothing stands behind the head."""
        return self.kind == TRANSPARENT


def read_backdrop(text: str, limits: InputLimits = DEFAULT_LIMITS, where: str = "config.backdrop") -> Backdrop:
    """Returns what a text names: a kind, a colour's name or #rrggbb, or the file of a picture.

    InputError, which begins with `where` or the file, for anything else.
    """
    if not text:
        return Backdrop("own")
    if text in (TRANSPARENT, BLUR):
        return Backdrop(text)
    if text == "green":
        return Backdrop("still", np.array([[GREEN]], np.uint8))
    if "." in text or "/" in text:
        return Backdrop("still", read_image(text, limits))
    try:
        return Backdrop("still", np.array([[parse_colour(text, where)]], np.uint8))
    except InputError:
        raise InputError(
            f"{where}: '{text}' is none; give transparent, blur, green, a colour's name, #rrggbb, or a picture's file"
        ) from None


def covering(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the middle of a picture, uint8 (height, width, 3): as large a part as has that proportion."""
    import cv2

    have = picture.shape[:2]
    factor = max(height / have[0], width / have[1])
    part = [min(max(round(n / factor), 1), m) for n, m in zip((height, width), have)]
    y, x = ((m - n) // 2 for n, m in zip(part, have))
    cut = np.ascontiguousarray(picture[y : y + part[0], x : x + part[1]])
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def blurred(picture: np.ndarray) -> np.ndarray:
    """Returns a picture, uint8 (H, W, 3), out of focus."""
    import cv2

    return cv2.GaussianBlur(picture, (0, 0), BLURRED * min(picture.shape[:2]), borderType=cv2.BORDER_REPLICATE)

"""Portraits: the square of a picture file, or of a video's best frame, that the face encoder takes."""

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vasa_jax.data.face_crop import Crop, crop_square, find_face, frontal_quality
from vasa_jax.data.image_files import MATTE, NotAPicture, read_image
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.generation.landmark_crop import TurnedSquare, cut_square
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

SEARCHED_SECONDS = 2  # of a video, from its start
SEARCHED_FPS = 10


class Portrait(NamedTuple):
    """A square of a picture.

    pixels: uint8 (n, n, 3). notes: what the user should be told. crop: the square of the picture, in its pixels;
    the codecs that LivePortrait's rule is for may see a turned one.
    picture: uint8 (H, W, 3), upright and whole.
    """

    pixels: np.ndarray
    notes: tuple[str, ...]
    crop: Crop | TurnedSquare
    picture: np.ndarray


def read_portrait(
    path: str | Path,
    size: int,
    crop: str = "",
    background: tuple[int, int, int] = MATTE,
    limits: InputLimits = DEFAULT_LIMITS,
    framing: Callable[[np.ndarray, str], TurnedSquare] | None = None,
) -> Portrait:
    """Reads a picture, or of a video the best frontal frame of its first two seconds, and cuts out head and shoulders.

    Args:
      size: side of the result, pixels.
      crop: `x,y,size` in pixels, `center`, or empty to find the face.
      background: what shows through transparency.
      framing: finds the square of a picture, which is called by the text, where no crop is given; None: the square
        of head and shoulders that the built-in corpus has.

    Raises InputError for what is neither, and where no face is found.
    """
    notes = []
    try:
        picture = read_image(path, limits, background)
    except NotAPicture as error:
        picture, time = _best_frame(path, limits, error)
        notes.append(f"{path}: is a video; its frame at {time:.1f} s is the portrait")
    if framing and not crop:
        square = framing(picture, str(path))
        return Portrait(cut_square(picture, square, size), tuple(notes), square, picture)
    where = crop or find_face(picture, str(path))
    pixels, square = crop_square(picture, where, size, str(path))
    if not crop and where.note:
        notes.append(where.note)
    height, width = picture.shape[:2]
    if square.x < 0 or square.y < 0 or square.x + square.size > width or square.y + square.size > height:
        notes.append(f"{path}: the square {square} reaches beyond the picture; its blurred colour stands there")
    return Portrait(pixels, tuple(notes), square, picture)


def _best_frame(path: str | Path, limits: InputLimits, no_picture: InputError) -> tuple[np.ndarray, float]:
    """Returns a frame and its time in seconds; raises `no_picture` for what is no video."""
    try:
        frames = read_video(path, SEARCHED_FPS, limits).frames
    except InputError:
        raise no_picture from None
    with contextlib.closing(frames):
        early = itertools.islice(frames, SEARCHED_SECONDS * SEARCHED_FPS)
        rated = ((frontal_quality(frame), -number, frame) for number, frame in enumerate(early))
        _, number, frame = max(rated, key=lambda item: item[:2])  # the first of equals
    return frame, -number / SEARCHED_FPS

"""How a keypoint codec's pictures are cut: as LivePortrait does, by landmarks, else nearly so by the face finder."""

import numpy as np

from vasa_jax.data.face_crop import Crop, FaceBox, find_face
from vasa_jax.errors import InputError
from vasa_jax.generation.landmark_crop import (
    DRIVING_SCALE,
    DRIVING_SHIFT,
    PORTRAIT_SCALE,
    PORTRAIT_SHIFT,
    FaceOpenness,
    TurnedSquare,
    openness_of,
    square_of,
)
from vasa_jax.preparation.face_backends.base import FaceLandmarks
from vasa_jax.preparation.face_backends.litert import LitertAnalyzer

# LivePortrait's square over the face finder's box, and its centre above that of the box, over the box: medians over 29
# portraits whose landmarks were found.
BOX_SCALE, BOX_RISE = 1.94, 0.094


class KeypointFraming:
    """Finds the square of a picture's face. With a folder of graph files landmarks frame it, and it may be turned.

    Attributes:
      openness: of the eyes and lips of the last portrait; None without landmarks.
    """

    def __init__(self, face_models: str = "", scale: float = PORTRAIT_SCALE, shift: float = PORTRAIT_SHIFT):
        """scale, shift: as of `square_of`. InputError where the folder lacks a file, see
        `preparation/face_backends/litert.py`."""
        self._scale, self._shift = scale, shift
        self._analyzer = LitertAnalyzer(face_models) if face_models else None
        self.openness: FaceOpenness | None = None

    def __call__(self, picture: np.ndarray, source: str) -> TurnedSquare:
        """Returns the square of uint8 (H, W, 3), called `source`; InputError without a face."""
        if self._analyzer is None:
            return _square_by_box(find_face(picture, source), self._scale, self._shift)
        found = self._analyzer.landmarks(picture)
        if found is None:
            raise InputError(f"{source}: no face was found; set --config.crop=x,y,size or --config.crop=center")
        self.openness = openness_of(found.points)
        return square_of(found.points, self._scale, self._shift)


class VideoFraming:
    """Frames a video: one upright square, the mean of those of the frames that are looked at."""

    def __init__(self, face_models: str = "", scale: float = DRIVING_SCALE, shift: float = DRIVING_SHIFT):
        """face_models: folder of graph files; empty = the face finder's boxes stand for landmarks. scale, shift: as of
        `square_of`, by default a driving video's. InputError where the folder lacks a file."""
        self._scale, self._shift = scale, shift
        self._analyzer = LitertAnalyzer(face_models) if face_models else None
        self._found: FaceLandmarks | None = None
        self._squares: list[tuple[float, float, float]] = []  # centre and side

    def look(self, frame: np.ndarray) -> None:
        """Looks at uint8 (H, W, 3); a frame without landmarks does not count."""
        found = self._analyzer.landmarks(frame, self._found) if self._analyzer else None
        if found:
            self._found = found
            square = square_of(found.points, self._scale, self._shift)
            self._squares.append((*square.centre, square.size))

    def square(self, face: FaceBox) -> Crop:
        """Returns the square; that of the video's median box where no landmarks were found."""
        if not self._squares:
            return _square_by_box(face, self._scale, self._shift).upright
        x, y, size = np.mean(self._squares, 0)
        return TurnedSquare((float(x), float(y)), float(size), 0.0).upright


class OpennessReader:
    """Measures how open eyes and lips are in frame after frame of one face, by its landmarks."""

    def __init__(self, face_models: str):
        """face_models: folder of graph files; InputError where it lacks one."""
        self._analyzer = LitertAnalyzer(face_models)
        self._found: FaceLandmarks | None = None

    def __call__(self, frame: np.ndarray, source: str) -> FaceOpenness:
        """Returns it for uint8 (H, W, 3) of a video called `source`; where no face is found it is as in the frame
        before.

        InputError where the first frame has none.
        """
        self._found = self._analyzer.landmarks(frame, self._found) or self._found
        if self._found is None:
            raise InputError(f"{source}: no face landmarks in its first frame; cut it so that it begins with a face")
        return openness_of(self._found.points)


def _square_by_box(face: FaceBox, scale: float, shift: float) -> TurnedSquare:
    """Returns about the square that landmarks would give; scale, shift: as of `square_of`."""
    side = BOX_SCALE * face.size * scale / PORTRAIT_SCALE
    # The rise is that of the usual shift at the usual scale.
    middle = 0.5 - BOX_RISE - PORTRAIT_SHIFT * BOX_SCALE
    return TurnedSquare((face.x + face.size / 2, face.y + middle * face.size + shift * side), side, 0.0)

"""How pictures are cut for LivePortrait's codec: as it does, by landmarks, else nearly so by the face finder."""

import functools
from typing import TypeVar

import numpy as np

from vasa_jax.conventions import LIVE_PORTRAIT
from vasa_jax.data.face_crop import Crop, FaceBox, find_face
from vasa_jax.errors import InputError
from vasa_jax.generation.driving import Driving
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
# Settings of a square, of `Driving`.
_SETTINGS = {
    "portrait": ("portrait_scale", "portrait_shift", "portrait_turn"),
    "source": ("portrait_scale", "portrait_shift"),
    "driving": ("driving_scale", "driving_shift"),
}


class Landmarks:
    """Finds landmarks with graph files, which are read when the first picture is looked at; true where there are some.

    One of these serves everything that looks at faces for a video.
    """

    def __init__(self, face_models: str):
        """face_models: folder of graph files; empty = none."""
        self._folder = face_models

    def __bool__(self) -> bool:
        return bool(self._folder)

    def __call__(self, picture: np.ndarray, previous: FaceLandmarks | None = None) -> FaceLandmarks | None:
        """Returns the face of uint8 (H, W, 3), see `LitertAnalyzer.landmarks`; InputError where a file lacks."""
        return self._analyzer.landmarks(picture, previous)

    @functools.cached_property
    def _analyzer(self) -> LitertAnalyzer:
        return LitertAnalyzer(self._folder)


NO_LANDMARKS = Landmarks("")


class PortraitFraming:
    """Finds the square of a picture's face. With graph files landmarks frame it, and it may be turned.

    Attributes:
      openness: of the eyes and lips of the last portrait; None without landmarks.
    """

    def __init__(
        self,
        landmarks: Landmarks = NO_LANDMARKS,
        scale: float = PORTRAIT_SCALE,
        shift: float = PORTRAIT_SHIFT,
        turn: bool = True,
    ):
        """scale, shift, turn: as of `square_of`."""
        self._scale, self._shift, self._turn, self._landmarks = scale, shift, turn, landmarks
        self.openness: FaceOpenness | None = None

    def __call__(self, picture: np.ndarray, source: str) -> TurnedSquare:
        """Returns the square of uint8 (H, W, 3), called `source`; InputError without a face, and where a graph file
        lacks."""
        if not self._landmarks:
            return _square_by_box(find_face(picture, source), self._scale, self._shift)
        found = self._landmarks(picture)
        if found is None:
            raise InputError(f"{source}: no face was found; set --config.crop=x,y,size or --config.crop=center")
        self.openness = openness_of(found.points)
        return square_of(found.points, self._scale, self._shift, self._turn)


class VideoFraming:
    """Frames a video: one upright square, the mean of those of the frames that are looked at."""

    def __init__(
        self, landmarks: Landmarks = NO_LANDMARKS, scale: float = DRIVING_SCALE, shift: float = DRIVING_SHIFT
    ):
        """landmarks: without graph files the face finder's boxes stand for them. scale, shift: as of `square_of`, by
        default a driving video's."""
        self._scale, self._shift, self._landmarks = scale, shift, landmarks
        self._found: FaceLandmarks | None = None
        self._squares: list[tuple[float, float, float]] = []  # centre and side

    def look(self, frame: np.ndarray) -> None:
        """Looks at uint8 (H, W, 3); a frame without landmarks does not count.

        InputError where a graph file lacks.
        """
        found = self._landmarks(frame, self._found) if self._landmarks else None
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


Framing = TypeVar("Framing", PortraitFraming, VideoFraming)


def portrait_framing(framing: str, landmarks: Landmarks, how: Driving) -> PortraitFraming | None:
    """Returns LivePortrait's square of a portrait as `how` has it, for a codec whose framing (of FRAMINGS) that is.

    None for others, which see what `crop_within` gives; InputError where `how` then asks for a square of LivePortrait.
    """
    return _framing(PortraitFraming, "portrait", framing, landmarks, how)


def video_framing(framing: str, landmarks: Landmarks, how: Driving, source: bool = False) -> VideoFraming | None:
    """Returns that of a driving video, or of a source video, see `portrait_framing`."""
    return _framing(VideoFraming, "source" if source else "driving", framing, landmarks, how)


def _framing(kind: type[Framing], which: str, framing: str, landmarks: Landmarks, how: Driving) -> Framing | None:
    if framing == LIVE_PORTRAIT:
        return kind(landmarks, *(getattr(how, name) for name in _SETTINGS[which]))
    strange = [name for name in _SETTINGS[which] if getattr(how, name) != getattr(Driving, name)]
    if strange:
        raise InputError(
            f"config.{strange[0]}: is of LivePortrait's square, this codec has the built-in corpus's; leave it out, or "
            "give --config.crop=x,y,size"
        )
    return None


class OpennessReader:
    """Measures how open eyes and lips are in frame after frame of one face, by its landmarks."""

    def __init__(self, landmarks: Landmarks):
        """landmarks: with graph files."""
        self._landmarks = landmarks
        self._found: FaceLandmarks | None = None

    def __call__(self, frame: np.ndarray, source: str) -> FaceOpenness:
        """Returns it for uint8 (H, W, 3) of a video called `source`; where no face is found it is as in the frame
        before.

        InputError where the first frame has none, and where a graph file lacks.
        """
        self._found = self._landmarks(frame, self._found) or self._found
        if self._found is None:
            raise InputError(f"{source}: no face landmarks in its first frame; cut it so that it begins with a face")
        return openness_of(self._found.points)


def _square_by_box(face: FaceBox, scale: float, shift: float) -> TurnedSquare:
    """Returns about the square that landmarks would give; scale, shift: as of `square_of`."""
    side = BOX_SCALE * face.size * scale / PORTRAIT_SCALE
    # The rise is that of the usual shift at the usual scale.
    middle = 0.5 - BOX_RISE - PORTRAIT_SHIFT * BOX_SCALE
    return TurnedSquare((face.x + face.size / 2, face.y + middle * face.size + shift * side), side, 0.0)

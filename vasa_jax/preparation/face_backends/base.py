"""Where faces are and what their points are, behind one interface.

| back end | detects | landmarks | matte | needs |
|---|---|---|---|---|
| `haar` | yes | no | no | nothing: crops only |
| `litert` | yes | 478 points | yes | `pip install ai-edge-litert` and a folder of graph files (see `face_litert`) |
| `mediapipe` | yes | 478 points | no | mediapipe and a `.task` file; it calls home (see `face_mediapipe`) |

`open_analyzer(name, models)` makes one. Images are uint8 RGB (H, W, 3); all coordinates are pixels of the image given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vasa_jax.data.face_crop import CENTRE_HEIGHT, FRONTAL_FRACTION, find_faces
from vasa_jax.errors import InputError

BACK_ENDS = ("haar", "litert", "mediapipe")


@dataclass(frozen=True)
class DetectedFace:
    """A face as a box in pixels. keypoints: float32 (6, 2), the eyes first (image left, image right), or None.

    view: "frontal", "profile", or "" where the back end does not tell.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    keypoints: np.ndarray | None = None
    view: str = ""

    @property
    def size(self) -> float:
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class FaceLandmarks:
    """points: float32 (N, 3), x and y in pixels, z in pixels too (growing away from the camera); score in [0, 1]."""

    points: np.ndarray
    score: float


class FaceAnalyzer(Protocol):
    """What data preparation asks of a back end."""

    name: str
    landmark_set: str  # name of the points, "" without landmarks
    # Side of its boxes over that of the square around head and shoulders, and their centre's height in that square,
    # such that heads are framed as those of the built-in corpus.
    framing: tuple[float, float]

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """All faces, the largest first."""

    def landmarks(self, image: np.ndarray, previous: FaceLandmarks | None = None) -> FaceLandmarks | None:
        """Points of the one face of a crop; `previous` (of the frame before) saves the detection. None: no face."""

    def matte(self, image: np.ndarray) -> np.ndarray | None:
        """float32 (H, W) in [0, 1], the share of each pixel that the person covers; None without that ability."""


class HaarAnalyzer:
    """The cascades of `face_crop`: boxes only."""

    name = "haar"
    landmark_set = ""
    framing = (FRONTAL_FRACTION, CENTRE_HEIGHT)

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        return [DetectedFace(face.x, face.y, face.size, face.size, 1.0, view=face.view) for face in find_faces(image)]

    def landmarks(self, image: np.ndarray, previous: FaceLandmarks | None = None) -> FaceLandmarks | None:
        return None

    def matte(self, image: np.ndarray) -> np.ndarray | None:
        return None


def open_analyzer(name: str, models: str = "") -> FaceAnalyzer:
    """The back end `name`; `models` is the folder of its graph files, or its file.

    Raises InputError for an unknown name and for what is missing.
    """
    if name == "haar":
        return HaarAnalyzer()
    if name == "litert":
        from vasa_jax.preparation.face_backends.litert import LitertAnalyzer

        return LitertAnalyzer(models)
    if name == "mediapipe":
        from vasa_jax.preparation.face_backends.mediapipe import MediapipeAnalyzer

        return MediapipeAnalyzer(models)
    raise InputError(f"config.prepare.analyzer: '{name}' is unknown; choose one of {', '.join(BACK_ENDS)}")

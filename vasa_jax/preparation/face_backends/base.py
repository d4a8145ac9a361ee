"""What data preparation asks of a face analyzer: where faces are and what their points are.

| back end | detects | landmarks | matte | needs |
|---|---|---|---|---|
| `haar` | yes | no | no | nothing: crops only |
| `litert` | yes | 478 points | yes | `pip install ai-edge-litert` and a folder of graph files (see `litert`) |
| `mediapipe` | yes | 478 points | no | mediapipe and a `.task` file; it calls home (see `mediapipe`) |

`factory.open_analyzer(name, models)` makes one. Images are uint8 RGB (H, W, 3); all coordinates are pixels of the
image given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


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
        """The longer side in pixels."""
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class FaceLandmarks:
    """points: float32 (N, 3), x and y in pixels, z in pixels too (growing away from the camera); score in [0, 1]."""

    points: np.ndarray
    score: float


@runtime_checkable
class FaceAnalyzer(Protocol):
    """What data preparation asks of a back end."""

    name: str
    landmark_set: str  # name of the points, "" without landmarks
    # Side of its boxes over that of the square around head and shoulders, and their centre's height in that square,
    # such that heads are framed as those of the built-in corpus.
    framing: tuple[float, float]

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """Returns all faces, the largest first."""

    def landmarks(self, image: np.ndarray, previous: FaceLandmarks | None = None) -> FaceLandmarks | None:
        """Returns the points of a crop's face, None for no face; `previous` (of the frame before) saves a detection."""

    def matte(self, image: np.ndarray) -> np.ndarray | None:
        """Returns the share of each pixel that the person covers, float32 (H, W) in [0, 1]; None without that ability.
        """

"""FaceAnalyzer on the Haar cascades of OpenCV: boxes only, and nothing to install or download."""

from __future__ import annotations

import numpy as np

from vasa_jax.data.face_crop import CENTRE_HEIGHT, FRONTAL_FRACTION, find_faces
from vasa_jax.preparation.face_backends.base import DetectedFace, FaceLandmarks


class HaarAnalyzer:
    """Finds faces with the cascades of `data.face_crop`; gives no landmarks and no matte."""

    name = "haar"
    landmark_set = ""
    framing = (FRONTAL_FRACTION, CENTRE_HEIGHT)

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """Finds the faces of an image by OpenCV's cascades."""
        return [DetectedFace(face.x, face.y, face.size, face.size, 1.0, view=face.view) for face in find_faces(image)]

    def landmarks(self, image: np.ndarray, previous: FaceLandmarks | None = None) -> FaceLandmarks | None:
        """Returns None: the cascades know no points."""
        return None

    def matte(self, image: np.ndarray) -> np.ndarray | None:
        """Returns None: the cascades know no matte."""
        return None

"""FaceAnalyzer on MediaPipe Tasks: the face landmarker bundle (`.task`) that the user provides.

    pip install "mediapipe>=1.2" "opencv-contrib-python<5"       (an environment of its own is best, see below)
    python -m vasa_jax.main --config configs/prepare.py --config.prepare.analyzer=mediapipe \
        --config.prepare.models=face_landmarker.task --config.videos=DIR --config.output=DIR

It gives the same 478 points as `litert`, with lips that its attention network has refined, and no matte. Faces
smaller than about a tenth of the image are not found. Before you choose it, know that

* mediapipe 1.x contacts a logging host of its maker when it is used, and has no switch against that; it works with the
  network cut (`unshare -rn python -m vasa_jax.main ...`);
* its opencv-contrib-python puts its files where opencv-python-headless has its own; both must be below version 5.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.preparation.face_backends.base import DetectedFace, FaceLandmarks

BUNDLE = "face_landmarker.task"
MESH_POINTS = 468
MAX_FACES = 4


class MediapipeAnalyzer:
    """Implements `base.FaceAnalyzer`. path: the bundle, or a folder with BUNDLE in it.

    Raises InputError for a missing package or file, and for a file that MediaPipe does not take.
    """

    name = "mediapipe"
    landmark_set = "mediapipe_478"
    framing = (0.526, 0.512)  # means of the mesh's box over 48 renders of the built-in corpus

    def __init__(self, path: str | os.PathLike):
        if not path:
            raise InputError("config.prepare.models: is empty; give the path of a face landmarker .task of mediapipe")
        path = Path(path) / BUNDLE if Path(path).is_dir() else Path(path)
        if not path.is_file():
            raise InputError(f"{path}: is not there; give the path of a face landmarker .task, or use analyzer=litert")
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise InputError(
                f"config.prepare.analyzer: mediapipe cannot be imported ({error}); pip install 'mediapipe>=1.2'"
            ) from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(path)), num_faces=MAX_FACES
        )
        try:
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            fault = " ".join(str(error).split())
            raise InputError(
                f"{path}: MediaPipe takes it for no face landmarker ({fault}); give another .task"
            ) from error
        self._mediapipe = mediapipe

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """Returns the boxes of the meshes, the largest first."""
        faces = []
        for points in self._meshes(image):
            low, high = points[:MESH_POINTS, :2].min(0), points[:MESH_POINTS, :2].max(0)
            faces.append(DetectedFace(*low.tolist(), *(high - low).tolist(), 1.0))
        return sorted(faces, key=lambda face: -face.size)

    def landmarks(self, image: np.ndarray, previous: FaceLandmarks | None = None) -> FaceLandmarks | None:
        """Returns the face nearest to `previous`, else the largest."""
        meshes = self._meshes(image)
        if not meshes:
            return None
        if previous is not None:
            return FaceLandmarks(min(meshes, key=lambda points: np.abs(points - previous.points)[:, :2].mean()), 1.0)
        return FaceLandmarks(max(meshes, key=lambda points: np.ptp(points[:MESH_POINTS, :2], axis=0).max()), 1.0)

    def matte(self, image: np.ndarray) -> None:
        """Returns None: this backend makes no matte."""
        return None

    def _meshes(self, image: np.ndarray) -> list[np.ndarray]:
        """float32 (478, 3) in pixels of each face; MediaPipe's depth is in widths of the image."""
        height, width = image.shape[:2]
        frame = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        scale = np.array([width, height, width], np.float32)
        found = self._landmarker.detect(frame).face_landmarks
        return [np.array([(p.x, p.y, p.z) for p in points], np.float32) * scale for points in found]

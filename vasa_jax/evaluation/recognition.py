"""Who is seen: distances of dlib's face descriptor, a recogniser that trains nothing here (dev requirement, optional).

Two pictures of one person lie below about 0.45 apart, two people about 0.8 (King 2017; 0.6 is the usual threshold).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

SIDE = 512  # pixels at which faces are looked for
NEEDED = ("dlib", "face_recognition_models")
MISSING = "identity: not measured, dlib is not installed; pip install dlib-bin face_recognition_models"


class Recogniser:
    """Describes the largest face of a picture by 128 numbers."""

    def __init__(self, folder: Path):
        """folder: of the weight files, see `find`."""
        import dlib

        self._detect = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(folder / "shape_predictor_68_face_landmarks.dat"))
        self._describe = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    @classmethod
    def find(cls) -> "Recogniser | None":
        """Returns one, None where a package is not installed (MISSING says which)."""
        if any(importlib.util.find_spec(name) is None for name in NEEDED):
            return None
        # The package of the weights imports pkg_resources, which newer Pythons lack; its files are all that is needed.
        spec = importlib.util.find_spec(NEEDED[1])
        folder = Path(spec.submodule_search_locations[0]) / "models"
        return cls(folder) if folder.is_dir() else None

    def __call__(self, picture: UInt8[np.ndarray, "n n 3"]) -> Float[np.ndarray, "128"] | None:
        """Returns the descriptor, None where no face is found."""
        import cv2

        large = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        found = self._detect(large, 0)
        if not found:
            return None
        face = max(found, key=lambda box: box.area())
        return np.array(self._describe.compute_face_descriptor(large, self._points(large, face)))

    def describe(self, frames: UInt8[np.ndarray, "T n n 3"]) -> Float[np.ndarray, "T 128"]:
        """Returns the descriptors of frames, nan where one has no face."""
        seen = [self(frame) for frame in frames]
        return np.stack([np.full(128, np.nan) if one is None else one for one in seen])


def nearest(seen: Float[np.ndarray, "T 128"], known: Float[np.ndarray, "N 128"]) -> Float[np.ndarray, "T"]:
    """Returns how far each described face is from the nearest known one, nan where there is none."""
    return np.linalg.norm(seen[:, None] - known[None], axis=-1).min(1)

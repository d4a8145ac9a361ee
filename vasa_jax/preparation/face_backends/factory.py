"""Face analyzers by name."""

from __future__ import annotations

from vasa_jax.conventions import FACE_BACK_ENDS
from vasa_jax.errors import InputError
from vasa_jax.preparation.face_backends.base import FaceAnalyzer
from vasa_jax.preparation.face_backends.haar import HaarAnalyzer
from vasa_jax.preparation.face_backends.litert import LitertAnalyzer
from vasa_jax.preparation.face_backends.mediapipe import MediapipeAnalyzer


def open_analyzer(name: str, models: str = "") -> FaceAnalyzer:
    """Opens the back end `name`; `models` is the folder of its graph files, or its file.

    Raises InputError for an unknown name and for what is missing.
    """
    if name == "haar":
        return HaarAnalyzer()
    if name == "litert":
        return LitertAnalyzer(models)
    if name == "mediapipe":
        return MediapipeAnalyzer(models)
    raise InputError(f"config.prepare.analyzer: '{name}' is unknown; choose one of {', '.join(FACE_BACK_ENDS)}")

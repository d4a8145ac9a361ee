"""Gaze from a file that the user provides: L2CS-Net as an ONNX model, run by OpenCV.

L2CS-Net (Abdelrahman et al. 2022) classifies both angles of the gaze into bins: 90 of 4 degrees (trained on Gaze360) or
28 of 3 degrees (MPIIGaze); the expectation over the bins is the angle. About 16 GFLOP a face: a second on one core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from vasa_jax.data.records import decode_jpeg
from vasa_jax.errors import InputError
from vasa_jax.preparation.onnx_labels.hsemotion import DEVIATION, FACE, MEAN
from vasa_jax.preparation.onnx_labels.onnx_file import OnnxModel, channels_first

FACE_SIDE, SIDE = 224, 448  # pixels: the face is brought to the first, then to the model's input
BINS = {90: (4.0, -180.0), 28: (3.0, -42.0)}  # number of bins: degrees per bin, degrees of the first


def load_gaze_model(path: str | os.PathLike) -> Callable[[Sequence[bytes], np.ndarray | None], np.ndarray]:
    """Opens an ONNX file and returns a function of a clip's JPEG images and landmarks to its gaze.

    The model takes (1, 3, 448, 448) and gives two lists of logits, of 90 or of 28 bins. The one of layer `fc_yaw_gaze`,
    else the first, is the horizontal angle (names of outputs do not count: L2CS-Net's own are exchanged).
    The function takes landmarks (T, N, 3) in image coordinates, or None for the middle of the image. It returns yaw,
    pitch (T, 2) float32 in degrees, camera frame, positive to image right and down.

    Raises InputError for a missing file, one that OpenCV cannot read, and other outputs.
    """
    model = OnnxModel(path, "an L2CS-Net", [(1, 3, SIDE, SIDE)])
    sizes = model.sizes
    if len(sizes) != 2 or sizes[0] != sizes[1] or sizes[0] not in BINS:
        raise InputError(f"{path}: gives {sizes} values; an L2CS-Net gives two lists of 90 or of 28 bins")
    horizontal = 1 if "fc_yaw" in model.layers[1] else 0
    width, first = BINS[sizes[0]]
    angles = first + width * np.arange(sizes[0])

    def gaze(images: Sequence[bytes], landmarks: np.ndarray | None) -> np.ndarray:
        result = np.empty((len(images), 2), np.float32)
        for frame, image in enumerate(images):
            face = _face(decode_jpeg(image), None if landmarks is None else landmarks[frame])
            expected = [_expectation(logits, angles) for logits in _logits(model, face)]
            # The model's vector is (-cos v sin h, -sin v, -cos v cos h): h turns to image left, v up.
            result[frame] = -expected[horizontal], -expected[1 - horizontal]
        return result

    return gaze


def _face(image: np.ndarray, points: np.ndarray | None) -> np.ndarray:
    """The landmarks' box, stretched to uint8 (224, 224, 3) as the model's own detector's boxes are."""
    import cv2

    side = len(image)
    if points is None:
        low, high = np.full(2, -FACE), np.full(2, FACE)
    else:
        low, high = points[:, :2].min(0), points[:, :2].max(0)
    left, top = np.clip(np.round((low + 1.0) / 2.0 * side), 0, side - 2).astype(int)
    right, bottom = np.clip(np.round((high + 1.0) / 2.0 * side), (left + 2, top + 2), side).astype(int)
    return cv2.resize(image[top:bottom, left:right], (FACE_SIDE, FACE_SIDE))


def _logits(model: OnnxModel, face: np.ndarray) -> list[np.ndarray]:
    import cv2

    values = (cv2.resize(face, (SIDE, SIDE)) / 255.0 - MEAN) / DEVIATION
    return [output.astype(np.float64) for output in model(channels_first(values))]


def _expectation(logits: np.ndarray, angles: np.ndarray) -> float:
    share = np.exp(logits - logits.max())
    return float((share * angles).sum() / share.sum())

"""Head distance from a file that the user provides: Deep3DFaceRecon's network as an ONNX model, run by OpenCV.

The network (Deng et al. 2019) fits a morphable face to an image that is aligned so that the face has a fixed size; it
sees a camera of focal length 1015 pixels over 224, and tells how far in front of its usual 10 decimetres the face is.
So the distance is what the alignment took out times what the network found: d = (w / 224) s (10 - tz), with s the scale
of the alignment and w the image's width. Unlike 1 / pose scale it knows that a small head is not a far one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from vasa_jax.conventions import rotation_matrices
from vasa_jax.data.records import decode_jpeg
from vasa_jax.errors import InputError
from vasa_jax.preparation.landmark_labels import CANONICAL_POINTS, EYES
from vasa_jax.preparation.onnx_labels.onnx_file import OnnxModel, channels_first

SIDE = 224  # pixels
OUTPUTS = 257  # identity 80, expression 64, texture 80, angles 3, light 27, translation 3
TZ = 256
CAMERA = 10.0  # decimetres
ALIGNED = 102.0  # pixels that a decimetre has in the aligned image
EYE_DISTANCE = 0.62  # decimetres between the mean face's eyes
ORIGIN = (0.0, 0.09, 0.13)  # of the face model, from the middle of its eyes: decimetres right, down, away
EVERY = 5  # frames


def load_distance_model(path: str | os.PathLike) -> Callable[[Sequence[bytes], np.ndarray, np.ndarray], float]:
    """Opens an ONNX file; returns a function of JPEG images, landmarks (T, 478, 3) and pose (T, 9) to a mean distance.

    The model takes (1, 3, 224, 224) in [0, 1] and gives 257 coefficients. The unit of the result does not matter: data
    preparation divides by the set's mean. Raises InputError for a missing file, one that OpenCV cannot read, and
    another number of outputs.
    """
    model = OnnxModel(path, "a Deep3DFaceRecon", [(1, 3, SIDE, SIDE)])
    if model.sizes != [OUTPUTS]:
        found = " + ".join(map(str, model.sizes))
        raise InputError(f"{path}: gives {found} values; a Deep3DFaceRecon network gives {OUTPUTS}")

    def distance(images: Sequence[bytes], landmarks: np.ndarray, pose: np.ndarray) -> float:
        total, chosen = 0.0, range(0, len(images), EVERY)
        for frame in chosen:
            image = decode_jpeg(images[frame])
            aligned, scale = _aligned(image, landmarks[frame], pose[frame])
            total += len(image) / SIDE * scale * (CAMERA - _coefficients(model, aligned)[TZ])
        return float(total / len(chosen))

    return distance


def _aligned(image: np.ndarray, points: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, float]:
    """uint8 (224, 224, 3) with a decimetre of ALIGNED pixels and the face model's origin in the middle; the scale."""
    import cv2

    half = len(image) / 2.0
    left, right = (np.mean([CANONICAL_POINTS[i] for i in corners], axis=0) for corners in EYES)
    decimetre = np.exp(pose[6]) * np.linalg.norm(left - right) / EYE_DISTANCE * half  # pixels of the image
    scale = float(ALIGNED / decimetre)
    eyes = (points[[i for corners in EYES for i in corners], :2].mean(0) + 1.0) * half
    middle = eyes + decimetre * (rotation_matrices(pose[None])[0] @ ORIGIN)[:2]
    shift = SIDE / 2 - scale * middle + 0.5 * (scale - 1.0)  # pixel centres are at 0.5
    matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR), scale


def _coefficients(model: OnnxModel, image: np.ndarray) -> np.ndarray:
    """uint8 RGB (224, 224, 3) -> (257,)."""
    return model(channels_first(image / 255.0))[0]

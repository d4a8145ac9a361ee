"""Emotion coefficients from a file that the user provides: HSEmotion's ONNX models, run by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from vasa_jax.conventions import EMOTIONS
from vasa_jax.data.records import decode_jpeg
from vasa_jax.errors import InputError
from vasa_jax.preparation.onnx_labels.onnx_file import OnnxModel, channels_first

SIDES = (224, 260)  # pixels: EfficientNet-B0, -B2
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
CLASSES = len(EMOTIONS)  # in the same order
EVERY = 5  # frames
FACE = 0.7  # of the square around head and shoulders, about its middle: the models are trained on faces


def load_emotion_model(path: str | os.PathLike) -> Callable[[Sequence[bytes]], np.ndarray]:
    """Opens an ONNX file; returns a function of JPEG images to their mean emotion coefficients, float32 (8,), sum 1.

    The model takes (1, 3, n, n) with n 224 or 260 and gives 8 logits, or 10 with valence and arousal after them
    (`*_va_mtl`). Raises InputError for a missing file, one that OpenCV cannot read, and another number of outputs.
    """
    import cv2

    model = OnnxModel(path, "an HSEmotion", [(1, 3, side, side) for side in SIDES])
    if model.sizes not in ([CLASSES], [CLASSES + 2]):
        found = " + ".join(map(str, model.sizes))
        raise InputError(f"{path}: gives {found} values; an HSEmotion model of 8 classes gives 8 or 10")
    side = model.input_shape[-1]

    def coefficients(images: Sequence[bytes]) -> np.ndarray:
        total = np.zeros(CLASSES)
        chosen = images[::EVERY]
        for data in chosen:
            image = decode_jpeg(data)
            margin = round((1 - FACE) / 2 * len(image))
            face = cv2.resize(image[margin : len(image) - margin, margin : len(image) - margin], (side, side))
            logits = _logits(model, face)[:CLASSES].astype(np.float64)
            share = np.exp(logits - logits.max())
            total += share / share.sum()
        return (total / len(chosen)).astype(np.float32)

    return coefficients


def _logits(model: OnnxModel, face: np.ndarray) -> np.ndarray:
    """uint8 RGB (n, n, 3) -> (8,) or (10,)."""
    return model(channels_first((face / 255.0 - MEAN) / DEVIATION))[0]

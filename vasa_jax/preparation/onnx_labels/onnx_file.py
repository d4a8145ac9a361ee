"""A user's network as an ONNX file, opened, checked and run by OpenCV: no other runtime is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vasa_jax.errors import InputError


class OnnxModel:
    """Runs one ONNX file by OpenCV.

    Args:
      network: what the file should hold, for the messages.

    Attributes:
      input_shape: the first of the shapes offered that it takes.
      sizes: values of each output.
      layers: the names of the layers that give them.

    Raises:
      InputError: a missing file; one that OpenCV cannot read, or cannot run on zeros of any of `shapes`.
    """

    def __init__(self, path: str | os.PathLike, network: str, shapes: Sequence[tuple[int, ...]]):
        import cv2

        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path}: does not exist; give the path of {network} .onnx file, or leave it empty")
        for shape in shapes:
            try:
                # Read anew for every shape: a network that failed on one stays broken.
                self._net = cv2.dnn.readNetFromONNX(str(path))
                self.layers: tuple[str, ...] = tuple(self._net.getUnconnectedOutLayersNames())
                self.sizes = [len(output) for output in self(np.zeros(shape, np.float32))]
            except cv2.error:
                continue
            self.input_shape = shape
            return
        sides = " or ".join(" x ".join(map(str, shape)) for shape in shapes)
        raise InputError(f"{path}: is no ONNX model that OpenCV can run on {sides} values; give {network} .onnx file")

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """An array of `input_shape` -> every output as float32 (size,)."""
        self._net.setInput(np.ascontiguousarray(values, dtype=np.float32))
        return [output.reshape(-1) for output in self._net.forward(self.layers)]


def channels_first(image: np.ndarray) -> np.ndarray:
    """Moves the channels of one image to the front: (H, W, C) to (1, C, H, W)."""
    return image.transpose(2, 0, 1)[None]

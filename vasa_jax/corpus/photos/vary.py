"""Relatives of a photographed person: a photograph, its matte and its points under one smooth random warp."""

from __future__ import annotations

import cv2
import numpy as np

NODES = 5  # of the warp along each side
STRETCH = 0.05  # largest change of the width over the height
_FINE, _ROUNDS = 80, 4


def vary(
    image: np.ndarray, matte: np.ndarray, points: np.ndarray, rng: np.random.Generator, strength: float = 0.02
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns image (n, n, 3), matte (n, n) and points (478, 3), in pixels, of a relative.

    Nodes move by `strength` of the side (standard deviation); depths stay.
    """
    side = image.shape[0]
    nodes = np.pad(rng.normal(0.0, strength, (NODES, NODES, 2)), ((1, 1), (1, 1), (0, 0)), mode="edge")
    field = cv2.resize(nodes, ((NODES + 2) * 16,) * 2, interpolation=cv2.INTER_CUBIC)[16:-16, 16:-16]
    field = cv2.GaussianBlur(field, (0, 0), 4).astype(np.float32)
    stretch = 1.0 + rng.uniform(-STRETCH, STRETCH)

    def moved(places):
        """Returns places (h, w, 2) over the side, 0 to 1, after the warp."""
        at = (np.clip(places, 0, 1) * _FINE - 0.5).astype(np.float32)
        result = places + cv2.remap(field, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.stack([0.5 + (result[..., 0] - 0.5) * stretch, result[..., 1]], -1)

    axis = (np.arange(side) + 0.5) / side
    target = np.stack(np.meshgrid(axis, axis), -1)
    source = target.copy()
    for _ in range(_ROUNDS):  # the inverse, by fixed-point iteration: the warp is small
        source = source - (moved(source) - target)
    at = (source * side - 0.5).astype(np.float32)
    image, matte = (
        cv2.remap(x, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for x in (image, matte)
    )
    points = points.copy()
    points[:, :2] = moved(points[None, :, :2] / side)[0] * side
    return image, matte, points

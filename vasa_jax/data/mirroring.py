"""A clip as seen in a mirror: images and every label that changes with them.

Left and right of lids and landmarks are the image's, so their places are exchanged; angles that turn to image right
turn to image left. Mouth, distance, emotion and sound stay.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from vasa_jax.conventions import LANDMARK_SET, LANDMARKS
from vasa_jax.errors import InputError

# FaceMesh's points on the middle line. Of the others, the n-th below 248 is the mirror image of number 248 + n: so
# measured on 60 images of real faces and their mirror images, where each of the 468 is nearest to its partner.
_MESH_MIDDLE = (
    0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197, 199, 200,
)  # fmt: skip
_MESH_HALF, _MESH, _IRIS = 248, 468, 5
_IRIS_ORDER = [0, 3, 2, 1, 4]  # centre, then the border: image right, up, left, down
# Columns 0 and 1 of M R M with M = diag(-1, 1, 1), then log s, tx, ty.
_POSE_SIGNS = np.array([1, -1, -1, -1, 1, 1, 1, -1, 1], np.float32)


def mirror_image(image: np.ndarray) -> np.ndarray:
    """Reverses the columns of images (..., n, n, 3)."""
    return image[..., ::-1, :]


def mirror_matte(matte: np.ndarray) -> np.ndarray:
    """Reverses the columns of mattes (..., n, n)."""
    return matte[..., ::-1]


def mirror_label(name: str, value: np.ndarray, landmark_set: str) -> np.ndarray:
    """Mirrors a label of `records.LABELS` with any leading axes; shape and type stay.

    Raises InputError for landmarks of a set whose partners are not known.
    """
    if name == "pose":
        return value * _POSE_SIGNS
    if name in ("gaze", "main_gaze"):
        return value * np.array([-1, 1], np.float32)
    if name == "lids":
        return value[..., ::-1]
    if name == "landmarks" and value.shape[-2]:
        return value[..., partners(landmark_set), :] * np.array([-1, 1, 1], np.float32)
    return value


@functools.cache
def partners(landmark_set: str) -> np.ndarray:
    """Returns the point that each point becomes in the mirror, int (N,); InputError for an unknown set."""
    if landmark_set == "mediapipe_478":
        return _mesh_partners()
    if landmark_set == LANDMARK_SET:
        return np.array([LANDMARKS.index(_corpus_partner(name)) for name in LANDMARKS])
    raise InputError(
        f"landmark_set '{landmark_set}': its mirror image is not known; turn flips off (flip=False), "
        f"or use {LANDMARK_SET} or mediapipe_478"
    )


def _mesh_partners() -> np.ndarray:
    result = np.arange(_MESH + 2 * _IRIS)
    side = np.array([i for i in range(_MESH_HALF) if i not in _MESH_MIDDLE])
    other = np.arange(_MESH_HALF, _MESH)
    result[side], result[other] = other, side
    left, right = np.arange(_MESH, _MESH + _IRIS), np.arange(_MESH + _IRIS, _MESH + 2 * _IRIS)
    result[left], result[right] = right[_IRIS_ORDER], left[_IRIS_ORDER]
    return result


# Contours run from left to right, or clockwise from their left corner (see conventions.py): number of a point
# -> number of its partner.
_CONTOURS = {
    "jaw": lambda i: 16 - i,
    "brow": lambda i: 4 - i,
    "eye": lambda i: (4 - i) % 8,
    "outer_lip": lambda i: (6 - i) % 12,
    "inner_lip": lambda i: (4 - i) % 8,
}


def _corpus_partner(name: str) -> str:
    parts = re.fullmatch(r"(jaw|brow|eye|outer_lip|inner_lip)(_left|_right|)_(\d+)", name)
    swapped = {"left": "right", "right": "left"}
    if parts:
        kind, side, number = parts.groups()
        side = f"_{swapped[side[1:]]}" if side else ""
        return f"{kind}{side}_{_CONTOURS[kind](int(number))}"
    return re.sub("left|right", lambda match: swapped[match.group()], name)

"""A coarse segmentation from labels that real videos have: a matte and face landmarks."""

import numpy as np

from vasa_jax.conventions import LANDMARKS, SEGMENTS

# Outlines as indices of points, by the number of points in the set: lips, image-left eye, image-right eye.
_OWN = {name: index for index, name in enumerate(LANDMARKS)}


def _ring(prefix: str) -> tuple[int, ...]:
    return tuple(index for name, index in _OWN.items() if name.rpartition("_")[0] == prefix)


OUTLINES: dict[int, tuple[tuple[int, ...], ...]] = {
    len(LANDMARKS): (_ring("outer_lip"), _ring("eye_left"), _ring("eye_right")),
    # mediapipe_478 (preparation/landmark_labels.py).
    478: (
        (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
        (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
        (362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398),
    ),
}
_FILLS = ("mouth", "sclera", "sclera")


def segmentation_of(matte: np.ndarray | None, landmarks: np.ndarray | None, size: int) -> np.ndarray:
    """Returns indices into SEGMENTS, uint8 (size, size), from a matte and landmarks; None: no such label.

    Background is where `matte` uint8 (size, size) is below a half. Mouth and eyes are inside their outlines of
    `landmarks` (N, 3); a set of points without known outlines marks neither. The rest is skin.
    """
    import cv2

    result = np.full((size, size), SEGMENTS.index("skin"), np.uint8)
    if landmarks is not None:
        for outline, fill in zip(OUTLINES.get(len(landmarks), ()), _FILLS):
            pixels = (landmarks[list(outline), :2] + 1.0) * size / 2.0 - 0.5
            cv2.fillPoly(result, [np.round(pixels).astype(np.int32)], SEGMENTS.index(fill))
    if matte is not None:
        result[matte < 128] = SEGMENTS.index("background")
    return result

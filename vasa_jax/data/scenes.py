"""Scene cuts: where one frame has nothing to do with the one before."""

from __future__ import annotations

import numpy as np

THUMBNAIL = (48, 27)  # width, height: motion of a head hardly shows, a new scene does
CUT_LEVEL = 0.09  # mean change of a thumbnail's values, of full scale; a talking head stays below 0.03
CUT_RATIO = 4.0  # over the median change of the second around
NEIGHBOURS = 12  # frames to each side


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """Reduces uint8 RGB (H, W, 3) to uint8 (27, 48, 3)."""
    import cv2

    return cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA)


def find_cuts(thumbnails: np.ndarray) -> list[int]:
    """Returns the first frames of new scenes of uint8 (T, h, w, 3), in order; frame 0 is not among them.

    A change counts when it is large, and large against the changes around it; so a moving camera or flicker does not
    cut every frame. Dissolves are not found; the face's track ends at most of them.
    """
    if len(thumbnails) < 2:
        return []
    values = thumbnails.astype(np.int16)
    change = np.abs(values[1:] - values[:-1]).mean((1, 2, 3)) / 255.0
    cuts = []
    for i, size in enumerate(change):
        around = np.concatenate([change[max(0, i - NEIGHBOURS) : i], change[i + 1 : i + 1 + NEIGHBOURS]])
        if size > CUT_LEVEL and (not len(around) or size > CUT_RATIO * np.median(around)):
            cuts.append(i + 1)
    return cuts

"""SyncNet's metrics of a video, as the published evaluation computes them (syncnet_python).

S_D is the mean distance between mouth and sound at the best shift of -15 to 15 frames. S_C is how far that lies below
the median over shifts; the offset is where it is. VASA-1 calls them S_C and S_D, Wav2Lip LSE-C and LSE-D.

Differences, which no published weight can remove: faces are boxed by our own face probe in the place of S3FD, and crops
are not compressed again before the network sees them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.conventions import SAMPLES_PER_FRAME
from vasa_jax.filling import in_batches
from vasa_jax.models.syncnet import COLUMNS, FRAMES, SIDE, SyncNet
from vasa_jax.preparation.mfcc import FULL_SCALE, STEP, mfcc

MAX_SHIFT = 15  # frames
MARGIN = 0.4  # of half a box, added on either side and below
OUTSIDE = 110  # grey beyond the picture
SMOOTH = 13  # frames of the median filter of boxes
EPSILON = 1e-6  # added to every difference, as PyTorch's pairwise distance does
_BATCH = 8  # windows at once


class SyncFigures(NamedTuple):
    """confidence: S_C. distance: S_D. offset: frames; positive where the sound comes before its image."""

    confidence: float
    distance: float
    offset: int


class SyncMeter:
    """Measures videos with a SyncNet's parameters (weights/published_networks.py)."""

    def __init__(self, params: dict[str, Any]):
        self._params = jax.device_put(params)

    def measure(
        self, faces: Iterable[UInt8[np.ndarray, "224 224 3"]], samples: Float[np.ndarray, "n"]
    ) -> SyncFigures | None:
        """Returns the figures of RGB crops at 25 fps and their 16 kHz sound; None for fewer than six frames of either.

        The published loop leaves the last window out, and so does this one.
        """
        faces = list(faces)
        count = min(len(faces), len(samples) // SAMPLES_PER_FRAME) - FRAMES
        if count < 1:
            return None
        coefficients = mfcc(np.rint(samples * FULL_SCALE) / FULL_SCALE)
        step = SAMPLES_PER_FRAME // STEP
        rows = np.arange(count)

        def see(part):
            return _lip(self._params, np.stack([_window(faces, i) for i in part]))

        def hear(part):
            return _aud(self._params, np.stack([coefficients[step * i : step * i + COLUMNS] for i in part]))

        seen, heard = (in_batches(embed, _BATCH, rows) for embed in (see, hear))
        return figures(distances(seen, heard))


def distances(seen: Float[np.ndarray, "W E"], heard: Float[np.ndarray, "W E"]) -> Float[np.ndarray, "31"]:
    """Returns the mean distance of images from the sound at -15 to 15 frames; beyond the ends sound is zeros."""
    padded = np.pad(np.asarray(heard, np.float64), ((MAX_SHIFT, MAX_SHIFT), (0, 0)))
    shifts = range(2 * MAX_SHIFT + 1)
    return np.array([np.linalg.norm(seen - padded[i : i + len(seen)] + EPSILON, axis=-1).mean() for i in shifts])


def figures(curve: Float[np.ndarray, "31"]) -> SyncFigures:
    """Returns confidence, distance and offset of mean distances at -15 to 15 frames; the first of equal minima."""
    best = int(np.argmin(curve))
    return SyncFigures(float(np.median(curve) - curve[best]), float(curve[best]), MAX_SHIFT - best)


def face_crops(frames: Iterable[UInt8[np.ndarray, "h w 3"]], boxes: Float[np.ndarray, "T 4"]):
    """Yields the squares (224, 224, 3) that the network sees, of frames and the boxes of their faces.

    boxes: left, top, right, bottom in pixels. Size and place are smoothed by a median over 13 frames. As in
    the published one, what is before and after the video counts as zero.
    """
    import cv2
    from scipy.signal import medfilt

    left, top, right, bottom = np.asarray(boxes, np.float64).T
    half = medfilt(np.maximum(bottom - top, right - left) / 2, SMOOTH)
    x, y = medfilt((left + right) / 2, SMOOTH), medfilt((top + bottom) / 2, SMOOTH)
    for frame, size, across, down in zip(frames, half, x, y):
        pad = int(size * (1 + 2 * MARGIN))
        wide = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=OUTSIDE)
        middle_y, middle_x = down + pad, across + pad
        rows = slice(max(int(middle_y - size), 0), int(middle_y + size * (1 + 2 * MARGIN)))
        columns = slice(max(int(middle_x - size * (1 + MARGIN)), 0), int(middle_x + size * (1 + MARGIN)))
        face = wide[rows, columns]
        if not face.size:  # a face that the median has lost at the ends of a very short video
            face = np.full((SIDE, SIDE, 3), OUTSIDE, np.uint8)
        yield cv2.resize(face, (SIDE, SIDE))


def _window(faces: Sequence[np.ndarray], start: int | np.integer) -> np.ndarray:
    """Five frames from `start` on: blue, green, red from 0 to 255."""
    return np.stack(faces[start : start + FRAMES]).astype(np.float32)[..., ::-1]


@jax.jit
def _lip(params, frames):
    return SyncNet().apply({"params": params}, frames, method="lip")


@jax.jit
def _aud(params, coefficients):
    return SyncNet().apply({"params": params}, coefficients, method="aud")

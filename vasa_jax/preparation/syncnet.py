"""Whether sound and mouth belong together, by SyncNet, whose file the user provides.

SyncNet (Chung and Zisserman 2016, "Out of time: automated lip sync in the wild") maps five frames of a face and the
0.2 s of sound beside them to two vectors that are near each other where both were recorded together. Moving the sound
gives a curve of mean distances. Its minimum is the offset; how far that lies below the curve's median is the
confidence. It is 7 to 8 for real speakers in the tables of Wav2Lip; LatentSync discards clips below 3.

The folder holds the published `syncnet_v2.model`, or what job `import_weights` makes of it. Or each stream as an ONNX
model, which OpenCV runs, of another network too:

| file | takes | gives |
|---|---|---|
| `lips.onnx` | (1, 3, 5, 224, 224): blue, green, red from 0 to 255, five frames at 25 fps | (1, E) |
| `sound.onnx` | (1, 1, 13, 20): coefficients of `mfcc` every 10 ms | (1, E) |

This is what `torch.onnx.export` writes of the published model's methods `forward_lip` and `forward_aud` in `eval()`
mode (class `S` of the authors' syncnet_python, E = 1024). About 3 GFLOP for five frames and 0.5 for each frame's
sound: two seconds of one core for a second of video.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vasa_jax.conventions import SAMPLES_PER_FRAME
from vasa_jax.data.records import decode_jpeg
from vasa_jax.errors import InputError
from vasa_jax.models.syncnet import COEFFICIENTS, COLUMNS, FRAMES, SIDE, SyncNet
from vasa_jax.preparation.mfcc import FRAME, STEP, mfcc
from vasa_jax.preparation.onnx_labels.onnx_file import OnnxModel
from vasa_jax.weights.published_networks import find_published, load_published

Stream = Callable[[np.ndarray], np.ndarray]  # a window to its vector (E,)
LIPS, SOUND = "lips.onnx", "sound.onnx"
WINDOW = (COLUMNS - 1) * STEP + FRAME  # samples that a sound window reads
MAX_SHIFT = 15  # frames
# The square that the published model's tracker cuts: 1.4 times as large as the face's box, their upper sides level;
# what lies outside the image is grey.
MARGIN, DROP, OUTSIDE = 1.4, 0.2, 110
SMOOTH = 13  # frames of the median filter of the boxes


@dataclass(frozen=True)
class SyncCurve:
    """Distances between images and the sound -15 to 15 frames later: their sums (31,) over windows, and how many.

    Each window's mean over the shifts is taken off. Where all windows have sound at all shifts, that moves the curve
    as a whole. Where they have not, no shift gains by the windows that it lacks. Curves of several clips of one
    file may be added.
    """

    total: np.ndarray
    count: np.ndarray

    def __add__(self, other: SyncCurve) -> SyncCurve:
        return SyncCurve(self.total + other.total, self.count + other.count)

    def best_shift(self) -> int | None:
        """Returns the frames by which the sound is late; None where no sound was beside the images."""
        mean = self._mean()
        return None if np.isnan(mean).all() else int(np.nanargmin(mean)) - MAX_SHIFT

    def confidence(self, shift: int) -> float:
        """Returns how far the mean distance at this shift lies below the median of all; 0 where it was not measured."""
        mean = self._mean()
        at = mean[shift + MAX_SHIFT]
        return float(np.nanmedian(mean) - at) if np.isfinite(at) else 0.0

    def certain(self, least: float) -> bool:
        """Returns whether the best shift has this confidence, and is not the last one tried."""
        shift = self.best_shift()
        return shift is not None and abs(shift) < MAX_SHIFT and self.confidence(shift) >= least

    def _mean(self) -> np.ndarray:
        return np.where(self.count > 0, self.total / np.maximum(self.count, 1), np.nan)


def load_sync_model(
    folder: str | os.PathLike,
) -> Callable[[Sequence[bytes], np.ndarray, np.ndarray, int], SyncCurve]:
    """Opens the files of a folder and returns a function that measures a clip's `SyncCurve`.

    It takes the clip's JPEG images, landmarks (T, N, 3) in image coordinates, the sound of the whole video (float32,
    16 kHz) and the clip's first frame in it. The image windows follow each other without
    overlap, so that every frame is seen once. Raises InputError for a missing file, one that OpenCV cannot run, and
    streams that give vectors of different lengths.
    """
    published = find_published(folder, "syncnet")
    lips, sound = _flax_streams(load_published(published, "syncnet")) if published else _onnx_streams(Path(folder))

    def distances(images: Sequence[bytes], landmarks: np.ndarray, samples: np.ndarray, start: int) -> SyncCurve:
        total, count = np.zeros((2, 2 * MAX_SHIFT + 1))
        stop = start + len(images) - len(images) % FRAMES
        heard = _sound_vectors(sound, samples, start - MAX_SHIFT, stop - FRAMES + MAX_SHIFT + 1)
        squares = _squares(landmarks)
        for first in range(start, stop, FRAMES):
            at = range(first - start, first - start + FRAMES)
            faces = np.stack([_face(decode_jpeg(images[i]), squares[i]) for i in at], axis=1)
            seen = lips(faces[None])
            beside = [i for i in range(2 * MAX_SHIFT + 1) if first + i - MAX_SHIFT in heard]
            if beside:
                window = np.array([np.linalg.norm(seen - heard[first + i - MAX_SHIFT]) for i in beside])
                total[beside] += window - window.mean()
                count[beside] += 1
        return SyncCurve(total, count)

    return distances


def _onnx_streams(folder: Path) -> tuple[Stream, Stream]:
    lips = OnnxModel(folder / LIPS, "a SyncNet's", [(1, 3, FRAMES, SIDE, SIDE)])
    sound = OnnxModel(folder / SOUND, "a SyncNet's", [(1, 1, COEFFICIENTS, COLUMNS)])
    if lips.sizes != sound.sizes or len(lips.sizes) != 1:
        raise InputError(
            f"{folder}: {LIPS} gives {lips.sizes} values, {SOUND} {sound.sizes}; SyncNet's streams give a vector each, "
            "both of one length"
        )
    return lambda faces: lips(faces)[0], lambda coefficients: sound(coefficients)[0]


def _flax_streams(params: dict[str, Any]) -> tuple[Stream, Stream]:
    params = jax.device_put(params)

    @jax.jit
    def lips(faces):
        return SyncNet().apply({"params": params}, faces.transpose(0, 2, 3, 4, 1), method="lip")[0]

    @jax.jit
    def sound(coefficients):
        return SyncNet().apply({"params": params}, coefficients[:, 0].transpose(0, 2, 1), method="aud")[0]

    return (
        lambda faces: np.asarray(lips(np.asarray(faces, np.float32))),
        lambda coefficients: np.asarray(sound(np.asarray(coefficients, np.float32))),
    )


def _sound_vectors(model: Stream, samples: np.ndarray, first: int, stop: int) -> dict[int, np.ndarray]:
    """The vector of the sound that begins with each of these video frames, as far as there is sound."""
    first = max(first, 0)
    stop = min(stop, (len(samples) - WINDOW) // SAMPLES_PER_FRAME + 1)
    if stop <= first:
        return {}
    coefficients = mfcc(samples[first * SAMPLES_PER_FRAME : (stop - 1) * SAMPLES_PER_FRAME + WINDOW])
    step = SAMPLES_PER_FRAME // STEP
    windows = (coefficients[step * i : step * i + COLUMNS] for i in range(stop - first))
    return {first + i: model(window.T[None, None]) for i, window in enumerate(windows)}


def _squares(landmarks: np.ndarray) -> np.ndarray:
    """(T, N, 3) -> left, top, side (T, 3) of each frame's square, in image coordinates, smoothed over time."""
    from scipy.ndimage import median_filter

    low, high = landmarks[..., :2].min(1), landmarks[..., :2].max(1)
    boxes = np.concatenate([(low + high) / 2, (high - low).max(1, keepdims=True)], axis=1)
    x, y, size = median_filter(boxes, size=(SMOOTH, 1), mode="nearest").T
    side = MARGIN * size
    return np.stack([x - side / 2, y + DROP * size - side / 2, side], axis=1)


def _face(image: np.ndarray, square: np.ndarray) -> np.ndarray:
    """uint8 RGB (n, n, 3) and left, top, side -> BGR (3, 224, 224)."""
    import cv2

    half = len(image) / 2.0
    left, top, side = (square + [1.0, 1.0, 0.0]) * half
    scale = SIDE / side
    # Pixel centres are at 0.5.
    matrix = np.array([[scale, 0.0, -scale * left], [0.0, scale, -scale * top]])
    matrix[:, 2] += 0.5 * (scale - 1.0)
    face = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=(OUTSIDE,) * 3)
    return face[..., ::-1].transpose(2, 0, 1)

"""Unmarked windows of 5 s, to count false alarms: real clips, other codecs, generated and rendered heads, patterns.

A window is what the search pools: the mean luma of its frames. Most are cut, scaled and mirrored at random.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.data.video_files import read_video
from vasa_jax.evaluation.mark_attacks import coded
from vasa_jax.generation.detect import SECONDS
from vasa_jax.generation.mark_search import SIDE, small_luma

STRIDE = 5  # frames that are averaged when a clip is read
WINDOW = int(SECONDS * FPS) // STRIDE
SMALLEST_CUT = 0.6  # of each side
CODECS = ("libx264", "libx265", "libvpx-vp9", "mpeg4", "mjpeg")
SHARES = {"real clips": 10, "other codecs": 4, "generated": 2, "rendered": 2, "patterns": 2}  # of 20 windows


def read_lumas(path: Path) -> np.ndarray:
    """Returns the luma of a clip at 25 fps, float16 (N, SIDE or more, SIDE or more): means of STRIDE frames."""
    held, means = [], []
    for frame in read_video(path, fps=FPS).frames:
        held.append(small_luma(frame))
        if len(held) == STRIDE:
            means.append(np.mean(held, 0).astype(np.float16))
            held = []
    return np.stack(means or [np.mean(held, 0).astype(np.float16)])


def window_of(lumas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean (H, W), float32, of 5 s from a random start; of the whole clip where it is shorter."""
    start = int(rng.integers(0, max(len(lumas) - WINDOW, 0) + 1))
    return lumas[start : start + WINDOW].mean(0, dtype=np.float32)


def changed(luma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a window as it is (one in four) or cut, scaled to SIDE again, and mirrored or not."""
    import cv2

    if rng.random() < 0.25:
        return luma
    height, width = (int(length * rng.uniform(SMALLEST_CUT, 1)) for length in luma.shape)
    top, left = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(luma.shape, (height, width)))
    part = luma[top : top + height, left : left + width]
    factor = SIDE / min(height, width)
    size = (max(round(width * factor), SIDE), max(round(height * factor), SIDE))
    part = cv2.resize(part, size, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def drawn_pattern(rng: np.random.Generator) -> np.ndarray:
    """Returns a luma (SIDE, SIDE) of noise of a random colour, of stripes, of checks or of a gradient with noise."""
    kind = int(rng.integers(4))
    row, column = np.mgrid[:SIDE, :SIDE] / SIDE
    if kind == 0:
        spectrum = np.fft.fft2(rng.normal(size=(SIDE, SIDE)))
        size = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None]) * SIDE
        picture = np.fft.ifft2(spectrum / np.maximum(size, 1) ** rng.uniform(0, 2)).real
        picture = 128 + picture / picture.std() * rng.uniform(2, 50)
    elif kind == 1:
        picture = 128 + 60 * sum(
            np.sin(2 * np.pi * (rng.uniform(-40, 40) * row + rng.uniform(-40, 40) * column) + rng.uniform(0, 6))
            for _ in range(rng.integers(1, 4))
        )
    elif kind == 2:
        cells = rng.integers(3, 40, 2)
        picture = 40 + 170.0 * ((np.floor(row * cells[0]) + np.floor(column * cells[1])) % 2)
    else:
        picture = 255 * (rng.uniform() * row + rng.uniform() * column) / 2
        picture = picture + rng.uniform(0, 3) * rng.normal(size=row.shape)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8).astype(np.float32)


def recoded_clips(clips: Sequence[Path], limit: int = 60) -> list[np.ndarray]:
    """Returns the lumas of the first 5 s of clips, each through one of CODECS, two thirds of the way to unwatchable."""
    result = []
    for number, path in enumerate(clips[:limit]):
        frames = [frame for frame, _ in zip(read_video(path, fps=FPS).frames, range(int(SECONDS * FPS)))]
        height, width = (length // 2 * 2 for length in frames[0].shape[:2])
        shown = coded(np.stack(frames)[:, :height, :width], 28, codec=CODECS[number % len(CODECS)])
        means = [np.mean([small_luma(f) for f in shown[i : i + STRIDE]], 0) for i in range(0, len(shown), STRIDE)]
        result.append(np.stack(means).astype(np.float16))
    return result


class UnmarkedWindows(Sequence):
    """`count` windows, each (source, luma float32 (H, W)), in the proportions of SHARES; each number has its own."""

    def __init__(
        self,
        count: int,
        clips: Sequence[Path],
        generated: Sequence[np.ndarray],
        rendered: Sequence[np.ndarray],
        seed: int,
    ):
        """generated, rendered: lumas (N, H, W) of unmarked heads. A source without any leaves its share to patterns."""
        self._count, self._seed = count, seed
        self._stores = {
            "real clips": [read_lumas(path) for path in clips],
            "other codecs": recoded_clips(clips),
            "generated": generated,
            "rendered": rendered,
        }
        self._order = [name for name, share in SHARES.items() for _ in range(share)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> tuple[str, np.ndarray]:
        if not 0 <= number < self._count:
            raise IndexError(number)
        rng = np.random.default_rng((self._seed, number))
        source = self._order[number % len(self._order)]
        store = self._stores.get(source, ())
        if not store:
            return "patterns", drawn_pattern(rng)
        # Longer clips hold more windows.
        weights = np.array([max(len(lumas) - WINDOW, 0) + 1 for lumas in store], float)
        lumas = store[rng.choice(len(store), p=weights / weights.sum())]
        return source, changed(window_of(lumas, rng), rng)

"""Unmarked windows of 5 s, to count false alarms: real clips, other codecs, photographs, heads, patterns.

A window is what the search pools: the mean luma of its frames. Most are cut, scaled and mirrored at random. Such copies
of one stretch of video depend on each other. So each window names its `piece`: windows of different pieces share no
frame.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.data.image_files import read_image
from vasa_jax.data.video_files import read_video
from vasa_jax.evaluation.mark_attacks import at_rate, coded, scaled
from vasa_jax.generation.detect import SECONDS
from vasa_jax.generation.mark_search import SIDE, small_luma

STRIDE = 5  # frames that are averaged when a clip is read
WINDOW = int(SECONDS * FPS) // STRIDE
SMALLEST_CUT = 0.6  # of each side
CODECS = ("libx264", "libx265", "libvpx-vp9", "mpeg4", "mjpeg")
RATES = (25, 24, 30, 12, 50)  # frames per second
SIZES = (1.0, 0.5, 0.75, 1.5)  # of the clip, before it is coded again
QUALITIES = (23, 28, 33, 38)  # crf
# Of 20 windows; a source without any leaves its share to patterns.
SHARES = {"real clips": 5, "other codecs": 4, "photographs": 5, "generated": 1, "rendered": 2, "patterns": 3}


@dataclasses.dataclass(frozen=True)
class Window:
    """source: of SHARES; piece: what it was cut from; luma: float32 (H, W), the mean of its frames."""

    source: str
    piece: str
    luma: np.ndarray


def means(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mean luma of every STRIDE frames, uint8 (H, W, 3) each: float16 (N, H, W) at SIDE pixels."""
    small = [small_luma(frame) for frame in frames]
    return np.stack([np.mean(small[i : i + STRIDE], 0) for i in range(0, len(small), STRIDE)]).astype(np.float16)


def read_lumas(path: Path) -> np.ndarray:
    """Returns the luma of a clip at 25 fps, float16 (N, SIDE or more, SIDE or more): means of STRIDE frames."""
    held, result = [], []
    for frame in read_video(path, fps=FPS).frames:
        held.append(frame)
        if len(held) == STRIDE:
            result.append(means(held))
            held = []
    return np.concatenate(result or [means(held)])


def recoded(path: Path, number: int) -> np.ndarray:
    """Returns the lumas of the first 5 s of a clip as another codec, rate, size and quality give them."""
    frames = np.stack([frame for frame, _ in zip(read_video(path, fps=FPS).frames, range(int(SECONDS * FPS)))])
    size, rate = SIZES[number // 5 % len(SIZES)], RATES[number // 3 % len(RATES)]
    codec, crf = CODECS[number % len(CODECS)], QUALITIES[number // 7 % len(QUALITIES)]
    return means(coded(at_rate(scaled(frames, size), rate), crf, rate, codec))


def window_of(lumas: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Returns the mean (H, W), float32, of 5 s from a random start, and that start in units of 5 s, rounded down.

    The mean is of the whole clip where that is shorter.
    """
    start = int(rng.integers(0, max(len(lumas) - WINDOW, 0) + 1))
    return lumas[start : start + WINDOW].mean(0, dtype=np.float32), start // WINDOW


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
    """Returns a luma (SIDE, SIDE): noise of a random colour, stripes, checks, a gradient, or one flat colour."""
    kind = int(rng.integers(5))
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
    elif kind == 3:
        picture = 255 * (rng.uniform() * row + rng.uniform() * column) / 2
        picture = picture + rng.uniform(0, 3) * rng.normal(size=row.shape)
    else:  # the mean of 5 s: sensor noise is left of it, or nothing
        picture = rng.uniform(0, 255) + rng.choice([0, 0.5]) * rng.normal(size=row.shape)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8).astype(np.float32)


class Pieces(Sequence):
    """Lumas, each float16 (N, H, W), that are made when they are first asked for and kept in memory."""

    def __init__(self, count: int, make: Callable[[int], np.ndarray]):
        self._count, self._make, self._made = count, make, {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> np.ndarray:
        if not 0 <= number < self._count:
            raise IndexError(number)
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]


def sources(clips: Sequence[Path], photographs: Sequence[Path]) -> dict[str, Sequence[np.ndarray]]:
    """Returns the lumas that files give, by source."""
    return {
        "real clips": Pieces(len(clips), lambda number: read_lumas(clips[number])),
        "other codecs": Pieces(len(clips), lambda number: recoded(clips[number], number)),
        "photographs": Pieces(len(photographs), lambda number: means([read_image(photographs[number])])),
    }


class UnmarkedWindows(Sequence):
    """`count` windows in the proportions of SHARES; each number has its own, whatever the count."""

    def __init__(self, count: int, stores: dict[str, Sequence[np.ndarray]], seed: int):
        """stores: lumas (N, H, W), by source."""
        self._count, self._stores, self._seed = count, stores, seed
        self._order = [name for name, share in SHARES.items() for _ in range(share)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Window:
        if not 0 <= number < self._count:
            raise IndexError(number)
        rng = np.random.default_rng((self._seed, number))
        turn, place = divmod(number, len(self._order))
        source = self._order[place]
        store = self._stores.get(source, ())
        if not store:
            return Window("patterns", f"pattern {number}", drawn_pattern(rng))
        # One after the other, so that as many as can be are seen.
        which = (turn * SHARES[source] + place - self._order.index(source)) % len(store)
        luma, start = window_of(store[which], rng)
        return Window(source, f"{which} from {start}", changed(luma, rng))

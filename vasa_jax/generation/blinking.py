"""When a head blinks: random times of a given rate, a pure function of (seed, frame)."""

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.corpus.performance.blink import blink_closure, draw_blink

FRAMES_PER_MINUTE = 60 * FPS
REACH = 12  # frames; no blink is longer
REFRACTORY = 0.3  # share of the mean interval without a blink, after a blink


class Blinking:
    """Lid closure of every frame of a video. Frames can be asked for in any order and any number of times.

    Blinks are a renewal process in the number of blinks expected so far: intervals are a refractory time and a gamma
    variable of shape 2, as in the corpus, and where the rate changes they are stretched with it.

    rate_T: blinks a minute, of every frame; the last value holds on.
    """

    def __init__(self, rate_T: np.ndarray, seed: int):
        self._rate = np.asarray(rate_T, np.float64)
        self._expected = np.concatenate([[0.0], np.cumsum(self._rate / FRAMES_PER_MINUTE)])  # before each frame
        self._rng = np.random.default_rng([seed % 2**64, 1])
        self._due: list[float] = []  # expected number of blinks at each blink, in order
        self._shapes: list[tuple[float, float, float, float]] = []

    def closure(self, first: int, count: int) -> np.ndarray:
        """How far blinking shuts the lids in `count` frames from `first`, float32 (count,) in [0, 1]."""
        frames = np.arange(first, first + count)
        self._draw(self._expected_before(first + count + REACH))
        lids = np.zeros(count)
        start = np.searchsorted(self._due, self._expected_before(first - REACH))
        stop = np.searchsorted(self._due, self._expected_before(first + count + REACH))
        for due, shape in zip(self._due[start:stop], self._shapes[start:stop]):
            lids = np.maximum(lids, blink_closure(frames, self._seconds(due), *shape))
        return lids.astype(np.float32)

    def _draw(self, until: float) -> None:
        while not self._due or self._due[-1] < until:
            if self._due:
                self._due.append(self._due[-1] + REFRACTORY + (1.0 - REFRACTORY) * self._rng.gamma(2.0, 0.5))
            else:
                # A video begins at any moment of an interval, and in a long one more often than in a short one: the
                # share of moments that the refractory times have says whether the gamma variable is length-biased.
                shape = 2.0 if self._rng.random() < REFRACTORY else 3.0
                interval = REFRACTORY + (1.0 - REFRACTORY) * self._rng.gamma(shape, 0.5)
                self._due.append(interval * self._rng.random())
            self._shapes.append(draw_blink(self._rng))

    def _expected_before(self, frame: int) -> float:
        """Blinks expected before a frame; the track's last rate holds on."""
        if frame < len(self._expected):
            return float(self._expected[max(frame, 0)])
        return float(self._expected[-1] + (frame - len(self._rate)) * self._rate[-1] / FRAMES_PER_MINUTE)

    def _seconds(self, due: float) -> float:
        """The time at which so many blinks were expected."""
        if due < self._expected[-1]:
            return float(np.interp(due, self._expected, np.arange(len(self._expected)))) / FPS
        rest = (due - self._expected[-1]) * FRAMES_PER_MINUTE / self._rate[-1]
        return (len(self._rate) + rest) / FPS

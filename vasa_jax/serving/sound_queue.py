"""The sound that waits to be spoken: from a microphone as it comes, or whole files at once."""

import threading
from collections import deque

import numpy as np

from vasa_jax.serving.fragments import RATE

START = 0.1  # seconds of a microphone that must wait before it is heard: it arrives unevenly
MOST_BEHIND = 0.6  # seconds of a microphone that may wait; older ones are dropped


class SoundQueue:
    """Mono sound at `RATE`. Any thread may call."""

    def __init__(self, longest: float):
        """longest: seconds that may wait."""
        self._longest, self._lock = longest, threading.Lock()
        self._pieces: deque[np.ndarray] = deque()
        self._flowing, self._paused, self._from_microphone = False, False, False
        self._resampler = None
        self._rate = RATE
        self.waiting = 0  # samples
        self.taken = 0  # samples of sound that were heard or dropped, since the start

    @property
    def paused(self) -> bool:
        """Whether nothing is taken for now."""
        return self._paused

    @paused.setter
    def paused(self, value: bool) -> None:
        self._paused = value

    def hear(self, samples: np.ndarray, rate: int) -> None:
        """Adds what a microphone hears, float32 (N,) at `rate`; the oldest is dropped when too much waits."""
        import soxr

        with self._lock:
            if self._rate != rate:
                self._rate, self._resampler = rate, None
                if rate != RATE:
                    self._resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="MQ")
            if self._resampler:
                samples = self._resampler.resample_chunk(samples)
            self._from_microphone = True
            self._add(samples)
            if self._flowing and self.waiting > MOST_BEHIND * RATE and not self._paused:
                self._drop(self.waiting - round(START * RATE))
            elif self.waiting > self._longest * RATE:
                self._drop(self.waiting - round(self._longest * RATE))

    def say(self, samples: np.ndarray) -> bool:
        """Adds a whole sound, float32 (N,) at `RATE`; False where too much waits already."""
        with self._lock:
            if self.waiting + len(samples) > self._longest * RATE:
                return False
            self._from_microphone = False
            self._add(samples)
            return True

    def take(self, count: int) -> tuple[np.ndarray, int]:
        """Returns the next `count` samples, silence after the sound's end, and how many are sound."""
        with self._lock:
            if self._paused:
                return np.zeros(count, np.float32), 0
            if not self._flowing and self.waiting < (START * RATE if self._from_microphone else 1):
                return np.zeros(count, np.float32), 0
            got = self._drop(count)
            heard = len(got)
            self._flowing = heard == count
            return np.pad(got, (0, count - heard)), heard

    def clear(self) -> None:
        """Drops all that waits."""
        with self._lock:
            self._drop(self.waiting)
            self._flowing = False

    def _add(self, samples: np.ndarray) -> None:
        if len(samples):
            self._pieces.append(np.asarray(samples, np.float32))
            self.waiting += len(samples)

    def _drop(self, count: int) -> np.ndarray:
        """Removes and returns the oldest `count` samples, or all there are."""
        pieces, left = [], count
        while left > 0 and self._pieces:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(piece[left:])
                piece = piece[:left]
            pieces.append(piece)
            left -= len(piece)
        self.waiting -= count - left
        self.taken += count - left
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

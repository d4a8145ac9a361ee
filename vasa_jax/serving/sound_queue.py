"""The sound that waits to be spoken: from a microphone as it comes, or whole files at once."""

import threading
from collections import deque

import numpy as np

from vasa_jax.serving.fragments import RATE

RESERVE = 2  # pieces of a microphone that are held back at its start: they arrive unevenly
MOST_RESERVE = 0.1  # seconds
MOST_BEHIND = 0.6  # seconds of a microphone that may wait beside what is taken; older ones are dropped


class SoundQueue:
    """Mono sound at `RATE`. Any thread may call."""

    def __init__(self, longest: float):
        """longest: seconds that may wait."""
        self._longest, self._lock = longest, threading.Lock()
        self._pieces: deque[np.ndarray] = deque()
        self._flowing, self._paused, self._from_microphone = False, False, False
        self._resampler = None
        self._rate, self._reserve = RATE, 0
        self._said, self._unheard = 0, 0  # samples of whole sounds that wait; of a microphone meanwhile
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
        """Adds what a microphone hears, float32 (N,) at `rate`; nothing while a whole sound is said.

        The oldest is dropped when all too much waits.
        """
        import soxr

        with self._lock:
            if self._rate != rate:
                self._rate, self._resampler = rate, None
                if rate != RATE:
                    self._resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="MQ")
            if self._resampler:
                samples = self._resampler.resample_chunk(samples)
            if self._said:
                self._unheard += len(samples)
                return
            self._from_microphone = True
            self._reserve = max(self._reserve, min(RESERVE * len(samples), round(MOST_RESERVE * RATE)))
            self._add(samples)
            self._drop(max(self.waiting - round(self._longest * RATE), 0))

    def say(self, samples: np.ndarray) -> bool:
        """Adds a whole sound, float32 (N,) at `RATE`; False where too much waits already."""
        with self._lock:
            if self.waiting + len(samples) > self._longest * RATE:
                return False
            self._from_microphone, self._flowing = False, False
            self._add(samples)
            self._said += len(samples)
            return True

    def take(self, count: int, behind: float = 0.0) -> tuple[np.ndarray, int]:
        """Returns the next `count` samples, silence where there is no sound, and how many are sound.

        A microphone's begins at the end of what is taken: the next call goes on without a gap. Other sound begins at
        once.

        behind: seconds by which it is taken too late. So much more of a microphone waits, and is kept.
        """
        with self._lock:
            if self._paused:
                return np.zeros(count, np.float32), 0
            if not self._from_microphone:
                got = self._drop(count)
                return np.pad(got, (0, count - len(got))), len(got)
            late = count + round(behind * RATE)
            if self.waiting > late + MOST_BEHIND * RATE:
                self._drop(self.waiting - late - self._reserve)
            if self._flowing:
                got = self._drop(count)
                self._flowing = len(got) == count
                return np.pad(got, (0, count - len(got))), len(got)
            got = self._drop(min(max(self.waiting - self._reserve, 0), count))
            self._flowing = len(got) > 0
            return np.pad(got, (count - len(got), 0)), len(got)

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
        if self._said > self.waiting:  # whole sounds are the last that wait
            self._said = self.waiting
        if not self._said:
            self.taken, self._unheard = self.taken + self._unheard, 0
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

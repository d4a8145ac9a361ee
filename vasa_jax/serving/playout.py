"""Hops at the pace of a clock: 20 ms of sound and the picture of the moment, as WebRTC sends them.

A browser that plays fragments has its own buffer, clock and rest. Over WebRTC the server has them. It begins with a
reserve and holds the picture in silence where a hop is late. It skips idle moments where it has fallen behind,
and whatever the session skips. It shows a resting face as soon as it is interrupted.
"""

import threading
from collections import deque

import numpy as np

from vasa_jax.serving.fragments import PER_FRAME, RATE
from vasa_jax.serving.players import Hop

BLOCK = RATE // 50  # samples that are given at once
START = 0.25  # of a hop: reserve before playing begins
ENOUGH, TOO_MUCH = 0.2, 0.6  # seconds that wait when the next hop comes: silence is skipped, speech too
LOWS = 5  # hops over which that is looked at
QUIET = 0.6  # seconds of silence after which a mouth is closed


class Playout:
    """A buffer of hops. Any thread may call.

    Attributes:
      stalls: how often the next hop came too late.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._hops: deque[Hop] = deque()
        self._sound: deque[tuple[int, np.ndarray]] = deque()  # number of its first sample, samples
        self._at: int | None = None  # sample that is next; None: waits for a hop
        self._wait = 0  # blocks until playing begins
        self._lows: deque[float] = deque(maxlen=LOWS)
        self._interruption, self._portraits = 0, 0
        self._picture: np.ndarray | None = None
        self._rest: np.ndarray | None = None
        self._quiet = 0  # samples of silence that were played last
        self.stalls = 0

    def put(self, hop: Hop) -> float:
        """Takes a hop; returns the seconds until its end is played. One from before an interruption is dropped."""
        with self._lock:
            if hop.interruptions < self._interruption:
                return 0.0
            if hop.skipped:
                if self._at is not None:
                    self._go_to(hop.end * PER_FRAME)
                return 0.0
            if hop.portraits != self._portraits:
                self._portraits, self._rest, self._quiet = hop.portraits, None, 0
            if self._at is None:
                self._at = hop.first * PER_FRAME
                self._wait = round(START * (hop.end - hop.first) * PER_FRAME / BLOCK)
            else:
                self._lows.append(self._waiting())
            self._hops.append(hop)
            self._sound.append((hop.sound_from, hop.samples))
            self._catch_up()
            return self._waiting() + self._wait * BLOCK / RATE

    def interrupt(self, number: int) -> None:
        """Ends the sound at once and shows a resting face until a hop of after interruption `number` comes."""
        with self._lock:
            self._interruption = max(number, self._interruption)
            self._hops.clear(), self._sound.clear(), self._lows.clear()
            self._at, self._quiet = None, 0
            if self._rest is not None:
                self._picture = self._rest

    def next(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the next `BLOCK` samples, float32, and the picture at their beginning, None before there is one."""
        with self._lock:
            if self._at is None or self._wait > 0:
                self._wait = max(self._wait - 1, 0)
                return np.zeros(BLOCK, np.float32), self._picture
            hop = self._hops[0]
            self._picture = self._picture_of(hop)
            self._quiet = 0 if hop.speaks else self._quiet + BLOCK
            if self._quiet >= QUIET * RATE:
                self._rest = self._picture
            sound = self._sound_at(self._at)
            self._go_to(self._at + BLOCK)
            return sound, self._picture

    def _waiting(self) -> float:
        """Seconds of frames that have not been played."""
        return (self._hops[-1].end * PER_FRAME - self._at) / RATE if self._hops else 0.0

    def _catch_up(self) -> None:
        """Skips what waits beyond a reserve: idle moments, or anything where it is far too much."""
        if len(self._lows) < LOWS or (surplus := min(self._lows)) <= ENOUGH:
            return
        if self._hops[0].speaks and surplus <= TOO_MUCH:
            return
        end = (self._hops[0] if surplus <= TOO_MUCH else self._hops[-1]).end * PER_FRAME
        skipped = min(round((surplus - ENOUGH / 2) * RATE), end - self._at) // PER_FRAME * PER_FRAME
        self._lows.clear()
        self._go_to(self._at + skipped)

    def _go_to(self, sample: int) -> None:
        """Goes on there; what lies before it is dropped."""
        self._at = sample
        while self._hops and self._hops[0].end * PER_FRAME <= sample:
            self._hops.popleft()
        while self._sound and sum((self._sound[0][0], len(self._sound[0][1]))) <= sample:
            self._sound.popleft()
        if not self._hops:
            self._at, self.stalls = None, self.stalls + 1
            self._lows.clear()

    def _picture_of(self, hop: Hop) -> np.ndarray:
        frame = self._at // PER_FRAME - hop.first
        for picture, stays in zip(hop.frames, hop.shown):
            if frame < stays:
                return picture
            frame -= stays
        raise ValueError("the hop has ended")

    def _sound_at(self, begin: int) -> np.ndarray:
        sound = np.zeros(BLOCK, np.float32)
        for first, samples in self._sound:
            low, high = max(first, begin), min(first + len(samples), begin + BLOCK)
            if low < high:
                sound[low - begin : high - begin] = samples[low - first : high - first]
        return sound

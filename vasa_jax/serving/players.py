"""Where a live session's hops go: to whoever plays them, over a WebSocket or over WebRTC."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vasa_jax.serving.fragments import PER_FRAME, RATE, FragmentWriter

Send = Callable[[str | bytes], bool]  # False: the player is too slow


@dataclass(frozen=True)
class Hop:
    """What a session makes at once.

    Attributes:
      first: number of its first frame since the session's start, 25 per second.
      frames: uint8 (n, n, 3) each; `shown`: for how many of these 25 each stays.
      sound_from: number of its first sample since the start; the sound runs ahead of the frames.
      samples: float32 (N,) at `RATE`.
      speaks: whether any of it is sound that was given.
      interruptions: how often the session had been interrupted when it was begun.
      portraits: how often another portrait had been chosen.
      about: what players are told of it.
      skipped: whether nothing was made for its time, so that it is best not played.
    """

    first: int
    frames: Sequence[np.ndarray]
    shown: Sequence[int]
    sound_from: int
    samples: np.ndarray
    speaks: bool
    interruptions: int
    portraits: int
    about: dict[str, Any]
    skipped: bool = False

    @property
    def end(self) -> int:
        """Number of the first frame after it."""
        return self.first + sum(self.shown)


class Player(Protocol):
    """Takes hops from the session's thread."""

    def play(self, hop: Hop) -> bool:
        """Takes a hop; returns False where it cannot keep up."""

    def interrupt(self, number: int) -> None:
        """Hears that all hops before the session's interruption `number` are void."""


class FragmentPlayer:
    """Sends each hop as a line of JSON and a fragment of MP4, as Media Source Extensions play it."""

    def __init__(self, size: int, send: Send):
        """size: pixels per side. Says at once how it is to be played."""
        self._writer, self._send, self._begun = FragmentWriter(size), send, False
        send(json.dumps({"type": "hello", "mime": self._writer.mime, "size": size, "rate": RATE}))
        send(self._writer.start)

    def play(self, hop: Hop) -> bool:
        """Sends a hop; see `Player`."""
        samples = hop.samples
        if not self._begun:  # who comes later has missed the sound that ran ahead
            samples = np.pad(samples, (hop.sound_from - hop.first * PER_FRAME, 0))
        key = not self._begun or hop.about["interrupted"]
        self._begun = True
        frames, shown = hop.frames, hop.shown
        if not hop.skipped:  # browsers show a frame up to half of its length early or late, so none is long
            frames = [frame for frame, stays in zip(frames, shown) for _ in range(stays)]
            shown = [1] * len(frames)
        data = self._writer.fragment(hop.first, frames, shown, samples, key)
        return self._send(json.dumps(hop.about)) and self._send(data)

    def interrupt(self, number: int) -> None:
        """Does nothing: the browser holds what was sent, and drops it by itself."""

"""A held-out head in front of the generator: what it is made to do, and what the instrument reads in the result."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from vasa_jax.evaluation.figures import Figures, video_figures
from vasa_jax.evaluation.held_out import HeldOutHead
from vasa_jax.evaluation.instrument import Instrument, Measurements

WHOLE = slice(None)


class Codec(Protocol):
    """A codec that is evaluated: `vasa_jax.generation.animator.PortraitAnimator`, or anything that acts like it."""

    @property
    def image_size(self) -> int: ...

    def prepare(self, portrait: np.ndarray) -> Any:
        """uint8 (n, n, 3) to an avatar."""
        ...

    def encode_motion(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (N, n, n, 3) to pose and dynamics, float32 (N, 137)."""
        ...

    def render(self, avatar: Any, motion: np.ndarray) -> Iterator[np.ndarray]:
        """(T, 137) to batches of uint8 frames (b, n, n, 3)."""
        ...


class Generator(Codec, Protocol):
    """What is evaluated: `vasa_jax.generation.generator.VideoGenerator`, or anything that acts like it."""

    trained_controls: tuple[str, ...]  # which of gaze, distance, emotion its weights know

    def motion(self, samples: np.ndarray, avatar: Any = None, **settings: Any) -> np.ndarray:
        """16 kHz speech (640 T,) to (T, 137)."""
        ...


@dataclasses.dataclass(frozen=True)
class Take:
    """A video of a head, generated or true, and what was measured in it."""

    frames: np.ndarray  # uint8 (T, n, n, 3)
    reading: Measurements  # of T frames
    figures: Figures  # against the head's own truth


class Stage:
    """One head, its avatar, and the instrument."""

    def __init__(self, generator: Generator, instrument: Instrument, head: HeldOutHead):
        self.head = head
        self.instrument = instrument
        self.avatar = generator.prepare(head.portrait)
        self.portrait = instrument.measure(head.portrait[None])
        self._generator = generator

    def take(self, samples: np.ndarray | None = None, part: slice = WHOLE, **settings: Any) -> Take:
        """What the generator makes of a sound (the head's own unless given) with its `settings`; only `part` of the
        frames is decoded and measured."""
        samples = self.head.samples if samples is None else samples
        motion = self._generator.motion(samples, self.avatar, **settings)
        return self.watch(self.video(motion[part]), part)

    def still(self) -> Take:
        """The portrait, encoded and decoded, held for as long as the head speaks."""
        picture = self.video(self._generator.encode_motion(self.head.portrait[None]))
        held = np.zeros(len(self.head.truth["mouth"]), int)
        reading = self.instrument.measure(picture)[held]
        return Take(picture[held], reading, self._figures(reading, WHOLE))

    def watch(self, frames: np.ndarray, part: slice) -> Take:
        """Frames uint8 (T, n, n, 3), measured against the truth of `part`."""
        reading = self.instrument.measure(frames)
        return Take(frames, reading, self._figures(reading, part))

    def truth(self) -> Take:
        """The true frames, as the instrument reads them."""
        return self.watch(self.head.frames, self.head.window)

    def video(self, motion: np.ndarray) -> np.ndarray:
        """Motion (T, 137) to uint8 frames (T, n, n, 3)."""
        return np.concatenate(list(self._generator.render(self.avatar, motion)))

    def _figures(self, reading: Measurements, part: slice) -> Figures:
        return video_figures(reading, self.instrument.points, self.head, self.portrait, part)

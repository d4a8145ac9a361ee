"""Live generation with open weights: sound goes in as it comes, frames come out with the windows that make them.

JoyVASA's windows have 100 frames and share none: frames come 100 at a time, 4 s late, and are those of a file with the
same sound. Ditto's advance by 10 frames of 80, as its program streams: frames come 10 at a time, and the first needs
0.88 s of sound. Neither depends on how the sound was cut.
"""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from vasa_jax.conventions import SAMPLES_PER_FRAME, frame_count
from vasa_jax.data.speech_level import LiveLevel
from vasa_jax.errors import InputError
from vasa_jax.filling import filled_up
from vasa_jax.generation.animator import Avatar, PortraitAnimator
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.ditto import (
    BEFORE,
    CHUNK,
    CHUNK_SAMPLES,
    CHUNK_STEP,
    LIVE,
    DittoSampler,
    DrivenFace,
    following_start,
    joined,
)
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import DrivingMotion
from vasa_jax.generation.joyvasa import LEAD, JoyVASASampler, driving_of
from vasa_jax.generation.reenactment import drive, retargeting_of
from vasa_jax.generation.schedule import ConditionSchedule
from vasa_jax.generation.speech_features import as_speech
from vasa_jax.generation.watermark import Payload
from vasa_jax.generation.windows import Past, last_frames, no_past


@runtime_checkable
class MotionWindows(Protocol):
    """The motion of one portrait, window after window.

    Attributes:
      first_frame_samples: samples of sound that the first frame needs.
    """

    first_frame_samples: int

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Takes sound and returns the motion (n, D) that is due."""
        ...

    def finish(self) -> np.ndarray:
        """Ends the sound and returns the rest of its ceil(samples / 640) frames."""
        ...


class OpenStream:
    """One live stream of frames: `feed` takes sound and `finish` ends it, as those of `stream.Stream`."""

    def __init__(self, animator: PortraitAnimator, avatar: Avatar, windows: MotionWindows):
        self._animator, self._avatar, self._windows = animator, avatar, windows
        self._level, self._ended = LiveLevel(), False

    @property
    def first_frame_samples(self) -> int:
        """Returns the samples of sound that the first frame needs."""
        return self._windows.first_frame_samples

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns what is odd about the level of the latest 30 s of sound; the stream hears it as it is."""
        return self._level.notes()

    @property
    def payload(self) -> Payload | None:
        """Returns what the mark in its frames says; None = unmarked."""
        return self._avatar.payload

    def feed(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """Takes sound, 16 kHz mono (N,), see `as_speech`, and yields the frames that are due, uint8 (n, n, 3)."""
        samples = as_speech(samples, "stream")
        if self._ended:
            raise InputError("stream: sound after the end; open another stream")
        self._level.feed(samples)
        return self._frames(self._windows.feed(samples))

    def finish(self) -> Iterator[np.ndarray]:
        """Ends the sound and yields the rest of its ceil(samples / 640) frames."""
        self._ended = True
        return self._frames(self._windows.finish())

    def _frames(self, motion: np.ndarray) -> Iterator[np.ndarray]:
        for frames in self._animator.render(self._avatar, motion) if len(motion) else ():
            yield from frames


def open_windows(
    sampler: JoyVASASampler | DittoSampler, animator: PortraitAnimator, avatar: Avatar, controls: Controls, how: Driving
) -> MotionWindows:
    """Begins the motion of a portrait; InputError for what the weights cannot do live."""
    if how.driving_smoothing:
        raise InputError("config.driving_smoothing: looks at all frames of a video, a stream has not; leave it out")
    retargeting_of(animator, how)  # what eyes and lips need is missed before any sound
    kind = JoyVASAWindows if isinstance(sampler, JoyVASASampler) else DittoWindows
    return kind(sampler, animator, avatar, controls, how)


class JoyVASAWindows:
    """Implements `MotionWindows` with JoyVASA."""

    def __init__(self, sampler: JoyVASASampler, animator: PortraitAnimator, avatar: Avatar, controls: Controls, how):
        self._sampler, self._animator, self._avatar = sampler, animator, avatar
        self._controls, self._how = sampler.checked(controls), driving_of(how, controls)
        self._schedule = ConditionSchedule(controls, sampler.trained)
        self._units, net = sampler.units(controls.head_smoothing), sampler.transformer
        self._length = net.window * SAMPLES_PER_FRAME
        self._sound = np.zeros(LEAD * SAMPLES_PER_FRAME, np.float32)
        self._past, self._before = no_past(1, net.previous, net.motion_dim), None
        self._windows, self._received, self._out = 0, 0, 0
        self._first: DrivingMotion | None = None
        self.first_frame_samples = self._length - len(self._sound)

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Takes sound and returns the motion of the windows that it completes."""
        self._received += len(samples)
        self._sound = np.concatenate([self._sound, samples])
        made = [np.zeros((0, len(self._avatar.motion)), np.float32)]
        while len(self._sound) >= self._length:
            made.append(self._window(self._sound[: self._length], self._sampler.transformer.window))
            self._sound = self._sound[self._length :]
        return np.concatenate(made)

    def finish(self) -> np.ndarray:
        """Returns the motion of what is left, with silence after it."""
        left = frame_count(self._received) - self._out
        if left <= 0:
            return np.zeros((0, len(self._avatar.motion)), np.float32)
        sound = np.pad(self._sound, (0, self._length - len(self._sound)))
        return self._window(sound, left + LEAD * (self._windows == 0))

    def _window(self, sound: np.ndarray, keep: int) -> np.ndarray:
        net = self._sampler.transformer
        made, heard = self._sampler.window(
            self._past, self._windows, sound, self._before, self._controls, self._schedule
        )
        self._past = Past(last_frames(made[None], net.previous), np.ones((1,), bool))
        self._before = heard[-net.previous :]
        frames = keep - LEAD * (self._windows == 0)
        self._windows += 1
        amplitude = self._schedule.frames("pose_amplitude", self._out, frames)
        driving = self._units(made[:keep], amplitude)
        self._out += frames
        first = self._first
        if first is None:
            self._first = _frame(driving, 0)
            return drive(self._animator, self._avatar, driving, self._how)
        # Changes count from the first frame of all.
        return drive(self._animator, self._avatar, _joined(first, driving), self._how)[1:]


class DittoWindows:
    """Implements `MotionWindows` with Ditto."""

    def __init__(self, sampler: DittoSampler, animator: PortraitAnimator, avatar: Avatar, controls: Controls, how):
        self._sampler, self._controls = sampler, controls
        self._face = DrivenFace(sampler, animator, avatar, controls, how)
        self._width, self._key = len(avatar.motion), jax.random.key(controls.seed)
        self._start = self._face.source
        silence = sampler.features(np.zeros(LIVE.frames * SAMPLES_PER_FRAME, np.float32))
        self._told = self._face.conditions(silence, -LIVE.frames)  # from frame `_heard` of the windows on
        self._sound, self._received = np.zeros(BEFORE, np.float32), 0
        self._chunks, self._windows, self._out = 0, 0, 0
        self._motion: np.ndarray | None = None  # of the windows so far, without what is out
        new = sampler.transformer.window - LIVE.frames
        chunks = -(-(new + sampler.transformer.window - LIVE.frames) // CHUNK[1])
        self.first_frame_samples = (chunks - 1) * CHUNK_STEP + CHUNK_SAMPLES - BEFORE

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Takes sound and returns the motion of the frames that later windows leave alone."""
        self._received += len(samples)
        self._sound = np.concatenate([self._sound, samples])
        while len(self._sound) >= CHUNK_SAMPLES:
            self._hear(CHUNK[1])
        made, window = [np.zeros((0, self._width), np.float32)], self._sampler.transformer.window
        while len(self._told) >= window:
            made.append(self._advance(self._told[:window], window - LIVE.frames))
        return np.concatenate(made)

    def finish(self) -> np.ndarray:
        """Returns the motion of the rest, from a last window in which the last sound goes on."""
        frames = frame_count(self._received)
        while (left := frames - CHUNK[1] * self._chunks) > 0:
            self._sound = np.pad(self._sound, (0, max(CHUNK_SAMPLES - len(self._sound), 0)))
            self._hear(min(left, CHUNK[1]))
        made, window = [self.feed(np.zeros(0, np.float32))], self._sampler.transformer.window
        while (left := frames - self._out) > 0:
            made.append(self._advance(filled_up(self._told[:window], window), left))
        return np.concatenate(made)

    def _hear(self, keep: int) -> None:
        """Turns the next chunk of sound into features of `keep` frames."""
        heard = self._sampler.chunk(self._sound[:CHUNK_SAMPLES])[:keep]
        self._told = np.concatenate([self._told, self._face.conditions(heard, CHUNK[1] * self._chunks)])
        self._sound, self._chunks = self._sound[CHUNK_STEP:], self._chunks + 1

    def _advance(self, conditions: np.ndarray, keep: int) -> np.ndarray:
        """Makes the next window; returns the motion of up to `keep` frames that are done, none of the first window."""
        sampler, controls = self._sampler, self._controls
        made = sampler.window(
            conditions, self._start, self._key, self._windows, controls.steps, controls.solver, self._face.guidance
        )
        first = self._motion is None
        self._motion = joined(self._motion, made, LIVE)
        self._start = following_start(self._motion, self._face.source, LIVE)
        self._windows += 1
        new = sampler.transformer.window - LIVE.frames
        if first:
            self._face.begin(sampler.limited(self._motion[:1])[0])
        done = self._motion[len(self._motion) - new - LIVE.blended :][: 0 if first else keep]
        self._told = self._told[new:] if len(self._told) > new else self._told[-1:]
        self._motion = self._motion[-2 * sampler.transformer.window :]
        self._out += len(done)
        return self._face.motion(sampler.limited(done)) if len(done) else np.zeros((0, self._width), np.float32)


def _frame(motion: DrivingMotion, index: int) -> DrivingMotion:
    return _replaced(motion, motion.pose[index : index + 1], motion.dynamics[index : index + 1])


def _joined(first: DrivingMotion, motion: DrivingMotion) -> DrivingMotion:
    return _replaced(
        motion, np.concatenate([first.pose, motion.pose]), np.concatenate([first.dynamics, motion.dynamics])
    )


def _replaced(motion: DrivingMotion, pose: np.ndarray, dynamics: np.ndarray) -> Any:
    return DrivingMotion(pose, dynamics, motion.fps, motion.codec, absolute_lips=motion.absolute_lips)

"""Live generation: sound goes in as it comes, frames come out as soon as their hop and look-ahead are in.

    stream = generator.stream("me.jpg", hop=10)
    for samples in microphone:                # float32, 16 kHz mono, any number at a time
        for frame in stream.feed(samples):    # uint8 (n, n, 3)
            show(frame)
    for frame in stream.finish():
        show(frame)

Frames [hop i, hop (i + 1)) come from one window, which hears the frames it makes and `look_ahead` more: it runs once
the 5 ms after them are in, too (the reach of the audio encoder). A window is a pure function of the sound of its
frames and the HISTORY before, the last K motion vectors, controls and (seed, i). So frames do not depend on
how the sound was cut, and no later sound changes a frame. The offline video "with hop h" is the same bit for bit.

X_pre is the stream's own motion; A_pre and A are features of the sound heard so far (`SpeechFeatures.recent`).
"""

import dataclasses
import operator
from collections import deque
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import HISTORY, SAMPLES_PER_FRAME, TAIL, frame_count
from vasa_jax.data.speech_level import LiveLevel
from vasa_jax.errors import InputError
from vasa_jax.generation.animator import Avatar, PortraitAnimator
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.lip_guide import REACH, LipGuide
from vasa_jax.generation.sampler import MotionSampler
from vasa_jax.generation.schedule import ConditionSchedule
from vasa_jax.generation.speech_features import as_speech
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.generation.watermark import Payload
from vasa_jax.generation.windows import (
    Past,
    Window,
    last_frames,
    next_window,
    no_past,
    padded,
    stacked,
    window_conditions,
)
from vasa_jax.models.lip_reader import Voice
from vasa_jax.models.motion import MotionConditions

DEFAULT_HOP = 10  # frames: 0.4 s


class Session:
    """One portrait's side of a `StreamBatch`: its sound, and what the next window needs of the past."""

    def __init__(self, avatar: Avatar | None, schedule: ConditionSchedule, hop: int, look_ahead: int, past: Past):
        self.avatar, self.schedule, self.past = avatar, schedule, past
        self._hop, self._look_ahead = hop, look_ahead
        self._pieces: list[np.ndarray] = []  # of sound, from sample `_first`
        self._first, self._received, self._ended = 0, 0, False
        self._level = LiveLevel()
        self.voice: Voice | None = None  # of the sound so far, where the lips follow it
        self._own = np.zeros(0)  # openings of the last frames before they followed
        self.index = 0  # of the next window

    def write(self, samples: np.ndarray) -> None:
        """Adds sound, 16 kHz mono (N,), see `as_speech`. InputError for anything else, or after `end`."""
        samples = as_speech(samples, "stream")
        if self._ended:
            raise InputError("stream: sound after the end; open another stream")
        self._pieces.append(samples)
        self._level.feed(samples)
        self._received += len(samples)

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns what is odd about the level of the latest 30 s of sound; the stream hears it as it is."""
        return self._level.notes()

    def end(self) -> None:
        """Ends the sound: the last frames are due, with silence after them."""
        self._ended = True

    @property
    def due(self) -> Window | None:
        """Returns the window that can be computed now, or None."""
        received = self._received
        known = frame_count(received) if self._ended else max(received - TAIL, 0) // SAMPLES_PER_FRAME
        return next_window(self.index * self._hop, known, self._hop, self._look_ahead, self._ended)

    @property
    def finished(self) -> bool:
        """Returns whether the sound has ended and all its frames are out."""
        return self._ended and self.due is None

    def sound(self, window: Window) -> np.ndarray:
        """Returns what a window hears with the history before it, float32 (640 (HISTORY + hop + look_ahead) + TAIL,).

        Silence is before the first sample and after the last.
        """
        start = (window.start - HISTORY) * SAMPLES_PER_FRAME
        stop = (window.start + self._hop + self._look_ahead) * SAMPLES_PER_FRAME + TAIL
        held = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
        drop = max(start - self._first, 0)
        self._pieces, self._first = [held[drop:]], self._first + drop
        inside = held[drop : stop - self._first + drop]
        left = max(-start, 0)
        return np.pad(inside, (left, stop - start - left - len(inside)))

    def conditions(
        self, window: Window, features: np.ndarray, width: int, previous: int, turn: np.ndarray | None
    ) -> MotionConditions:
        """Returns the conditions of a window, a batch of one, without X_pre.

        features: (HISTORY + hop + look_ahead, audio width), of `sound`; width, previous: W and K, frames; turn: of the
        sampler for the portrait.
        """
        before = features[HISTORY - min(previous, window.start) : HISTORY]
        heard = features[HISTORY : HISTORY + window.audio]
        asked = self.schedule.conditions(window, width, turn)
        return window_conditions(heard[None], before[None], width, previous, asked)

    def with_lips(self, lips: LipGuide, sample: np.ndarray, heard: np.ndarray, first: int) -> np.ndarray:
        """Returns a window's first z-scored frames, from number `first`, with the openings heard (hop or fewer,)."""
        strength = self.schedule.frames("lips", first, len(heard))
        moved = lips.laid_on(sample, heard, strength, self._own)
        self._own = np.concatenate([self._own, lips.own(sample[: len(heard)])])[-REACH:]
        return moved

    def advance(self, kept: np.ndarray) -> None:
        """Makes the next window's z-scored motion (hop or fewer, 137) the past of the one after."""
        before = self.past.motion if self.past.known[0] else kept[None, :0]
        previous = self.past.motion.shape[1]
        motion = np.concatenate([before, kept[None]], axis=1)
        self.past = Past(last_frames(motion, previous), np.ones((1,), bool))
        self.index += 1


class StreamBatch:
    """Live streams that share a device: every call computes one window of each of up to `capacity` of them.

        batch = generator.stream_batch(capacity=16, hop=10, steps=10)
        batch.warm_up(avatars[0])
        sessions = [batch.open(avatar, emotion="happiness") for avatar in avatars]
        while serving:
            for session in sessions:
                session.write(new_samples_of(session))
            while moved := batch.advance():
                for session, frames in moved:
                    show(session, frames)

    The batch is always of size `capacity` (rows without a session repeat another one's), so nothing compiles again when
    sessions come and go. Hop, look-ahead, steps, solver and the guided conditions are the batch's; everything else is
    each session's own. `guided` are the conditions that sessions may guide: by default what `controls` guide.
    """

    def __init__(
        self,
        sampler: MotionSampler,
        animator: PortraitAnimator,
        capacity: int,
        controls: Controls,
        guided: tuple[str, ...] | None = None,
    ):
        """InputError for controls of no use, and for a hop that the transformer's window cannot hold."""
        window = sampler.transformer.window
        controls.validate("controls")
        if capacity < 1:
            raise InputError(f"stream: a capacity of {capacity}; choose at least 1")
        if not 1 <= controls.hop <= window - controls.look_ahead:
            raise InputError(
                f"config.hop: {controls.hop} with a look-ahead of {controls.look_ahead}; these weights make windows of "
                f"{window} frames: choose a hop of 1 to {window - controls.look_ahead}"
            )
        self._sampler, self._animator, self._capacity, self._controls = sampler, animator, capacity, controls
        self.guided = sampler.schedule(controls).guided if guided is None else guided
        self._sessions: deque[Session] = deque()  # the one that has waited longest first

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Returns the sessions that are not finished."""
        return tuple(session for session in self._sessions if not session.finished)

    @property
    def first_frame_samples(self) -> int:
        """Returns the samples of sound that the first frame needs."""
        return (self._controls.hop + self._controls.look_ahead) * SAMPLES_PER_FRAME + TAIL

    def open(self, avatar: Avatar | None, controls: Controls | None = None, **changes: Any) -> Session:
        """Returns a session with its own controls.

        controls: default: the batch's; `changes` are fields of `Controls`, over those. InputError if they need what the
        batch cannot do.
        """
        own, shared = dataclasses.replace(controls or self._controls, **changes), self._controls
        schedule = self._sampler.schedule(own)
        for name in ("hop", "look_ahead", "steps", "solver"):
            if getattr(own, name) != getattr(shared, name):
                raise InputError(
                    f"controls.{name}: {getattr(own, name)}, the batch has {getattr(shared, name)}; use that"
                )
        for name in schedule.guided:
            if name not in self.guided:
                raise InputError(f"controls.{name}_guidance: the batch does not guide it; open it with guided={name}")
        transformer = self._sampler.transformer
        past = no_past(1, transformer.previous, transformer.motion_dim)
        session = Session(avatar, schedule, shared.hop, shared.look_ahead, past)
        self._sessions.append(session)
        return session

    def warm_up(self, avatar: Avatar) -> None:
        """Compiles everything by a window that nobody sees, so that no session's first frame waits for it."""
        sessions, self._sessions = self._sessions, deque()
        self.open(avatar).write(np.zeros(self.first_frame_samples, np.float32))
        self.advance()
        self._sessions = sessions

    def advance(self) -> list[tuple[Session, np.ndarray]]:
        """Makes the next window of up to `capacity` sessions whose sound is in, those that waited longest first.

        Each with its frames, uint8 (hop or fewer at its end, n, n, 3); empty when nothing is due.
        """
        moved, pictures = self.advance_motion(), []
        for session, motion in moved:
            frames = self._animator.decode(session.avatar, motion, self._controls.hop)
            frames.copy_to_host_async()  # leaves the device while the next session's are computed
            pictures.append(frames)
        return [
            (session, np.asarray(frames)[: len(motion)])
            for (session, motion), frames in zip(moved, pictures)
        ]  # fmt: skip

    def advance_motion(self) -> list[tuple[Session, np.ndarray]]:
        """Advances without images: each session with the motion of its frames, float32 (hop or fewer, 137)."""
        self._sessions = deque(self.sessions)
        due = [(session, window) for session in self._sessions if (window := session.due)][: self._capacity]
        if not due:
            return []
        sampler, previous = self._sampler, self._sampler.transformer.previous
        sounds = self._padded([session.sound(window) for session, window in due])
        features = sampler.speech.recent(sounds)
        rows = [
            session.conditions(
                window, heard, sampler.transformer.window, previous, sampler.turn(session.schedule, session.avatar)
            )
            for (session, window), heard in zip(due, features)
        ]
        past, conditions = (
            jax.tree.map(lambda rows: rows[:, 0], stacked(parts, self._capacity))
            for parts in ([session.past for session, _ in due], rows)
        )
        scales = [session.schedule.guidance(window.centre, self.guided) for session, window in due]
        guidance = {
            name: self._padded([np.float32(scale[name]) for scale in scales])[None, :, None, None]
            for name in self.guided
        }
        seeds = self._padded([np.uint32(session.schedule.controls.seed) for session, _ in due])
        keys = _window_keys(seeds, self._padded([np.uint32(session.index) for session, _ in due]))
        # The same program as offline, of one window: nothing after it is known.
        keep, conditions = np.full((1,), self._controls.hop), jax.tree.map(lambda leaf: leaf[None], conditions)
        samples = sampler.sample_windows(past, 1, keep, keys[None], conditions, guidance, self._controls)
        openings = self._openings([session for session, _ in due], sounds)
        result = []
        for (session, window), sample, heard in zip(due, np.asarray(samples)[0], openings):
            kept = sample[: window.keep]
            session.advance(kept)
            if heard is not None:
                kept = session.with_lips(sampler.lips, sample, heard[: window.keep], window.start)
            motion = sampler.finish(kept, window.start, session.schedule, session.avatar)
            result.append((session, motion))
            self._sessions.remove(session)
            self._sessions.append(session)
        return result

    def _openings(self, sessions: list[Session], sounds: np.ndarray) -> list[np.ndarray | None]:
        """What the lip reader hears in the next hop of each session, (hop,); None where its lips do not follow."""
        lips = self._sampler.lips
        following = [self._sampler.guides_lips(session.schedule.controls) for session in sessions]
        if not any(following):
            return [None] * len(sessions)
        voices = [lips.no_voice() if session.voice is None else session.voice for session in sessions]
        kept = jax.tree.map(lambda *rows: self._padded(list(rows)), *voices)
        heard, kept = lips.recent(sounds, kept, self._controls.hop, self._controls.look_ahead)
        for row, session in enumerate(sessions):
            session.voice = jax.tree.map(operator.itemgetter(row), kept)
        return [opening if follows else None for opening, follows in zip(heard, following)]

    def whole_motion(
        self, samples: np.ndarray, avatar: Avatar | None = None, watch: Watch = unwatched
    ) -> np.ndarray:
        """Returns the motion (ceil(N / 640), 137) of a whole sound (N,), as a stream makes it.

        watch: sees the windows pass.
        """
        session = self.open(avatar)
        session.write(samples)
        session.end()
        motion = [np.zeros((0, self._sampler.transformer.motion_dim), np.float32)]
        windows = -(-frame_count(len(samples)) // self._controls.hop)
        for moved in watch(iter(self.advance_motion, []), windows):
            motion += [part for _, part in moved]
        return np.concatenate(motion)

    def _padded(self, rows: list) -> np.ndarray:
        """Stacked to `capacity` rows; the first one fills the rest."""
        return padded(rows, self._capacity)


class Stream:
    """One live stream: `feed` takes sound and `finish` ends it; both give the frames that are due, one by one.

    Sound is taken in at once; frames are computed as they are read, and what is not read comes with the next call.
    Everything is compiled when the stream is opened.
    """

    def __init__(self, batch: StreamBatch, session: Session):
        self._batch, self._session = batch, session
        self._ready: deque[np.ndarray] = deque()

    @property
    def first_frame_samples(self) -> int:
        """Returns the samples of sound that the first frame needs."""
        return self._batch.first_frame_samples

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns what is odd about the level of the latest 30 s of sound; the stream hears it as it is."""
        return self._session.notes

    @property
    def payload(self) -> Payload | None:
        """Returns what the mark in its frames says; None = unmarked."""
        return self._session.avatar.payload

    def feed(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """Takes sound, 16 kHz mono (N,), see `as_speech`, and yields the frames that are due, uint8 (n, n, 3)."""
        self._session.write(samples)
        return self._frames()

    def finish(self) -> Iterator[np.ndarray]:
        """Ends the sound and yields the rest of its ceil(samples / 640) frames."""
        self._session.end()
        return self._frames()

    def _frames(self) -> Iterator[np.ndarray]:
        while True:
            while self._ready:
                yield self._ready.popleft()
            moved = self._batch.advance()
            if not moved:
                return
            self._ready.extend(moved[0][1])


@jax.jit
def _window_keys(seeds: jax.Array, indices: jax.Array) -> jax.Array:
    """One key per row: the seed's, folded with the number of the window."""
    return jax.vmap(lambda seed, index: jax.random.fold_in(jax.random.key(seed), index))(
        seeds.astype(jnp.uint32), indices
    )

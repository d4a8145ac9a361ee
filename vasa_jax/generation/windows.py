"""Speech of any length to motion, window after window (VASA-1, section 3.3)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.diffusion import VASADiffusion
from vasa_jax.models.motion import MotionConditions, VASADiffusionTransformer


@dataclasses.dataclass(frozen=True)
class Window:
    """Frames [start, start + keep) of a sequence come from this window, which hears [start, start + audio)."""

    start: int
    keep: int
    audio: int

    @property
    def centre(self) -> int:
        """The middle of the frames that it keeps: where its controls are read."""
        return self.start + self.keep // 2


def next_window(start: int, known: int, hop: int, look_ahead: int = 0, ended: bool = True) -> Window | None:
    """The window that makes frame `start`, or None while its sound is not in.

    It keeps `hop` frames and hears `hop + look_ahead`, once the sound of so many is known; at the end of the sound,
    what is left. So a frame never depends on later sound.
    """
    left = known - start
    if left <= 0 or (left < hop + look_ahead and not ended):
        return None
    return Window(start, min(hop, left), min(hop + look_ahead, left))


def plan(frames: int, window: int) -> tuple[Window, ...]:
    """Windows of `window` frames that together keep every frame of [0, frames) exactly once, in order."""
    return tuple(next_window(start, frames, window) for start in range(0, frames, window))


def last_frames(sequence: Float[np.ndarray, "batch time dim"], count: int) -> Float[np.ndarray, "batch count dim"]:
    """The last `count` frames; where there are fewer, the first is held before them. At least one frame is needed."""
    missing = max(count - sequence.shape[1], 0)
    tail = sequence[:, max(sequence.shape[1] - count, 0) :]
    return np.concatenate([np.repeat(tail[:, :1], missing, axis=1), tail], axis=1)


def window_conditions(
    heard: Float[np.ndarray, "batch audio audio_dim"],
    before: Float[np.ndarray, "batch audio_before audio_dim"],
    motion: Float[np.ndarray, "batch time motion_dim"],
    window: int,
    previous: int,
    controls: dict[str, np.ndarray],
) -> MotionConditions:
    """Conditions of one window: its audio padded to W frames and masked, and the last K frames before it.

    Host arrays, so that nothing but the sampler itself is ever compiled.

    Args:
      heard: 25 Hz features of the frames that the window hears, at most W.
      before: features of the frames before it; the last K are used. None of them: this is the first window.
      motion: z-scored motion of the frames before it; as many as `before`, or more than K.
      window, previous: W and K, frames.
      controls: gaze (B, 2), distance (B, 1), emotion (B, 8) and gaze_mask, distance_mask, emotion_mask (B,).
    """
    batch, length, audio_dim = heard.shape
    audio = np.zeros((batch, window, audio_dim), np.float32)
    audio[:, :length] = heard
    if before.shape[1]:
        prev_motion, prev_audio = last_frames(motion, previous), last_frames(before, previous)
    else:
        prev_motion = np.zeros((batch, previous, motion.shape[-1]), np.float32)
        prev_audio = np.zeros((batch, previous, audio_dim), np.float32)
    return MotionConditions(
        audio=audio,
        prev_motion=prev_motion,
        prev_audio=prev_audio,
        audio_mask=np.broadcast_to(np.arange(window) < length, (batch, window)),
        prev_mask=np.full((batch,), before.shape[1] > 0),
        **controls,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def sample_window(
    model: VASADiffusionTransformer,
    diffusion: VASADiffusion,
    steps: int,
    solver: str,
    params: dict,
    key: jax.Array,
    conditions: MotionConditions,
    guidance: Mapping[str, float | Array],
) -> Float[Array, "batch window motion_dim"]:
    """`VASADiffusion.sample_window` of a network, compiled once per network, steps, solver, batch size and set of
    guided conditions: code is shared by all generators of a process; scales and everything else are traced."""

    def apply(params, noisy, t, conditions):
        return model.apply({"params": params}, noisy, t, conditions)

    return diffusion.sample_window(apply, params, key, conditions, steps, guidance, solver)


def sample_sequence(
    sampler: Callable[[jax.Array, MotionConditions, int], Array],
    key: jax.Array,
    audio: Float[np.ndarray, "batch frames audio_dim"],
    controls: Callable[[int], dict[str, np.ndarray]],
    *,
    window: int,
    previous: int,
    motion_dim: int,
) -> Float[np.ndarray, "batch frames motion_dim"]:
    """Motion of a whole sequence in windows of W frames, z-scored float32.

    Every window goes through the one `sampler(key, conditions, centre)` with the controls at its middle frame `centre`.
    All shapes that reach it are fixed by W, K and the batch size, so a jitted one compiles once for any number of
    frames. Window i gets the key folded with i; the first has null X_pre and A_pre.
    """
    audio = np.asarray(audio, np.float32)
    batch, frames, _ = audio.shape
    motion = np.zeros((batch, frames, motion_dim), np.float32)
    for index, part in enumerate(plan(frames, window)):
        heard, before = audio[:, part.start : part.start + part.audio], audio[:, : part.start]
        conditions = window_conditions(
            heard, before, motion[:, : part.start], window, previous, controls(part.centre)
        )  # fmt: skip
        sample = np.asarray(sampler(jax.random.fold_in(key, index), conditions, part.centre))
        motion[:, part.start : part.start + part.keep] = sample[:, : part.keep]
    return motion

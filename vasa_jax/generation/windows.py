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


def plan(frames: int, window: int, hop: int | None = None, look_ahead: int = 0) -> tuple[Window, ...]:
    """Windows that together keep every frame of [0, frames) exactly once, in order.

    Each window keeps its first `hop` frames (default: all W = `window`) and hears at most `hop + look_ahead` of them: a
    frame never depends on later sound, so a live stream with this hop makes the same windows.

    Raises:
      ValueError: frames < 0, hop < 1, look_ahead < 0, or hop + look_ahead > window.
    """
    hop = window if hop is None else hop
    if frames < 0 or hop < 1 or look_ahead < 0 or hop + look_ahead > window:
        raise ValueError(
            f"need frames >= 0, hop >= 1, look_ahead >= 0 and hop + look_ahead <= window; got frames={frames}, "
            f"hop={hop}, look_ahead={look_ahead}, window={window}"
        )
    return tuple(
        Window(start, min(hop, frames - start), min(hop + look_ahead, frames - start))
        for start in range(0, frames, hop)
    )


def last_frames(sequence: Float[np.ndarray, "batch time dim"], count: int) -> Float[np.ndarray, "batch count dim"]:
    """The last `count` frames; where there are fewer, the first is held before them. At least one frame is needed."""
    missing = max(count - sequence.shape[1], 0)
    tail = sequence[:, max(sequence.shape[1] - count, 0) :]
    return np.concatenate([np.repeat(tail[:, :1], missing, axis=1), tail], axis=1)


def window_conditions(
    part: Window,
    audio: Float[np.ndarray, "batch frames audio_dim"],
    window: int,
    previous: int,
    motion: Float[np.ndarray, "batch time motion_dim"],
    controls: dict[str, Array],
) -> MotionConditions:
    """Conditions of one window: its audio padded to W frames and masked, and the last K frames before it.

    Host arrays, so that nothing but the sampler itself is ever compiled.

    Args:
      part: the window; audio beyond its `audio` frames is not read.
      audio: 25 Hz features of the whole sequence, or of its first `part.start + part.audio` frames.
      window, previous: W and K, frames.
      motion: z-scored motion of the frames before `part.start` (at least the last K of them); may hold 0 frames.
      controls: gaze (B, 2), distance (B, 1), emotion (B, 8) and gaze_mask, distance_mask, emotion_mask (B,).
    """
    batch, _, audio_dim = audio.shape
    heard = np.zeros((batch, window, audio_dim), np.float32)
    heard[:, : part.audio] = audio[:, part.start : part.start + part.audio]
    if part.start == 0:
        prev_motion = np.zeros((batch, previous, motion.shape[-1]), np.float32)
        prev_audio = np.zeros((batch, previous, audio_dim), np.float32)
    else:
        prev_motion = last_frames(motion, previous)
        prev_audio = last_frames(audio[:, max(part.start - previous, 0) : part.start], previous)
    return MotionConditions(
        audio=heard,
        prev_motion=prev_motion,
        prev_audio=prev_audio,
        audio_mask=np.broadcast_to(np.arange(window) < part.audio, (batch, window)),
        prev_mask=np.full((batch,), part.start > 0),
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
    sampler: Callable[[jax.Array, MotionConditions], Array],
    key: jax.Array,
    audio: Float[np.ndarray, "batch frames audio_dim"],
    controls: dict[str, Array],
    *,
    window: int,
    previous: int,
    motion_dim: int,
    hop: int | None = None,
    look_ahead: int = 0,
) -> Float[np.ndarray, "batch frames motion_dim"]:
    """Motion of a whole sequence, z-scored float32; every window goes through the one `sampler(key, conditions)`.

    All shapes that reach `sampler` are fixed by W, K and the batch size, so a jitted one compiles once for any
    number of frames. Window i gets the key folded with i; the first has null X_pre and A_pre.
    """
    audio = np.asarray(audio, np.float32)
    batch, frames, _ = audio.shape
    motion = np.zeros((batch, frames, motion_dim), np.float32)
    for index, part in enumerate(plan(frames, window, hop, look_ahead)):
        conditions = window_conditions(part, audio, window, previous, motion[:, : part.start], controls)
        sample = np.asarray(sampler(jax.random.fold_in(key, index), conditions))
        motion[:, part.start : part.start + part.keep] = sample[:, : part.keep]
    return motion

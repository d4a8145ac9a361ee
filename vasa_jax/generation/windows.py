"""Speech of any length to motion, window after window (VASA-1, section 3.3)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vasa_jax.diffusion import NoiseKeys, VASADiffusion
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.models.fused_attention import has_fused_attention
from vasa_jax.models.joyvasa import JoyVASATransformer
from vasa_jax.models.motion import MotionConditions, VASADiffusionTransformer

AT_ONCE = 8  # windows of one call, offline; one by one where they are watched


class Past(NamedTuple):
    """X_pre of the next window."""

    motion: Float[Array, "batch previous motion_dim"]  # z-scored; where there were fewer frames, the first is held
    known: Bool[Array, "batch"]  # whether there were any


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
    """Returns the window that makes frame `start`, or None while its sound is not in.

    It keeps `hop` frames and hears `hop + look_ahead`, once the sound of so many is known; at the end of the sound,
    what is left. So a frame never depends on later sound.
    """
    left = known - start
    if left <= 0 or (left < hop + look_ahead and not ended):
        return None
    return Window(start, min(hop, left), min(hop + look_ahead, left))


def plan(frames: int, window: int) -> tuple[Window, ...]:
    """Returns windows of `window` frames that together keep every frame of [0, frames) exactly once, in order."""
    return tuple(next_window(start, frames, window) for start in range(0, frames, window))


def last_frames(sequence: Float[np.ndarray, "batch time dim"], count: int) -> Float[np.ndarray, "batch count dim"]:
    """Returns the last `count` frames; where there are fewer, the first is held before them. Needs at least one."""
    missing = max(count - sequence.shape[1], 0)
    tail = sequence[:, max(sequence.shape[1] - count, 0) :]
    return np.concatenate([np.repeat(tail[:, :1], missing, axis=1), tail], axis=1)


def no_past(batch: int, previous: int, motion_dim: int) -> Past:
    """Returns the past before the first window: null X_pre and A_pre."""
    return Past(np.zeros((batch, previous, motion_dim), np.float32), np.zeros((batch,), bool))


def window_conditions(
    heard: Float[np.ndarray, "batch audio audio_dim"],
    before: Float[np.ndarray, "batch audio_before audio_dim"],
    window: int,
    previous: int,
    controls: Mapping[str, Array],
) -> MotionConditions:
    """Returns a window's conditions but X_pre: its audio padded to W frames and masked, and that of K frames before.

    Host arrays, so that nothing but the sampler itself is ever compiled.

    Args:
      heard: 25 Hz features of the frames that the window hears, at most W.
      before: features of the frames before it; the last K are used. None of them: this is the first window.
      window, previous: W and K, frames.
      controls: gaze (B, 2), distance (B, 1), emotion (B, 8) and gaze_mask, distance_mask, emotion_mask (B,); perhaps
        blinks (B, W) and blinks_mask (B,).
    """
    batch, length, audio_dim = heard.shape
    audio = np.zeros((batch, window, audio_dim), np.float32)
    audio[:, :length] = heard
    known = before.shape[1] > 0
    return MotionConditions(
        audio=audio,
        prev_motion=None,
        prev_audio=last_frames(before, previous) if known else np.zeros((batch, previous, audio_dim), np.float32),
        audio_mask=np.broadcast_to(np.arange(window) < length, (batch, window)),
        prev_mask=None,
        **controls,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def sample_windows(
    model: VASADiffusionTransformer | JoyVASATransformer,
    diffusion: VASADiffusion,
    steps: int,
    solver: str,
    params: dict,
    past: Past,
    count: Int[Array, ""],
    keep: Int[Array, "windows"],
    keys: Array | NoiseKeys,
    conditions: MotionConditions,
    guidance: Mapping[str, Float[Array, "windows ..."]],
) -> Float[Array, "windows batch window motion_dim"]:
    """Samples motion of windows that follow one another, z-scored: one scan over windows, in each the solver's steps.

    Compiled once per network, steps, solver, batch size, number of windows and set of guided conditions: code is shared
    by all generators of a process.

    Args:
      params: of the network; those that `cast_products` made for its type save the casts in every window.
      past: X_pre of the first.
      count: how many of the windows are wanted; the others are zeros and cost nothing.
      keep: frames of each window that the next one follows; its X_pre is the last K of them and of those before.
      keys: (windows,) or (windows, batch); perhaps apart for the first noise and that of the steps.
      conditions: of each window, without X_pre; leading axis: the windows.
      guidance: scales of each window, (windows,) or broadcasting to (windows, batch, W, D).
    """

    model = model.clone(fused=has_fused_attention(model.dtype, model.tokens, model.width // model.heads))

    def prepare(params, conditions):
        return model.apply({"params": params}, conditions, method="context")

    def apply(params, noisy, t, context):
        return model.apply({"params": params}, noisy, t, context, method="denoise")

    def window(carry, given):
        index, past = carry
        keep, key, conditions, scales = given

        def wanted(past):
            known = conditions._replace(prev_motion=past.motion, prev_mask=past.known)
            motion = diffusion.sample_window(apply, params, key, known, steps, scales, solver, prepare)
            held = jnp.where(past.known[:, None, None], past.motion, motion[:, :1])
            joined = jnp.concatenate([held, motion], axis=1)
            last = jax.lax.dynamic_slice_in_dim(joined, keep, model.previous, axis=1)
            return Past(last, jnp.ones_like(past.known)), motion

        def idle(past):
            return past, jnp.zeros((past.motion.shape[0], model.window, model.motion_dim), past.motion.dtype)

        past, motion = jax.lax.cond(index < count, wanted, idle, past)
        return (index + 1, past), motion

    given = (keep, keys, conditions, dict(guidance))
    return jax.lax.scan(window, (jnp.zeros_like(count), past), given)[1]


def sample_sequence(
    sampler: Callable[[Past, int, np.ndarray, jax.Array, MotionConditions, list[int]], Array],
    key: jax.Array,
    audio: Float[np.ndarray, "batch frames audio_dim"],
    controls: Callable[[Window, int], dict[str, np.ndarray]],
    *,
    window: int,
    previous: int,
    motion_dim: int,
    watch: Watch = unwatched,
) -> Float[np.ndarray, "batch frames motion_dim"]:
    """Samples motion of a whole sequence in windows of W frames, z-scored float32.

    AT_ONCE windows at a time go through the one `sampler(past, count, keep, keys, conditions, centres)` with
    `controls(part, W)`; `centres` are the windows' middle frames. All shapes that reach it are fixed by W, K and the
    batch size, so a jitted one compiles once for any number of frames. Window i gets the key folded with i; the first
    has null X_pre and A_pre. Who watches sees window after window pass; the motion is the same.
    """
    audio = np.asarray(audio, np.float32)
    batch, frames, _ = audio.shape
    motion = np.zeros((batch, frames, motion_dim), np.float32)
    past, parts = no_past(batch, previous, motion_dim), plan(frames, window)
    calls = range(0, len(parts), AT_ONCE if watch is unwatched else 1)
    for first in watch(iter(calls), len(calls)):
        due = parts[first : first + calls.step]
        asked = [
            window_conditions(
                audio[:, part.start : part.start + part.audio], audio[:, : part.start], window, previous,
                controls(part, window),
            )
            for part in due
        ]  # fmt: skip
        keys = _folded(key, np.arange(first, first + AT_ONCE, dtype=np.uint32))
        keep, centres = (padded([getattr(part, name) for part in due], AT_ONCE) for name in ("keep", "centre"))
        samples = np.asarray(sampler(past, len(due), keep, keys, stacked(asked, AT_ONCE), centres.tolist()))
        for part, sample in zip(due, samples):
            motion[:, part.start : part.start + part.keep] = sample[:, : part.keep]
        so_far = motion[:, : due[-1].start + due[-1].keep]
        past = Past(last_frames(so_far, previous), np.ones((batch,), bool))
    return motion


def padded(rows: list, count: int) -> np.ndarray:
    """Stacks rows to `count`; the first one fills the rest."""
    return np.stack(rows + [rows[0]] * (count - len(rows)))


def stacked(rows: list, count: int) -> Any:
    """Stacks trees to `count`, leaf by leaf; the first one fills the rest."""
    return jax.tree.map(lambda *leaves: padded(list(leaves), count), *rows)


@jax.jit
def _folded(key: jax.Array, numbers: jax.Array) -> jax.Array:
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)

"""Cuts training windows of stage 2 at random from a set of motion latents that lies on the device."""

import jax
import jax.numpy as jnp

from vasa_jax.conventions import HISTORY, SAMPLES_PER_FRAME, TAIL
from vasa_jax.corpus.clip_set import FRAMES
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.generation.schedule import control_conditions
from vasa_jax.models.audio import pair_mean
from vasa_jax.rng import named_key
from vasa_jax.training.processes import ProcessPart
from vasa_jax.training.tasks.motion_data import Ear, MotionSet


class MotionWindows(StepIterator):
    """Draws random windows (X_pre, A_pre, X, A and labels) of a motion set.

    As part of P processes it draws batch_size / P examples from clips that no other process draws from. `unrolled` adds
    the window that follows each, as a stream with a random hop of K to W frames would come to it: `hop` (B,),
    `next_motion`, `next_blinks`, `next_audio` and `next_prev_audio`.

    An `ear` makes the first examples of each batch hear what a live stream hears: features of `heard` frames (B,) and
    of the HISTORY before them alone, instead of those cut from the whole clip's, A_pre among them.

    Raises:
        InputError: a clip is too short for a window and the frames before it.
    """

    def __init__(
        self,
        motion_set: MotionSet,
        mean,
        std,
        window: int,
        previous: int,
        batch_size: int,
        seed: int,
        part: ProcessPart | None = None,
        unrolled: bool = False,
        ear: Ear | None = None,
    ):
        if window + previous > FRAMES:
            raise InputError(
                f"config.motion.window: {window} frames after {previous} do not fit into clips of {FRAMES}; "
                f"choose config.motion.window up to {FRAMES - previous}"
            )
        self._set = {
            "motion": (motion_set.motion - mean) / std,
            "audio": motion_set.audio,
            "blinks": motion_set.blinks,
            **control_conditions(motion_set.gaze, motion_set.distance, motion_set.emotion),
        }
        self._ear = None
        if ear is not None:
            self._ear = ear._replace(params=None)  # the parameters are an argument of the compiled code
            self._set |= {"samples": motion_set.samples, "ear": ear.params}
        self._part = part or ProcessPart(batch_size, len(motion_set.motion), 0, 1)
        self._window, self._previous, self._batch = window, previous, self._part.batch
        self._unrolled = unrolled
        self._key = self._part.key(named_key(seed, "motion windows"))
        self._draw = jax.jit(self._drawn)

    def batch(self, step: int) -> dict[str, jax.Array]:
        """Returns the windows of a step: motion (B, W, 137), z-scored, audio (B, W, C), prev_motion (B, K, 137), ..."""
        return self._draw(self._set, step)

    def places(self, step: int) -> tuple[jax.Array, jax.Array]:
        """Returns (clip number, first frame of the window), (B,) each, of the examples of a step's batch."""
        clip, _, start, _, _ = self._places(step, self._set["audio"].shape[1])
        return clip, start

    def _places(self, step, voices):
        """Clip, voice, first frame, hop and whether nothing is before it, of each example: (B,) each."""
        keys = jax.random.split(jax.random.fold_in(self._key, step), 4)
        which = self._part.draw_clips(keys[0])
        voice = jax.random.randint(keys[1], (self._batch,), 0, voices)
        # A third of the windows open a clip, as the first window of a video does; they have nothing before them.
        opening = jax.random.bernoulli(keys[2], 1 / 3, (self._batch,))
        start = jax.random.randint(keys[3], (self._batch,), self._previous, FRAMES - self._window + 1)
        hop = jnp.zeros_like(start)
        if self._unrolled:
            hop_key, start_key = jax.random.split(keys[3])
            longest = min(self._window, FRAMES - self._window)
            hop = jax.random.randint(hop_key, (self._batch,), self._previous, longest + 1)
            latest = FRAMES - self._window - hop
            stop = jnp.maximum(latest, self._previous) + 1
            start = jax.random.randint(start_key, (self._batch,), self._previous, stop)
            opening |= latest < self._previous
        return which, voice, jnp.where(opening, 0, start), hop, opening

    def _drawn(self, arrays, step):
        which, voice, start, hop, opening = self._places(step, arrays["audio"].shape[1])

        def cut(clip, voice, start, hop):
            def part(x, first, length):
                return jax.lax.dynamic_slice_in_dim(x, jnp.maximum(first, 0), length)

            motion, audio = arrays["motion"][clip], arrays["audio"][clip, voice].astype(jnp.float32)
            blinks = arrays["blinks"][clip]
            windows = {
                "motion": part(motion, start, self._window),
                "audio": part(audio, start, self._window),
                "blinks": part(blinks, start, self._window),
                "prev_motion": part(motion, start - self._previous, self._previous),
                "prev_audio": part(audio, start - self._previous, self._previous),
            }
            if self._unrolled:
                windows |= {
                    "hop": hop,
                    "next_motion": part(motion, start + hop, self._window),
                    "next_blinks": part(blinks, start + hop, self._window),
                    "next_audio": part(audio, start + hop, self._window),
                    "next_prev_audio": part(audio, start + hop - self._previous, self._previous),
                }
            return windows

        windows = jax.vmap(cut)(which, voice, start, hop)
        if self._ear:
            windows |= self._live(arrays, which, voice, start, windows["audio"], windows["prev_audio"])
        labels = {name: arrays[name][which] for name in ("gaze", "distance", "emotion")}
        return {**windows, **labels, "prev_mask": ~opening}

    def _live(self, arrays, which, voice, start, audio, prev_audio):
        """The audio of a batch with that of the live examples in its place, and how many frames each hears."""
        heard = jnp.full((self._batch,), self._window)
        rows = int(self._batch * self._ear.share / len(self._ear.frames))
        for number, frames in enumerate(self._ear.frames):
            part = slice(number * rows, (number + 1) * rows)
            length = (HISTORY + frames) * SAMPLES_PER_FRAME + TAIL

            def cut(clip, voice, start, length=length):
                silence = HISTORY * SAMPLES_PER_FRAME
                sound = jnp.pad(arrays["samples"][clip, voice], (silence, 0))
                return jax.lax.dynamic_slice_in_dim(sound, start * SAMPLES_PER_FRAME, length)

            sound = jax.vmap(cut)(which[part], voice[part], start[part]).astype(jnp.float32) / 32767.0
            features = pair_mean(self._ear.encoder.apply({"params": arrays["ear"]}, sound))
            audio = audio.at[part, :frames].set(features[:, HISTORY:])
            prev_audio = prev_audio.at[part].set(features[:, HISTORY - self._previous : HISTORY])
            heard = heard.at[part].set(frames)
        return {"audio": audio, "prev_audio": prev_audio, "heard": heard}

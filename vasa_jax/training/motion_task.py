"""Stage 2: the diffusion transformer learns motion latents from speech (VASA-1 section 3.2)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, MotionConfig
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.data.synthetic.bank import named_key
from vasa_jax.data.synthetic.clip_set import FRAMES, ClipSet
from vasa_jax.diffusion import VASADiffusion, drop_conditions
from vasa_jax.generation.controls import control_conditions
from vasa_jax.generation.pretrained import load_part
from vasa_jax.models.motion import MOTION_VARIANTS, MotionConditions, VASADiffusionTransformer
from vasa_jax.training.motion_set import MotionExtractor, MotionSet, statistics
from vasa_jax.training.precision import compute_dtype
from vasa_jax.training.process_part import ProcessPart

HELD_OUT_CLIPS = 32


class MotionWindows(StepIterator):
    """Iterator of random windows (X_pre, A_pre, X, A and labels) of a motion set.

    As part of P processes it draws batch_size / P examples from clips that no other process draws from.
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
    ):
        self._set = {
            "motion": (motion_set.motion - mean) / std,
            "audio": motion_set.audio,
            **control_conditions(motion_set.gaze, motion_set.distance, motion_set.emotion),
        }
        self._part = part or ProcessPart(batch_size, len(motion_set.motion), 0, 1)
        self._window, self._previous, self._batch = window, previous, self._part.batch
        self._key = self._part.key(named_key(seed, "motion windows"))

    def batch(self, step: int) -> dict[str, jax.Array]:
        return self._draw(self._set, step)

    @functools.partial(jax.jit, static_argnums=0)
    def _draw(self, arrays, step):
        keys = jax.random.split(jax.random.fold_in(self._key, step), 4)
        voices = arrays["audio"].shape[1]
        which = self._part.draw_clips(keys[0])
        voice = jax.random.randint(keys[1], (self._batch,), 0, voices)
        # A third of the windows open a clip, as the first window of a video does; they have nothing before them.
        opening = jax.random.bernoulli(keys[2], 1 / 3, (self._batch,))
        start = jax.random.randint(keys[3], (self._batch,), self._previous, FRAMES - self._window + 1)
        start = jnp.where(opening, 0, start)

        def cut(clip, voice, start):
            def part(x, first, length):
                return jax.lax.dynamic_slice_in_dim(x, jnp.maximum(first, 0), length)

            motion, audio = arrays["motion"][clip], arrays["audio"][clip, voice].astype(jnp.float32)
            return {
                "motion": part(motion, start, self._window),
                "audio": part(audio, start, self._window),
                "prev_motion": part(motion, start - self._previous, self._previous),
                "prev_audio": part(audio, start - self._previous, self._previous),
            }

        windows = jax.vmap(cut)(which, voice, start)
        labels = {name: arrays[name][which] for name in ("gaze", "distance", "emotion")}
        return {**windows, **labels, "prev_mask": ~opening}


class MotionTask:
    """VASADiffusionTransformer on motion latents of the built-in corpus."""

    name = "motion"

    def __init__(self, motion: MotionConfig, corpus: CorpusConfig, batch_size: int, precision: str, seed: int):
        self._motion, self._corpus, self._batch, self._seed = motion, corpus, batch_size, seed
        dtype = compute_dtype(precision)
        self._parts = {name: load_part(getattr(motion, name), name) for name in ("face", "audio")}
        self._extractor = MotionExtractor(
            self._parts["face"], self._parts["audio"], corpus, dtype, motion.latents
        )
        self._variant = MOTION_VARIANTS[motion.variant] | {
            "window": motion.window,
            "previous": motion.previous,
            "audio_dim": self._parts["audio"][1]["fields"]["width"],
        }
        self._model = VASADiffusionTransformer(**self._variant, dtype=dtype)
        self._diffusion = VASADiffusion(pose_weight=motion.pose_weight, velocity_weight=motion.velocity)
        self._statistics: dict[str, np.ndarray] | None = None
        self._held_out: dict[str, jax.Array] | None = None

    def init(self, key: jax.Array) -> dict[str, Any]:
        batch = self._example()
        return self._model.init(key, batch["motion"], jnp.zeros((1,), jnp.int32), self._conditions(batch))["params"]

    def data(self, sharding: NamedSharding | None = None) -> MotionWindows:
        clips = ClipSet.make(self._corpus, self._corpus.clips, "train", self._seed)
        motion_set = self._extractor(clips, self._seed, "motion heads")
        self._statistics = statistics(motion_set.motion)
        return self._windows(motion_set, self._batch, self._seed, ProcessPart(self._batch, len(motion_set.motion)))

    def loss(self, params, batch, key):
        keys = jax.random.split(key, 3)
        conditions = self._conditions(batch)
        noise = jax.random.normal(keys[0], conditions.prev_motion.shape)
        conditions = conditions._replace(prev_motion=conditions.prev_motion + self._motion.previous_noise * noise)
        conditions = drop_conditions(
            keys[1],
            conditions,
            rate=self._motion.drop_condition,
            previous_rate=self._motion.drop_previous,
            truncate=self._motion.truncate,
            shortest=self._motion.shortest_hop,
        )
        valid = jnp.ones(batch["motion"].shape[:2], bool)
        loss, terms, _ = self._diffusion.training_loss(
            self._apply, params, keys[2], batch["motion"], conditions, valid
        )
        return loss, terms

    def evaluate(self, params) -> dict[str, float]:
        """Errors of sampled motion on held-out voices and sentences; `lead_r` is the correlation with the truth along
        the direction in which the true dynamics vary most."""
        if self._held_out is None:
            clips = ClipSet.make(self._corpus, HELD_OUT_CLIPS, "heldout", 0)
            motion_set = self._extractor(clips, 0, "motion held out")
            self._held_out = next(self._windows(motion_set, 2 * HELD_OUT_CLIPS, 0))
        batch = self._held_out
        sampled = np.asarray(self._sample(params, batch), np.float64)
        truth = np.asarray(batch["motion"], np.float64)
        pose, dynamics = slice(0, 9), slice(9, None)
        flat = truth[..., dynamics].reshape(-1, truth.shape[-1] - 9)
        lead = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][0]
        a, b = (x[..., dynamics] @ lead for x in (sampled, truth))
        return {
            "pose_rmse": float(np.sqrt(np.square(sampled - truth)[..., pose].mean())),
            "dynamics_rmse": float(np.sqrt(np.square(sampled - truth)[..., dynamics].mean())),
            "lead_r": float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b)])),
            "motion_ratio": float(np.abs(np.diff(sampled[..., pose], axis=1)).mean()
                                  / np.abs(np.diff(truth[..., pose], axis=1)).mean()),
        }  # fmt: skip

    def pictures(self, params) -> dict[str, np.ndarray]:
        return {}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._statistics is None:
            self.data()
        metadata = {
            "variant": self._motion.variant,
            "fields": self._variant,
            "trained_controls": ["gaze", "distance", "emotion"],
        }
        return {"transformer": params, "statistics": self._statistics}, metadata

    def _windows(
        self, motion_set: MotionSet, batch_size: int, seed: int, part: ProcessPart | None = None
    ) -> MotionWindows:
        if self._statistics is None:
            self.data()
        mean, std = self._statistics["mean"], self._statistics["std"]
        sizes = (self._motion.window, self._motion.previous, batch_size)
        return MotionWindows(motion_set, mean, std, *sizes, seed, part)

    def _apply(self, params, noisy, t, conditions):
        return self._model.apply({"params": params}, noisy, t, conditions)

    @functools.partial(jax.jit, static_argnums=0)
    def _sample(self, params, batch):
        return self._diffusion.sample_window(self._apply, params, jax.random.key(0), self._conditions(batch), 10)

    def _conditions(self, batch) -> MotionConditions:
        count, window = batch["motion"].shape[:2]
        known = jnp.ones((count,), bool)
        return MotionConditions(
            **{n: batch[n] for n in ("audio", "prev_motion", "prev_audio", "gaze", "distance", "emotion", "prev_mask")},
            audio_mask=jnp.ones((count, window), bool),
            gaze_mask=known,
            distance_mask=known,
            emotion_mask=known,
        )

    def _example(self) -> dict[str, jax.Array]:
        window, previous, width = (self._variant[n] for n in ("window", "previous", "audio_dim"))
        motion = self._model.motion_dim
        return {
            "motion": jnp.zeros((1, window, motion)),
            "audio": jnp.zeros((1, window, width)),
            "prev_motion": jnp.zeros((1, previous, motion)),
            "prev_audio": jnp.zeros((1, previous, width)),
            "gaze": jnp.zeros((1, 2)),
            "distance": jnp.zeros((1, 1)),
            "emotion": jnp.zeros((1, 8)),
            "prev_mask": jnp.ones((1,), bool),
        }

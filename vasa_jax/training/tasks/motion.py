"""Stage 2: the diffusion transformer learns motion latents from speech (VASA-1 section 3.2)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, MotionConfig, VASAConfig
from vasa_jax.conventions import POSE_DIM
from vasa_jax.diffusion import VASADiffusion, drop_conditions
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.evaluation.metrics import pearson
from vasa_jax.models.motion import MotionConditions, VASADiffusionTransformer
from vasa_jax.models.variants import MOTION_VARIANTS
from vasa_jax.training.processes import ProcessPart
from vasa_jax.training.tasks.base import Task, clip_settings
from vasa_jax.training.tasks.motion_data import HELD_OUT_CLIPS, Ear, MotionSet, RenderedMotion
from vasa_jax.training.tasks.motion_validation import DecodedMouth
from vasa_jax.training.tasks.motion_windows import MotionWindows
from vasa_jax.training.tasks.stored_motion import StoredMotion


class MotionTask(Task):
    """Trains VASADiffusionTransformer on motion latents of the built-in corpus."""

    name = "motion"

    def __init__(self, motion: MotionConfig, corpus: CorpusConfig, batch_size: int, precision: str, seed: int):
        self._motion, self._corpus, self._batch, self._seed = motion, corpus, batch_size, seed
        dtype = compute_dtype(precision)
        self._dtype = dtype
        self._source = (
            StoredMotion(motion.set, motion.face) if motion.set else RenderedMotion(motion, corpus, dtype, seed)
        )
        self._variant = MOTION_VARIANTS[motion.variant] | {
            "window": motion.window,
            "previous": motion.previous,
            "audio_dim": self._source.audio_dim,
            "motion_dim": self._source.motion_dim,
        }
        self._model = VASADiffusionTransformer(**self._variant, dtype=dtype)
        self._diffusion = VASADiffusion(pose_weight=motion.pose_weight, velocity_weight=motion.velocity)
        self._statistics: dict[str, np.ndarray] | None = None
        self._held_out: tuple[dict[str, jax.Array], tuple[np.ndarray, np.ndarray]] | None = None
        self._sample = jax.jit(self._sampled)

    @classmethod
    def from_config(cls, config: VASAConfig) -> "MotionTask":
        train = config.train
        return cls(config.motion, config.corpus, train.batch_size, train.precision, config.seed)

    def notes(self) -> list[str]:
        """Says that the validation cannot show mouths, and why."""
        return [f"validation: mouths are not decoded: {self._mouth}"] if isinstance(self._mouth, InputError) else []

    def init(self, key: jax.Array) -> dict[str, Any]:
        batch = self._example()
        return self._model.init(key, batch["motion"], jnp.zeros((1,), jnp.int32), self._conditions(batch))["params"]

    def data(self, sharding: NamedSharding | None = None) -> MotionWindows:
        motion_set = self._source("train")
        self._statistics = self._source.statistics(motion_set)
        part = ProcessPart(self._batch, len(motion_set.motion))
        return self._windows(motion_set, self._batch, self._seed, part, self._motion.unrolled, self._source.ear)

    def data_settings(self) -> dict[str, Any]:
        names = ("window", "previous", "unrolled", "live", "live_frames")
        settings = {f"motion.{name}": getattr(self._motion, name) for name in names}
        if self._motion.set:
            return settings
        return {"corpus.supersample": self._corpus.supersample, **settings, **clip_settings(self._corpus)}

    def loss(self, params, batch, key):
        keys = jax.random.split(key, 3)
        conditions = self._conditions(batch)
        noise = jax.random.normal(keys[0], conditions.prev_motion.shape)
        conditions = conditions._replace(prev_motion=conditions.prev_motion + self._motion.previous_noise * noise)
        if self._motion.live:
            heard = jnp.arange(self._motion.window) < batch["heard"][:, None]
            conditions = conditions._replace(audio_mask=conditions.audio_mask & heard)
        conditions = self._drop(keys[1], conditions, self._motion.drop_previous)
        if self._motion.unrolled:
            # A stream has heard the frames that it keeps.
            kept = jnp.arange(self._motion.window) < batch["hop"][:, None]
            heard = conditions.audio_mask | (kept & conditions.audio_mask[:, :1])
            conditions = conditions._replace(audio_mask=heard)
        valid = jnp.ones(batch["motion"].shape[:2], bool)
        loss, terms, prediction = self._diffusion.training_loss(
            self._apply, params, keys[2], batch["motion"], conditions, valid
        )
        if not self._motion.unrolled:
            return loss, terms
        next_loss, next_terms = self._next_window_loss(params, batch, jax.random.fold_in(key, 1), prediction)
        terms |= {f"next_{name}": value for name, value in next_terms.items()}
        return 0.5 * (loss + next_loss), terms

    def _next_window_loss(self, params, batch, key, prediction):
        """The loss of the window after the hop, with the model's own prediction of the frames before it as X_pre.

        So it is when it generates. The prediction is given, not trained through.
        """
        keys = jax.random.split(key, 2)
        hop, previous = batch["hop"], self._motion.previous

        def before(sequence, hop):
            return jax.lax.dynamic_slice_in_dim(sequence, hop - previous, previous)

        own = jax.vmap(before)(jax.lax.stop_gradient(prediction), hop)
        error = own[:, -1] - jax.vmap(before)(batch["motion"], hop)[:, -1]
        known = jnp.ones_like(batch["prev_mask"])
        following = {name: batch[f"next_{name}"] for name in ("motion", "blinks", "audio", "prev_audio")}
        conditions = self._conditions(batch | following | {"prev_motion": own, "prev_mask": known})
        conditions = self._drop(keys[0], conditions, 0.0)
        valid = jnp.ones(batch["motion"].shape[:2], bool)
        loss, terms, _ = self._diffusion.training_loss(
            self._apply, params, keys[1], following["motion"], conditions, valid, previous_error=error
        )
        return loss, terms

    def _drop(self, key, conditions: MotionConditions, previous_rate: float) -> MotionConditions:
        return drop_conditions(
            key,
            conditions,
            rate=self._motion.drop_condition,
            previous_rate=previous_rate,
            truncate=self._motion.truncate,
            shortest=self._motion.shortest_hop,
            blinks_rate=self._motion.drop_blinks,
        )

    def evaluate(self, params) -> dict[str, float]:
        """Returns errors of sampled motion on held-out voices and sentences.

        `lead_r` is the correlation with the truth along the direction in which the true dynamics vary most. Where codec
        and measuring network are at hand, the mouth of decoded frames is measured too (`DecodedMouth`).
        """
        if self._held_out is None:
            windows = self._windows(self._source("heldout"), 2 * HELD_OUT_CLIPS, 0)
            self._held_out = next(windows), jax.device_get(windows.places(0))
        batch, places = self._held_out
        sampled = np.asarray(self._sample(params, batch), np.float64)
        truth = np.asarray(batch["motion"], np.float64)
        pose, dynamics = slice(0, POSE_DIM), slice(POSE_DIM, None)
        flat = truth[..., dynamics].reshape(-1, truth.shape[-1] - POSE_DIM)
        lead = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][0]
        a, b = (x[..., dynamics] @ lead for x in (sampled, truth))
        metrics = {
            "pose_rmse": float(np.sqrt(np.square(sampled - truth)[..., pose].mean())),
            "dynamics_rmse": float(np.sqrt(np.square(sampled - truth)[..., dynamics].mean())),
            "lead_r": float(np.mean([pearson(x, y) for x, y in zip(a, b)])),
            "motion_ratio": float(np.abs(np.diff(sampled[..., pose], axis=1)).mean()
                                  / np.abs(np.diff(truth[..., pose], axis=1)).mean()),
        }  # fmt: skip
        if isinstance(self._mouth, InputError):
            return metrics
        mean, std = self._statistics["mean"], self._statistics["std"]
        return metrics | self._mouth.metrics(*(x * std + mean for x in (sampled, truth)), *places)

    @functools.cached_property
    def _mouth(self) -> DecodedMouth | InputError:
        """The validation's decoder of mouths, or what is missing for it."""
        try:
            return DecodedMouth(self._source.codec(), self._motion.instrument, self._source.corpus, self._dtype)
        except InputError as fault:
            return fault

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._statistics is None:
            self.data()
        metadata = {
            "variant": self._motion.variant,
            "fields": self._variant,
            "trained_controls": ["gaze", "distance", "emotion", "blinks"],
        }
        return {"transformer": params, "statistics": self._statistics}, metadata

    def of_export(self, content):
        return content["transformer"] if content.keys() == {"transformer", "statistics"} else content

    def _windows(
        self,
        motion_set: MotionSet,
        batch_size: int,
        seed: int,
        part: ProcessPart | None = None,
        unrolled: bool = False,
        ear: Ear | None = None,
    ) -> MotionWindows:
        if self._statistics is None:
            self.data()
        mean, std = self._statistics["mean"], self._statistics["std"]
        sizes = (self._motion.window, self._motion.previous, batch_size)
        return MotionWindows(motion_set, mean, std, *sizes, seed, part, unrolled, ear)

    def _apply(self, params, noisy, t, conditions):
        return self._model.apply({"params": params}, noisy, t, conditions)

    def _sampled(self, params, batch):
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
            blinks=batch["blinks"],
            blinks_mask=known,
        )

    def _example(self) -> dict[str, jax.Array]:
        window, previous, width = (self._variant[n] for n in ("window", "previous", "audio_dim"))
        motion = self._model.motion_dim
        return {
            "motion": jnp.zeros((1, window, motion)),
            "audio": jnp.zeros((1, window, width)),
            "prev_motion": jnp.zeros((1, previous, motion)),
            "prev_audio": jnp.zeros((1, previous, width)),
            "blinks": jnp.zeros((1, window)),
            "gaze": jnp.zeros((1, 2)),
            "distance": jnp.zeros((1, 1)),
            "emotion": jnp.zeros((1, 8)),
            "prev_mask": jnp.ones((1,), bool),
        }

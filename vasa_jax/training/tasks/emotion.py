"""Trains the reader of emotions on true renders of heads that speak with feeling.

Frames of the corpus's performances are rendered on the device for every update, each on a head of its own, and degraded
(training/degradation.py). Any moment of a sentence is taken, so that speaking lips are no sign of an emotion. The
network learns the performance's emotion coefficients, which sum to 1, as a distribution. It gets the face where the
labels say it is, a little off, as the face probe will be. Heads come from random streams of this task's own name.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vasa_jax.config import CorpusConfig, VASAConfig
from vasa_jax.conventions import EMOTIONS, LANDMARKS
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.corpus.devices import frames_per_device, on_each_device, own_key
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.visemes import MOTION_NAMES
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.dtypes import compute_dtype
from vasa_jax.evaluation.face_readings import named_feeling
from vasa_jax.models.emotion_probe import CENTRE, PATCH, EmotionProbe, face_patch
from vasa_jax.models.face_probe import SIZE
from vasa_jax.rng import named_key
from vasa_jax.training.degradation import degrade
from vasa_jax.training.tasks.base import Task, clip_settings

HELD_OUT_CLIPS = 96
NEUTRAL = EMOTIONS.index("neutral")
CALM = 0.3  # how often a clip without any emotion is drawn, where one of pure emotion is drawn 1 + CALM times
FELT = 0.5  # a feeling with at least this share is one that a person would name
_CENTRE_INDICES = np.array([LANDMARKS.index(name) for name in CENTRE])

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class EmotionSettings:
    """Data and augmentation."""

    supersample: int = 2  # rays per pixel side
    degrade: float = 0.8  # share of frames that are degraded
    misplaced: float = 0.03  # standard deviation of the patch's place and of its log scale: the instrument's errors
    turned: float = 0.05  # radians, of its roll
    held_out_frames: int = 4  # of each held-out clip, all of one head


def render_frames(key: jax.Array, identity: jax.Array, motion: jax.Array, size: int, supersample: int) -> Batch:
    """Renders frames of random heads: image (B, n, n, 3), centre (B, 2) of the patch, pose (B, 9).

    identity: (B,) numbers of the heads under `key`; motion: (B, M) in the order of MOTION_NAMES.
    """
    people = jax.vmap(lambda number: sample_identity(jax.random.fold_in(key, number)))(identity)
    tracks = {name: motion[:, i] for i, name in enumerate(MOTION_NAMES)}
    picture, truth = render(people, tracks, size, supersample), labels(people, tracks)
    return {
        "image": picture["rgb"],
        "centre": picture["landmarks"][:, _CENTRE_INDICES, :2].mean(1),
        "pose": truth["pose"],
    }


compiled_render_frames = jax.jit(render_frames, static_argnums=(3, 4))


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _training_batch(key_data, step, motion, emotion, count: int, supersample: int, sharding: NamedSharding | None):
    """`count` frames on each device; motion (N, T, M) and emotion (N, 8) of all clips.

    Clips with much feeling are drawn more often: most of the corpus's are nearly neutral.
    """

    def local(key_data, step, motion, emotion):
        key = jax.random.fold_in(own_key(key_data, sharding), step)
        keys = jax.random.split(key, 3)
        often = CALM + 1.0 - emotion[:, NEUTRAL]
        clip = jax.random.categorical(keys[0], jnp.log(often), shape=(count,))
        frame = jax.random.randint(keys[1], (count,), 0, motion.shape[1])
        frames = render_frames(keys[2], jnp.arange(count), motion[clip, frame], SIZE, supersample)
        return {**frames, "emotion": emotion[clip]}

    return on_each_device(local, sharding, True, True, True, True)(key_data, step, motion, emotion)


class EmotionData(StepIterator):
    """Renders batches as a pure function of (seed, step); each device of `sharding` renders its own heads."""

    def __init__(
        self, clips: ClipSet, batch_size: int, supersample: int, seed: int, sharding: NamedSharding | None = None
    ):
        self._key = np.asarray(jax.random.key_data(named_key(seed, "emotion/train")))
        everywhere = NamedSharding(sharding.mesh, PartitionSpec()) if sharding else None
        self._clips = jax.device_put((clips.motion, clips.emotion), everywhere)
        self._shape = (frames_per_device(batch_size, sharding), supersample)
        self._sharding = sharding

    def batch(self, step: int) -> Batch:
        return _training_batch(self._key, np.uint32(step), *self._clips, *self._shape, self._sharding)


class EmotionTask(Task, extra=("held_out",)):
    """Trains `EmotionProbe`."""

    name = "emotion"

    def __init__(
        self, settings: EmotionSettings, corpus: CorpusConfig, batch_size: int, seed: int = 0, dtype: Any = jnp.float32
    ):
        self._settings, self._corpus, self._batch, self._seed = settings, corpus, batch_size, seed
        self._network = EmotionProbe(dtype=dtype)
        self._held_out: dict[str, np.ndarray] | None = None

    @classmethod
    def from_config(cls, config: VASAConfig) -> "EmotionTask":
        train, settings = config.train, EmotionSettings(supersample=config.corpus.supersample)
        return cls(settings, config.corpus, train.batch_size, config.seed, compute_dtype(train.precision))

    def init(self, key: jax.Array) -> dict[str, Any]:
        return self._network.init(key, jnp.zeros((1, PATCH[1], PATCH[1], 3)))["params"]

    def loss(self, params, batch: Batch, key) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the cross-entropy to the emotion coefficients."""
        s = self._settings
        keys = jax.random.split(key, 4)
        count = batch["pose"].shape[0]
        centre = batch["centre"] + s.misplaced * jax.random.normal(keys[0], (count, 2))
        pose = batch["pose"].at[:, 6].add(s.misplaced * jax.random.normal(keys[1], (count,)))
        pose = _rolled(pose, s.turned * jax.random.normal(keys[2], (count,)))
        patch = face_patch(degrade(batch["image"], keys[3], s.degrade), centre, pose)
        logits = self._network.apply({"params": params}, patch)
        loss = -(batch["emotion"] * jax.nn.log_softmax(logits)).sum(-1).mean()
        agree = (logits.argmax(-1) == batch["emotion"].argmax(-1)).mean()
        return loss, {"frame_accuracy": agree}

    def data_settings(self) -> dict[str, Any]:
        return {"corpus.supersample": self._settings.supersample, **clip_settings(self._corpus)}

    def data(self, sharding: NamedSharding | None = None) -> EmotionData:
        clips = ClipSet.make(self._corpus, self._corpus.clips, "train", self._seed)
        return EmotionData(clips, self._batch, self._settings.supersample, self._seed, sharding)

    def evaluate(self, params) -> dict[str, float]:
        """Returns metrics on held-out heads, voices and sentences: true renders, and (`soft_...`) degraded ones.

        `clip_accuracy`, `frame_accuracy`: how often clips with much of one feeling, and their frames, are taken for it.
        `share_mae`: how far the mean shares of all clips are off.
        """
        held_out, metrics = self.held_out(), {}
        truth = held_out["emotion"]
        felt = [i for i, shares in enumerate(truth) if shares[NEUTRAL] < FELT and shares[shares.argmax()] >= FELT]
        for prefix, name in (("", "image"), ("soft_", "soft")):
            shares = np.asarray(_shares(self._network, params, held_out[name], held_out["centre"], held_out["pose"]))
            shares = shares.reshape(len(truth), -1, len(EMOTIONS))
            clips = [named_feeling(shares[i]) == EMOTIONS[truth[i].argmax()] for i in felt]
            frames = [named_feeling(frame[None]) == EMOTIONS[truth[i].argmax()] for i in felt for frame in shares[i]]
            metrics |= {
                f"{prefix}clip_accuracy": float(np.mean(clips or [0.0])),
                f"{prefix}frame_accuracy": float(np.mean(frames or [0.0])),
                f"{prefix}share_mae": float(np.abs(shares.mean(1) - truth).mean()),
            }
        return metrics

    def held_out(self) -> dict[str, np.ndarray]:
        """Returns frames of fixed held-out clips, those of one clip side by side, rendered once.

        image, `soft` (every frame degraded), centre, pose; emotion (clips, 8).
        """
        if self._held_out is None:
            s, key = self._settings, named_key(self._seed, "emotion/held out")
            clips = ClipSet.make(self._corpus, min(HELD_OUT_CLIPS, self._corpus.clips), "heldout", self._seed)
            moments = np.linspace(0, clips.motion.shape[1] - 1, s.held_out_frames + 2).round().astype(int)[1:-1]
            soften = jax.jit(functools.partial(degrade, share=1.0))
            parts = []
            for number, motion in enumerate(clips.motion):
                heads = np.full(len(moments), number, np.int32)
                part = compiled_render_frames(key, heads, motion[moments], SIZE, s.supersample)
                part["soft"] = soften(part["image"], jax.random.fold_in(key, 2**31 - 1 - number))
                parts.append(jax.device_get(part))
            self._held_out = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            self._held_out["emotion"] = clips.emotion
        return self._held_out

    def images(self, params) -> dict[str, np.ndarray]:
        """Returns held-out faces as the network sees them, one of each of eight clips, sharp above soft."""
        held_out, every = self.held_out(), self._settings.held_out_frames
        few = {name: held_out[name][::every][:8] for name in ("image", "soft", "centre", "pose")}
        rows = [np.concatenate(_patches(few[name], few["centre"], few["pose"]), 1) for name in ("image", "soft")]
        return {"held_out": np.concatenate(rows)}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        return params, {"emotions": list(EMOTIONS), "figures": self.evaluate(params)}


@jax.jit
def _patches(image, centre, pose):
    return to_uint8(face_patch(image, centre, pose) / 2.0 + 0.5)


@functools.partial(jax.jit, static_argnums=0)
def _shares(network, params, image, centre, pose):
    return jax.nn.softmax(network.apply({"params": params}, face_patch(image, centre, pose)), axis=-1)


def _rolled(pose_B9: jax.Array, angle_B: jax.Array) -> jax.Array:
    """Turns poses by an angle in the image's plane."""
    cos, sin = jnp.cos(angle_B), jnp.sin(angle_B)
    turned = [
        row for x, y, z in (pose_B9[:, 0:3].T, pose_B9[:, 3:6].T) for row in (cos * x - sin * y, sin * x + cos * y, z)
    ]
    return jnp.concatenate([jnp.stack(turned, -1), pose_B9[:, 6:]], -1)

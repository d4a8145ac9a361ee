"""Trains the network that measures faces, on true renders of the built-in corpus.

Frames are rendered on the device for every update, so none is seen twice. All frames of one person appear under
different lights, backgrounds and clothes, so that the embedding learns the head. Frames are then degraded
(training/degradation.py) while the labels stay exact: soft images have to be read as well as sharp ones.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Shaped

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import LANDMARKS
from vasa_jax.corpus.devices import on_each_device, own_key
from vasa_jax.corpus.heads.identity import in_other_surroundings, sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.render import render
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.evaluation.face_readings import FaceReader, reading_errors
from vasa_jax.models.face_probe import SIZE, Anchors, FaceProbe
from vasa_jax.rng import named_key
from vasa_jax.training.degradation import degrade
from vasa_jax.training.tasks.base import Task

# The points that the instrument finds: enough for pose and patches, few enough for a small network.
POINTS = (
    "jaw_0", "jaw_4", "jaw_8", "jaw_12", "jaw_16",
    "brow_left_0", "brow_left_2", "brow_left_4", "brow_right_0", "brow_right_2", "brow_right_4",
    "eye_left_0", "eye_left_2", "eye_left_4", "eye_left_6", "eye_right_0", "eye_right_2", "eye_right_4", "eye_right_6",
    "iris_left", "iris_right", "nose_bridge_0", "nose_tip", "nose_wing_left", "nose_wing_right",
    "outer_lip_0", "outer_lip_3", "outer_lip_6", "outer_lip_9", "inner_lip_2", "inner_lip_6", "forehead",
)  # fmt: skip
_POINT_INDICES = np.array([LANDMARKS.index(name) for name in POINTS])
# Corners of the eyes, which a blink does not move; all round the mouth, which opens.
ANCHORS = Anchors(
    mouth=tuple(POINTS.index(f"outer_lip_{i}") for i in (0, 3, 6, 9)),
    left_eye=tuple(POINTS.index(f"eye_left_{i}") for i in (0, 4)),
    right_eye=tuple(POINTS.index(f"eye_right_{i}") for i in (0, 4)),
)


@dataclasses.dataclass(frozen=True)
class FaceProbeSettings:
    """Batch and losses. A batch has `identities` x `motions` frames, the frames of one person side by side."""

    identities: int = 16
    motions: int = 4
    supersample: int = 2
    held_out_identities: int = 48  # of `evaluate`, with `motions` frames each
    degrade: float = 0.8  # share of frames that are degraded
    temperature: float = 0.1  # of the identity loss
    mouth_weight: float = 3.0
    lids_weight: float = 1.0
    gaze_weight: float = 1.0
    pose_weight: float = 1.0
    landmark_weight: float = 2.0
    identity_weight: float = 0.25


def render_batch(key: jax.Array, identities: int, motions: int, supersample: int) -> dict[str, jax.Array]:
    """Renders identities * motions frames with labels, identity by identity; a pure function of the key, to be jitted.

    image (B, 128, 128, 3), mouth (B,), lids (B, 2), gaze (B, 2) degrees, pose (B, 9), landmarks (B, L, 2), person
    (B,) int32.
    """
    who, what, where = jax.random.split(key, 3)
    count = identities * motions
    people = jax.vmap(sample_identity)(jax.random.split(who, identities))
    people = {name: jnp.repeat(value, motions, axis=0) for name, value in people.items()}
    people = in_other_surroundings(people, where)
    motion = jax.vmap(sample_motion)(jax.random.split(what, count))
    picture, truth = render(people, motion, SIZE, supersample), labels(people, motion)
    return {
        "image": picture["rgb"],
        "landmarks": picture["landmarks"][:, _POINT_INDICES, :2],
        "person": jnp.repeat(jnp.arange(identities, dtype=jnp.int32), motions),
        **{name: truth[name] for name in ("mouth", "lids", "gaze", "pose")},
    }


# Compiled once for training and evaluation together.
compiled_render_batch = jax.jit(render_batch, static_argnums=(1, 2, 3))


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _render_spread_batch(key, step, identities: int, motions: int, supersample: int, sharding: NamedSharding):
    """`identities` in all, as many on each device as on any other."""

    def local(key, step):
        key = jax.random.fold_in(own_key(key, sharding), step)
        batch = render_batch(key, identities // sharding.num_devices, motions, supersample)
        first = jax.lax.axis_index(sharding.mesh.axis_names) * (identities // sharding.num_devices)
        return {**batch, "person": batch["person"] + first}

    return on_each_device(local, sharding, True, True)(key, step)


class FaceProbeData(StepIterator):
    """Renders batches as a pure function of (seed, step); with `sharding` every device renders its own people."""

    def __init__(self, settings: FaceProbeSettings, seed: int, sharding: NamedSharding | None = None):
        self._key = named_key(seed, "instrument/train")
        self._settings, self._sharding = settings, sharding

    def batch(self, step: int) -> dict[str, jax.Array]:
        s = self._settings
        sizes = (s.identities, s.motions, s.supersample)
        if self._sharding is None:
            return compiled_render_batch(jax.random.fold_in(self._key, step), *sizes)
        key = np.asarray(jax.random.key_data(self._key))
        return _render_spread_batch(key, np.uint32(step), *sizes, self._sharding)


class FaceProbeTask(Task, extra=("held_out",)):
    """Trains `FaceProbe`."""

    name = "instrument"

    def __init__(self, settings: FaceProbeSettings, seed: int = 0, dtype: Any = jnp.float32):
        self._settings = settings
        self._seed = seed
        self._network = FaceProbe(len(POINTS), ANCHORS, dtype=dtype)
        self._instrument = FaceReader({}, POINTS, ANCHORS)
        self._held_out: dict[str, np.ndarray] | None = None

    @classmethod
    def from_config(cls, config: VASAConfig) -> "FaceProbeTask":
        """Returns the task; InputError for a batch that is not some frames each of at least two people."""
        train, settings = config.train, FaceProbeSettings(supersample=config.corpus.supersample)
        identities, rest = divmod(train.batch_size, settings.motions)
        if rest or identities < 2:
            raise InputError(
                f"config.train.batch_size: {train.batch_size} frames are not {settings.motions} each of 2 people or "
                f"more; choose a multiple of {settings.motions} from {2 * settings.motions} on"
            )
        settings = dataclasses.replace(settings, identities=identities)
        return cls(settings, config.seed, compute_dtype(train.precision))

    def init(self, key: jax.Array) -> dict[str, Any]:
        return self._network.init(key, jnp.zeros((1, SIZE, SIZE, 3)))["params"]

    def loss(self, params, batch, key) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Sums Huber losses, in units of a good error each, and InfoNCE between the frames of one person."""
        s = self._settings
        predicted = self._network.apply({"params": params}, degrade(batch["image"], key, s.degrade))
        # Where the gaze of a closed eye is, nobody can see.
        seen = jnp.clip((batch["lids"].mean(-1) - 0.2) / 0.3, 0.0, 1.0)[:, None]
        terms = {
            "mouth": s.mouth_weight * _huber((predicted["mouth"] - batch["mouth"]) / 0.05).mean(),
            "lids": s.lids_weight * _huber((predicted["lids"] - batch["lids"]) / 0.2).mean(),
            "gaze": s.gaze_weight * (seen * _huber((predicted["gaze"] - batch["gaze"]) / 8.0)).mean(),
            "pose": s.pose_weight * _huber((predicted["pose"] - batch["pose"]) / 0.1).mean(),
            "landmarks": s.landmark_weight * _huber((predicted["landmarks"] - batch["landmarks"]) / 0.05).mean(),
            "identity": s.identity_weight * identity_loss(predicted["embedding"], batch["person"], s.temperature),
        }
        return sum(terms.values()), terms

    def data_settings(self) -> dict[str, Any]:
        return {"corpus.supersample": self._settings.supersample}

    def data(self, sharding: NamedSharding | None = None) -> FaceProbeData:
        if sharding is not None and self._settings.identities % sharding.num_devices:
            raise InputError(
                f"config.train.batch_size: {self._settings.identities} people of {self._settings.motions} frames do "
                f"not spread over {sharding.num_devices} devices; choose a multiple of "
                f"{sharding.num_devices * self._settings.motions}"
            )
        return FaceProbeData(self._settings, self._seed, sharding)

    def evaluate(self, params) -> dict[str, float]:
        """Returns the network's errors on held-out heads: on true renders, and (`soft_...`) on degraded ones."""
        instrument, batch = self._instrument, self.held_out()
        instrument.params = params
        metrics = reading_errors(instrument.measure(batch["image"]), batch)
        soft = reading_errors(instrument.measure(batch["soft"]), batch)
        return {**metrics, **{f"soft_{name}": value for name, value in soft.items()}}

    def held_out(self) -> dict[str, np.ndarray]:
        """Returns a fixed batch of people that training never meets, rendered once; in `soft` all are degraded."""
        if self._held_out is None:
            s, parts = self._settings, []
            key = named_key(self._seed, "instrument/held out")
            soften = jax.jit(functools.partial(degrade, share=1.0))
            for i in range(max(1, s.held_out_identities // s.identities)):
                part = compiled_render_batch(jax.random.fold_in(key, i), s.identities, s.motions, s.supersample)
                part = {
                    **part,
                    "soft": soften(part["image"], jax.random.fold_in(key, 1000 + i)),
                    "person": part["person"] + s.identities * i,
                }
                parts.append(jax.device_get(part))
            self._held_out = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return self._held_out

    def images(self, params) -> dict[str, np.ndarray]:
        """Returns held-out frames, sharp above soft, with the measured landmarks as dots."""
        instrument, batch, rows = self._instrument, self.held_out(), []
        instrument.params = params
        for name in ("image", "soft"):
            frames = (np.clip(batch[name][:8], 0.0, 1.0) * 255.0).round().astype(np.uint8)
            points = (instrument.measure(frames).landmarks + 1.0) * SIZE / 2.0
            columns, lines = np.clip(points.astype(int), 0, SIZE - 1).transpose(2, 0, 1)
            frames[np.arange(len(frames))[:, None], lines, columns] = (0, 255, 0)
            rows.append(np.concatenate(list(frames), axis=1))
        return {"held_out": np.concatenate(rows, axis=0)}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        return params, {
            "anchors": dataclasses.asdict(ANCHORS),
            "points": list(POINTS),
            "errors": self.evaluate(params),
        }


def identity_loss(
    embedding_BE: Float[Array, "B E"], person_B: Shaped[Array, "B"], temperature: float
) -> Float[Array, ""]:
    """Returns the supervised InfoNCE: each frame picks other frames of its person out of all others of the batch."""
    logits = jnp.einsum("ae,be->ab", embedding_BE, embedding_BE) / temperature
    itself = jnp.eye(len(person_B), dtype=bool)
    logits = jnp.where(itself, -1e9, logits)
    positive = (person_B[:, None] == person_B[None]) & ~itself
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.where(positive, log_probability, 0.0).sum() / jnp.maximum(positive.sum(), 1)


def _huber(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) < 1.0, 0.5 * x * x, jnp.abs(x) - 0.5)

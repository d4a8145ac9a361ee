"""Trains the frozen networks of the codec's perceptual and identity losses, on renders of the built-in corpus.

Identity: classification of a fixed set of rendered people by a margin softmax (CosFace, Wang et al. 2018), every frame
in another motion, light, background, clothes and look, so that the embedding learns the head. Perceptual: which part
each pixel shows and where the landmarks are. Both see pictures rendered on the device for every update. The people come
from random streams of this task's own name: neither the codec's, nor the face probe's, nor the held-out ones.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Shaped

from vasa_jax.config import LossNetworksConfig, VASAConfig
from vasa_jax.conventions import LANDMARKS, SEGMENTS
from vasa_jax.corpus.devices import frames_per_device, on_each_device, own_key
from vasa_jax.corpus.heads.identity import in_other_surroundings, sample_identity
from vasa_jax.corpus.heads.render import render
from vasa_jax.corpus.heads.style import stylise
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.dtypes import compute_dtype
from vasa_jax.evaluation.metrics import verification_auc
from vasa_jax.losses import margin_softmax
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.models.loss_networks import FaceReading, IdentityJudge, PerceptualJudge
from vasa_jax.rng import named_key
from vasa_jax.training.degradation import degrade
from vasa_jax.training.tasks.base import Task

HELD_OUT_PEOPLE, HELD_OUT_MOTIONS = 48, 4

Batch = dict[str, jax.Array]


def render_people(who: jax.Array, key: jax.Array, size: int, supersample: int, style: float) -> Batch:
    """Renders a frame of each person of `who`, (B,) keys, in a motion and surroundings of its own.

    A share `style` has another look. Returns image (B, n, n, 3) in [0, 1], segmentation (B, n, n) uint8, landmarks
    (B, L, 2).
    """
    count = len(who)
    how, where, look = jax.random.split(key, 3)
    people = in_other_surroundings(jax.vmap(sample_identity)(who), where)
    motion = jax.vmap(sample_motion)(jax.random.split(how, count))
    frames = render(people, motion, size, supersample)
    image = frames["rgb"]
    if style:
        styled = jax.vmap(lambda k, x: stylise(k, x[None], style)[0])(jax.random.split(look, count), image)
        image = jnp.clip(styled, 0.0, 1.0)
    return {
        "image": image,
        "segmentation": frames["segmentation"],
        "landmarks": frames["landmarks"][..., :2],
    }


def numbered_people(key: jax.Array, person: jax.Array) -> jax.Array:
    """Returns the keys (B,) of people by their numbers (B,)."""
    return jax.vmap(functools.partial(jax.random.fold_in, key))(person)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _training_batch(key_data, step, batch: int, people: int, look: tuple[int, int, float], sharding):
    def local(key_data, step):
        shared = jax.random.wrap_key_data(key_data)
        key = jax.random.fold_in(jax.random.fold_in(own_key(key_data, sharding), 1), step)
        draw, rest = jax.random.split(key)
        person = jax.random.randint(draw, (batch,), 0, people)
        # All devices draw from the same people: a class is one person wherever it is seen.
        frames = render_people(numbered_people(jax.random.fold_in(shared, 2), person), rest, *look)
        return {**frames, "person": person}

    return on_each_device(local, sharding, True, True)(key_data, step)


class LossNetworksData(StepIterator):
    """Renders the training people as a pure function of (seed, step); each device of `sharding` renders its own."""

    def __init__(self, settings: LossNetworksConfig, batch_size: int, seed: int, sharding: NamedSharding | None = None):
        self._key = np.asarray(jax.random.key_data(named_key(seed, "judge/train")))
        look = (settings.size, settings.supersample, settings.style)
        self._shape = (frames_per_device(batch_size, sharding), settings.people, look)
        self._sharding = sharding

    def batch(self, step: int) -> Batch:
        return _training_batch(self._key, np.uint32(step), *self._shape, self._sharding)


class LossNetworksTask(Task, extra=("held_out",)):
    """Trains `IdentityJudge` and `PerceptualJudge`."""

    name = "judge"

    def __init__(self, settings: LossNetworksConfig, batch_size: int, seed: int = 0, dtype: Any = jnp.float32):
        self._settings, self._batch, self._seed = settings, batch_size, seed
        self._fields = {"segments": len(SEGMENTS), "points": len(LANDMARKS)}
        self._identity = IdentityJudge(dtype=dtype)
        self._perceptual = PerceptualJudge(**self._fields, dtype=dtype)
        self._held_out: dict[str, np.ndarray] | None = None
        self._read = jax.jit(self._measurements)

    @classmethod
    def from_config(cls, config: VASAConfig) -> "LossNetworksTask":
        train = config.train
        return cls(config.loss_networks, train.batch_size, config.seed, compute_dtype(train.precision))

    def init(self, key: jax.Array) -> dict[str, Any]:
        keys = jax.random.split(key, 3)
        image = jnp.zeros((1, self._settings.size, self._settings.size, 3))
        classes = jax.random.normal(keys[2], (self._settings.people, self._identity.embedding))
        return {
            "identity": self._identity.init(keys[0], image)["params"],
            "perceptual": self._perceptual.init(keys[1], image)["params"],
            "classes": {"directions": classes / np.sqrt(self._identity.embedding)},
        }

    def loss(self, params, batch: Batch, key) -> tuple[jax.Array, dict[str, jax.Array]]:
        s, params = self._settings, fold_standardisation(params)
        # Identity has to be read from soft pictures too; the features must not become blind to softness.
        soft = degrade(batch["image"], key, s.degrade) if s.degrade else batch["image"]
        embedding = self._identity.apply({"params": params["identity"]}, soft)
        reading = self._perceptual.apply({"params": params["perceptual"]}, batch["image"])
        logits, identity = margin_softmax(
            embedding, params["classes"]["directions"], batch["person"], s.scale, s.margin
        )
        parts, points = reading_losses(reading, batch["segmentation"], batch["landmarks"])
        terms = {
            "identity": identity,
            "segmentation": parts,
            "landmarks": points,
            "accuracy": (logits.argmax(-1) == batch["person"]).mean(),
        }
        return s.identity_weight * identity + s.segmentation_weight * parts + s.landmark_weight * points, terms

    def data_settings(self) -> dict[str, Any]:
        names = ("people", "size", "supersample", "style")
        return {f"loss_networks.{name}": getattr(self._settings, name) for name in names}

    def data(self, sharding: NamedSharding | None = None) -> LossNetworksData:
        return LossNetworksData(self._settings, self._batch, self._seed, sharding)

    def evaluate(self, params) -> dict[str, float]:
        """Returns metrics on people that are no class: identities told apart, pixels named right, errors of points."""
        held_out = self.held_out()
        results = [
            jax.device_get(self._read(params, {name: x[at : at + HELD_OUT_PEOPLE] for name, x in held_out.items()}))
            for at in range(0, len(held_out["person"]), HELD_OUT_PEOPLE)
        ]
        embedding = np.concatenate([result["embedding"] for result in results])
        cosine = embedding @ embedding.T
        same = held_out["person"][:, None] == held_out["person"][None]
        upper = np.triu(np.ones_like(same), 1)
        metrics = {
            "identity_auc": verification_auc(cosine[same & upper], cosine[~same & upper]),
            "identity_same": cosine[same & upper].mean(),
            "identity_different": cosine[~same & upper].mean(),
        }
        for name in ("segmentation_accuracy", "landmark_error_pixels"):
            metrics[name] = np.mean([result[name] for result in results])
        return {name: float(value) for name, value in metrics.items()}

    def held_out(self) -> dict[str, np.ndarray]:
        """Returns a fixed set of frames of people that are no class of any seed, rendered once."""
        if self._held_out is None:
            s, parts = self._settings, []
            key = named_key(0, "judge/held out")
            person = jnp.arange(HELD_OUT_PEOPLE, dtype=jnp.int32)
            draw = jax.jit(render_people, static_argnums=(2, 3, 4))
            who = numbered_people(key, person)
            for i in range(HELD_OUT_MOTIONS):
                frames = draw(who, jax.random.fold_in(key, 2**31 - 1 - i), s.size, s.supersample, s.style)
                parts.append({**jax.device_get(frames), "person": person})
            self._held_out = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return self._held_out

    def images(self, params) -> dict[str, np.ndarray]:
        """Returns held-out frames above the parts that the network names, in grays."""
        batch = {name: value[:HELD_OUT_PEOPLE] for name, value in self.held_out().items()}
        image, parts = batch["image"][:8], np.asarray(self._read(params, batch)["parts"])[:8]
        parts = np.repeat(np.repeat(parts, 2, 1), 2, 2)
        gray = np.repeat(parts[..., None] / (len(SEGMENTS) - 1), 3, -1)
        rows = [np.concatenate(list(np.clip(x, 0, 1)), axis=1) for x in (image, gray)]
        return {"held_out": (np.concatenate(rows) * 255 + 0.5).astype(np.uint8)}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        kept = {name: params[name] for name in ("identity", "perceptual")}
        return kept, {"fields": self._fields, "errors": self.evaluate(params)}

    def _measurements(self, params, batch: Batch) -> dict[str, jax.Array]:
        params = fold_standardisation(params)
        reading = self._perceptual.apply({"params": params["perceptual"]}, batch["image"])
        parts = reading.segmentation.argmax(-1)
        count, height, width, points = reading.heat.shape
        place = reading.heat.reshape(count, -1, points).argmax(1)
        found = jnp.stack([place % width + 0.5, place // width + 0.5], -1) / jnp.array([width, height]) * 2.0 - 1.0
        inside = (jnp.abs(batch["landmarks"]) < 1.0).all(-1)
        error = jnp.linalg.norm(found - batch["landmarks"], axis=-1) * batch["image"].shape[1] / 2.0
        return {
            "embedding": self._identity.apply({"params": params["identity"]}, batch["image"]),
            "parts": parts,
            "segmentation_accuracy": (parts == batch["segmentation"][:, ::2, ::2]).mean(),
            "landmark_error_pixels": (error * inside).sum() / jnp.maximum(inside.sum(), 1),
        }


def reading_losses(
    reading: FaceReading, segmentation: Shaped[Array, "B n n"], landmarks: Float[Array, "B L 2"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns cross-entropies: of the parts at half the size, of the heat maps' cells that the points lie in.

    Points outside of the picture have no cell and do not count.
    """
    labels = segmentation[:, ::2, ::2].astype(jnp.int32)
    log_parts = jax.nn.log_softmax(reading.segmentation)
    parts = -jnp.take_along_axis(log_parts, labels[..., None], -1).mean()
    batch, height, width, points = reading.heat.shape
    cell = jnp.floor((landmarks + 1.0) / 2.0 * jnp.array([width, height])).astype(jnp.int32)
    inside = ((cell >= 0) & (cell < jnp.array([width, height]))).all(-1)
    place = jnp.where(inside, cell[..., 1] * width + cell[..., 0], 0)
    log_heat = jax.nn.log_softmax(reading.heat.reshape(batch, -1, points), axis=1)
    found = jnp.take_along_axis(log_heat, place[:, None], 1)[:, 0]
    return parts, -(found * inside).sum() / jnp.maximum(inside.sum(), 1)

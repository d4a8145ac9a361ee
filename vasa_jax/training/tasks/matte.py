"""Trains the portrait matte on photographs, before their own and other backgrounds."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from vasa_jax.config import MatteConfig, VASAConfig
from vasa_jax.corpus.photos.topology import face_mesh
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.models.portrait_matte import SIDE, PortraitMatte
from vasa_jax.models.variants import MATTE_VARIANTS
from vasa_jax.rng import named_key
from vasa_jax.training.tasks.base import Task
from vasa_jax.training.tasks.matte_data import SCENE, MatteBatches, Stills, portraits, read_scenes, read_stills
from vasa_jax.weights.parts import MATTE

HELD_OUT_AT_ONCE = 8
SURE = 0.1  # of the share: below it and above 1 - SURE a pixel counts as background and as the person's
KINDS = {"taken": (1.0, 0.0, 0.0, 0.0), "scene": (0.0, 1.0, 0.0, 0.0)}


class MatteTask(Task):
    """Trains `PortraitMatte`."""

    name = MATTE

    def __init__(self, settings: MatteConfig, heads: str, models: str, batch_size: int, seed: int, dtype=jnp.float32):
        """heads: folder of job fit_photos; models: what configs/fit_photos.py names."""
        if not heads:
            raise InputError("config.photo_heads.folder: is empty; give what job fit_photos has written")
        self._settings, self._heads, self._models = settings, heads, models
        self._batch, self._seed = batch_size, seed
        self._fields = MATTE_VARIANTS[settings.variant]
        self._network = PortraitMatte(**self._fields, dtype=dtype)
        self._stills: dict[str, Stills] = {}

    @classmethod
    def from_config(cls, config: VASAConfig) -> "MatteTask":
        train = config.train
        dtype = compute_dtype(train.precision)
        return cls(config.matte, config.photo_heads.folder, config.photos.models, train.batch_size, config.seed, dtype)

    def init(self, key: jax.Array) -> dict[str, Any]:
        return self._network.init(key, jnp.zeros((1, SIDE, SIDE, 3)))["params"]

    def data(self, sharding: NamedSharding | None = None) -> MatteBatches:
        s = self._settings
        scene = s.scenes_share if s.scenes else 0.0
        kinds = {"taken": s.taken, "scene": scene, "leaves": s.leaves, "other": 1.0 - s.taken - scene - s.leaves}
        return MatteBatches(self._read("train"), self._scenes(), kinds, self._batch, self._seed)

    def data_settings(self) -> dict[str, Any]:
        names = ("scenes", "taken", "scenes_share", "leaves", "held_out")
        return {f"matte.{name}": getattr(self._settings, name) for name in names} | {"photo_heads.folder": self._heads}

    def loss(self, params, batch, key):
        """Returns the mean cross entropy of the shares, less their own entropy."""
        del key
        logits = self._network.apply({"params": params}, batch["image"])
        error = optax.sigmoid_binary_cross_entropy(logits, batch["matte"]) - _entropy(batch["matte"])
        return error.mean(), {}

    def evaluate(self, params) -> dict[str, float]:
        """Returns what of held-out pictures is wrongly the person's and wrongly background, as taken and elsewhere."""
        held = self._read("heldout")
        figures: dict[str, list[float]] = {}
        kinds = KINDS if self._settings.scenes else {"taken": KINDS["taken"]}
        for number in range(0, len(held.square), HELD_OUT_AT_ONCE):
            chosen = jnp.arange(number, min(number + HELD_OUT_AT_ONCE, len(held.square)))
            key = jax.random.fold_in(named_key(self._seed, "held out mattes"), number)
            for name, kind in kinds.items():
                shown = portraits(held, self._scenes(), chosen, key, kind)
                found = np.asarray(jax.nn.sigmoid(_apply(self._network, params, shown["image"])))
                matte = np.asarray(shown["matte"])
                figures.setdefault(f"{name}_wrongly_person", []).extend((found * (matte < SURE)).mean((1, 2)))
                figures.setdefault(f"{name}_wrongly_background", []).extend(
                    ((1.0 - found) * (matte > 1.0 - SURE)).mean((1, 2))
                )
        return {name: float(np.mean(values)) for name, values in figures.items()}

    def images(self, params) -> dict[str, np.ndarray]:
        held = self._read("heldout")
        chosen, rows = jnp.arange(min(8, len(held.square))), []
        if not len(chosen):
            return {}
        for kind in KINDS.values() if self._settings.scenes else [KINDS["taken"]]:
            shown = portraits(held, self._scenes(), chosen, named_key(self._seed, "held out mattes"), kind)
            image = np.asarray(shown["image"])
            share = np.asarray(jax.nn.sigmoid(_apply(self._network, params, shown["image"])))[..., None]
            for row in (image, share * image + (1.0 - share) * np.array([1.0, 0.0, 1.0])):
                rows.append(np.concatenate(list(row), 1))
        return {"held_out": (255.0 * np.concatenate(rows, 0) + 0.5).astype(np.uint8)}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        described = {"fields": self._fields, "figures": self.evaluate(params), "sources": self._settings.sources}
        return params, described

    def notes(self) -> list[str]:
        counts = {split: len(self._read(split).square) for split in ("train", "heldout")}
        return [f"{counts['train']} portraits, {counts['heldout']} held out, {len(self._scenes())} scenes"]

    def _read(self, split: str) -> Stills:
        if not self._stills:
            self._stills = read_stills(self._heads, self._settings.held_out, face_mesh(self._models))
            if not len(self._stills["train"].square):
                raise InputError(f"{self._heads}: every photograph is held out; lower config.matte.held_out")
        return self._stills[split]

    def _scenes(self) -> np.ndarray:
        if not hasattr(self, "_places"):
            folder = self._settings.scenes
            self._places = read_scenes(folder) if folder else np.zeros((1, SCENE, SCENE, 3), np.uint8)
        return self._places


def _entropy(share):
    share = jnp.clip(share, 1e-6, 1.0 - 1e-6)
    return -share * jnp.log(share) - (1.0 - share) * jnp.log(1.0 - share)


@functools.partial(jax.jit, static_argnums=0)
def _apply(network: PortraitMatte, params, image):
    return network.apply({"params": params}, image)

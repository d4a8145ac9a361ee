"""Two photographs of one person as training data beside photo heads: each is the truth of the other's face."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from vasa_jax.config import PhotoHeadsConfig
from vasa_jax.corpus.devices import on_each_device, own_key
from vasa_jax.corpus.performance.muscles import neutral_motion
from vasa_jax.corpus.photos.draw import PhotoRenderer
from vasa_jax.corpus.photos.store import read_heads, resized
from vasa_jax.corpus.photos.topology import Mesh
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint, read_table
from vasa_jax.filling import filled_up
from vasa_jax.rng import named_key

AT_ONCE = 8  # photographs that are drawn together


class StillPairs(StepIterator):
    """Iterates over pairs of two photographs of one person: one is the source, the other both driver and target.

    The target stands before the source's background. All drivers of a source are the same photograph. InputError for a
    table or folder that cannot be read, and where nobody has two photographs.
    """

    def __init__(
        self,
        settings: PhotoHeadsConfig,
        mesh: Mesh,
        size: int,
        batch_size: int,
        drivers: int,
        supersample: int,
        seed: int,
        sharding: NamedSharding | None = None,
    ):
        self._batch, self._drivers, self._sharding = batch_size, drivers, sharding
        heads = read_heads(settings.folder)
        names = [Path(name).name for name in heads.pop("photograph").tolist()]
        pairs = pairs_of(names, settings.people)
        if not len(pairs):
            raise InputError(
                f"{settings.people}: nobody has two of the photographs in {settings.folder}; name more, or leave "
                "config.photo_heads.people out"
            )
        used, places = np.unique(pairs, return_inverse=True)
        stills = drawn_in_place(heads, used, PhotoRenderer(mesh, size, supersample), size)
        place = None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())
        self._stills = jax.device_put({**stills, "pairs": places.reshape(pairs.shape)}, place)
        self._key = np.asarray(jax.random.key_data(named_key(seed, "still pairs")))
        self._deciding = {
            "stills": fingerprint([names[i] for i in pairs.ravel()]), "size": size, "batch_size": batch_size,
            "drivers": drivers, "seed": seed,
        }  # fmt: skip

    def deciding(self) -> dict[str, Any]:
        """Returns what decides the batches."""
        return self._deciding

    def batch(self, step: int) -> dict[str, Array]:
        return _pairs(self._stills, self._key, np.uint32(step), (self._batch, self._drivers), self._sharding)


def pairs_of(names: list[str], table: str) -> np.ndarray:
    """Returns the pairs of photographs that show one person, both ways round, as numbers into `names`, int (P, 2).

    Of a name only the first counts: those after it are relatives, other people (`corpus.photos.vary`).

    table: .tsv or .csv with the columns `file` and `person`; a row without a person counts for nothing. InputError for
    a table that cannot be read.
    """
    rows = read_table(table, ("file", "person"), "name the photographs and who they show, or leave it out")
    person = {Path(row["file"]).name: row["person"] for row in rows if row["person"]}
    of: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        if name in person and name not in names[:number]:
            of[person[name]].append(number)
    pairs = [(a, b) for stills in of.values() for a in stills for b in stills if a != b]
    return np.array(pairs, np.int32).reshape(-1, 2)


def drawn_in_place(
    heads: Mapping[str, np.ndarray], which: np.ndarray, renderer: PhotoRenderer, size: int
) -> dict[str, np.ndarray]:
    """Returns the chosen photographs (N, ...): square, background, pose, and matte and segmentation as drawn."""
    rest = {name: jnp.float32(value) for name, value in neutral_motion().items()}

    @jax.jit
    def drawn(chosen):
        frames = jax.vmap(lambda head: renderer.draw(head, rest, head["pose"]))(chosen)
        return frames.matte, frames.segmentation

    heads = {**heads, **{name: resized(heads[name], size) for name in ("square", "background")}}
    parts = []
    for start in range(0, len(which), AT_ONCE):
        part = which[start : start + AT_ONCE]
        filled = filled_up(part, AT_ONCE)
        found = drawn({name: value[filled] for name, value in heads.items()})
        parts.append([np.asarray(x)[: len(part)] for x in found])
    matte, segmentation = (np.concatenate(x) for x in zip(*parts))
    return {
        **{name: heads[name][which] for name in ("square", "background", "pose")},
        "matte": np.clip(255.0 * matte + 0.5, 0, 255).astype(np.uint8), "segmentation": segmentation,
    }  # fmt: skip


@functools.partial(jax.jit, static_argnums=(3, 4))
def _pairs(stills, key, step, counts: tuple[int, int], sharding: NamedSharding | None) -> dict[str, Array]:
    def local(stills, key, step):
        batch, drivers = counts
        count = batch // (sharding.num_devices if sharding else 1)
        key = jax.random.fold_in(own_key(key, sharding), step)
        chosen = jax.random.randint(key, (count // drivers,), 0, len(stills["pairs"]))
        source, other = stills["pairs"][chosen].T
        share = stills["matte"][other][..., None].astype(jnp.float32) / 255.0
        before = share * stills["square"][other] + (1.0 - share) * stills["background"][source]
        target, same = jnp.clip(before + 0.5, 0, 255).astype(jnp.uint8), jnp.ones(count, bool)
        driver = {"driver": stills["square"][other], "driver_pose": stills["pose"][other], "target": target,
                  "target_pose": stills["pose"][other], "segmentation": stills["segmentation"][other]}  # fmt: skip
        return {
            "source": stills["square"][source], "background": stills["background"][source],
            "source_pose": stills["pose"][source], "person": source.astype(jnp.int32),
            **{name: jnp.repeat(value, drivers, 0) for name, value in driver.items()},
            "same_identity": same, "same_pose": same,
        }  # fmt: skip

    return on_each_device(local, sharding, True, True, True)(stills, key, step)

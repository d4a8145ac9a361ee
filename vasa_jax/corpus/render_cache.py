"""Frame pairs of the built-in corpus, rendered by the accelerator that trains on them.

A cache of groups lives in device memory as uint8. A group is a few identities times a few motions, every combination
rendered, so that any pair (source, driver) has its exact cross-identity truth. A share of identities has its look
changed, the same in all of its images. Every step, or every few, renders some groups anew in place of the oldest;
batches are drawn from the rest. Everything is a pure function of (seed, step). On several devices each has a cache of
its own, renders heads that no other device renders and draws its part of every batch.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus.devices import on_each_device, own_key
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import canonical_landmarks, labels
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.heads.style import stylise
from vasa_jax.corpus.performance.muscles import POSE_FIELDS, neutral_motion, sample_motion
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.rng import named_key

Group = dict[str, jax.Array]
# Fields of CorpusConfig that decide the batches.
DECIDING = ("groups", "identities", "motions", "poses", "drivers", "chunk", "refresh", "style", "supersample")
LANDMARK_FIELDS = ("landmarks", "rest", "expression")  # of a group, see `render_groups`


def render_groups(
    key: jax.Array, groups: int, identities: int, motions: int, size: int, supersample: int, poses: int | jax.Array = 1
) -> Group:
    """Renders `groups` groups.

    Images are uint8: rgb (G, I, M, n, n, 3), segmentation (G, I, M, n, n), background (G, I, n, n, 3). float32 are
    pose (G, I, M, 9) and, of all N LANDMARKS, landmarks (G, I, M, N, 2): x, y in [-1, 1]; rest (G, I, N, 3): where they
    lie in the canonical frame in a neutral face; expression (G, I, M, N, 3): how the face moves them there.

    `poses` motions in a row are one face (gaze, lids, brows, mouth) in as many head poses.
    """
    key_identity, key_motion = jax.random.split(key)
    identity = jax.vmap(sample_identity)(jax.random.split(key_identity, groups * identities))
    motion = jax.vmap(sample_motion)(jax.random.split(key_motion, groups * motions))
    number = jnp.arange(groups * motions)
    face = number - number % motions % poses
    motion = {name: value if name in POSE_FIELDS else value[face] for name, value in motion.items()}
    shape = (groups, identities, motions)
    neutral = {name: jnp.full(groups * identities, value) for name, value in neutral_motion().items()}
    at_rest = canonical_landmarks(identity, neutral).reshape(groups, identities, -1, 3)
    count = groups * identities * motions
    which = jnp.arange(count)
    group, rest = which // (identities * motions), which % (identities * motions)
    identity = {name: value[group * identities + rest // motions] for name, value in identity.items()}
    motion = {name: value[group * motions + rest % motions] for name, value in motion.items()}
    frames = render(identity, motion, size, supersample)
    truth = labels(identity, motion)
    background = frames["background"].reshape(*shape, size, size, 3)[:, :, 0]
    return {
        "rgb": to_uint8(frames["rgb"]).reshape(*shape, size, size, 3),
        "segmentation": frames["segmentation"].astype(jnp.uint8).reshape(*shape, size, size),
        "background": to_uint8(background),
        "pose": truth["pose"].reshape(*shape, 9),
        "landmarks": frames["landmarks"][..., :2].reshape(*shape, -1, 2),
        "rest": at_rest,
        "expression": canonical_landmarks(identity, motion).reshape(*shape, -1, 3) - at_rest[:, :, None],
    }


def restyle(key: jax.Array, images: jax.Array, share: float | jax.Array = 1.0) -> jax.Array:
    """Returns the uint8 images (F, n, n, 3) of one person in one random style (`style.stylise`), as uint8."""
    return to_uint8(stylise(key, images.astype(jnp.float32) / 255.0, share))


def restyle_groups(key: jax.Array, group: Group, share: float | jax.Array) -> Group:
    """Gives a share of the identities of `render_groups` another look, the same in all frames and the background."""
    groups, identities, motions, *image = group["rgb"].shape
    images = jnp.concatenate([group["rgb"], group["background"][:, :, None]], 2)
    keys = jax.random.split(key, groups * identities)
    images = images.reshape(groups * identities, motions + 1, *image)
    styled = jax.vmap(restyle, (0, 0, None))(keys, images, share)
    styled = styled.reshape(groups, identities, motions + 1, *image)
    return {**group, "rgb": styled[:, :, :motions], "background": styled[:, :, motions]}


class RenderCache(StepIterator):
    """Iterates over batches with source, driver, target (source's identity in the driver's motion) and their labels.

    Images are uint8 (rows, n, n, 3); `draw_pairs` says which rows each entry has. With `sharding` the batch is
    spread over its devices (of all processes), and each holds `corpus.groups` groups. `landmarks`: whether there are
    those of `LANDMARK_FIELDS`.
    """

    def __init__(
        self,
        corpus: CorpusConfig,
        size: int,
        batch_size: int,
        recipe: str,
        seed: int,
        name: str,
        sharding: NamedSharding | None = None,
        same_frame: float = 0.0,
        landmarks: bool = False,
    ):
        devices = sharding.num_devices if sharding else 1
        if batch_size % (devices * corpus.drivers):
            raise InputError(
                f"config.train.batch_size: {batch_size} pairs of {corpus.drivers} drivers a source do not spread over "
                f"{devices} devices; choose a multiple of {devices * corpus.drivers}"
            )
        self._corpus, self._size, self._batch, self._recipe = corpus, size, batch_size, recipe
        self._sharding, self._same_frame, self._landmarks = sharding, same_frame, landmarks
        # As numpy, which is the same on all processes; a key on one device could not enter a program of them all.
        self._key = np.asarray(jax.random.key_data(named_key(seed, name)))
        self._cache: Group | None = None
        self._deciding = {
            **{field: getattr(corpus, field) for field in DECIDING}, "size": size, "batch_size": batch_size,
            "recipe": recipe, "seed": seed, "stream": name, "same_frame": float(same_frame),
        }  # fmt: skip

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that decide the batches. The number of devices is left out: a run may change it."""
        return self._deciding

    def restore(self, state: dict[str, int]) -> None:
        super().restore(state)
        self._cache = None

    def batch(self, step: int) -> dict[str, jax.Array]:
        if self._cache is None:
            self._fill()
        batch = self._draw(self._cache, step)
        refresh = self._corpus.refresh
        if refresh and step % refresh == 0:
            renewed = step // refresh
            self._cache = self._replace(self._cache, renewed % self._chunks, self._chunks + renewed)
        return batch

    @property
    def _chunks(self) -> int:
        """Chunks that the cache holds; the stream of rendered ones begins with them."""
        return -(-self._corpus.groups // self._corpus.chunk)

    def _fill(self) -> None:
        """Renders what the cache holds before the draw of the current step."""
        chunks, refresh = self._chunks, self._corpus.refresh
        renewed = -(-self._step // refresh) if refresh else 0
        shapes = jax.eval_shape(lambda: self._render(0))
        cache = {
            k: jnp.zeros((chunks * s.shape[0], *s.shape[1:]), s.dtype, device=self._sharding)
            for k, s in shapes.items()
        }
        for slot in range(chunks):
            # The newest of the renewals before the current step that wrote this slot, if any did.
            last = renewed - 1 - (renewed - 1 - slot) % chunks
            cache = self._replace(cache, slot, slot if last < 0 else chunks + last)
        self._cache = cache

    def _render(self, chunk: int) -> Group:
        c = self._corpus
        sizes = (c.chunk, c.identities, c.motions, self._size, c.supersample)
        group = _render_groups(self._key, np.uint32(chunk), np.int32(c.poses), sizes, self._sharding, self._landmarks)
        if not c.style:
            return group
        return _restyle_groups(self._key, np.uint32(chunk), group, np.float32(c.style), self._sharding)

    def _replace(self, cache: Group, slot: int, chunk: int) -> Group:
        return _write(cache, self._render(chunk), np.int32(slot * self._corpus.chunk), self._sharding)

    def _draw(self, cache: Group, step: int) -> dict[str, jax.Array]:
        shape = (self._batch, self._corpus.drivers, self._corpus.poses)
        return _draw(cache, self._key, np.uint32(step), shape, self._recipe, self._sharding, self._same_frame)


# Compiled once for every cache of the same shape: the held-out one costs no second compilation of the renderer.
@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _render_groups(
    key, chunk, poses, sizes: tuple[int, ...], sharding: NamedSharding | None, landmarks: bool
) -> Group:
    def local(key, chunk, poses):
        group = render_groups(jax.random.fold_in(own_key(key, sharding), chunk), *sizes, poses)
        return group if landmarks else {name: x for name, x in group.items() if name not in LANDMARK_FIELDS}

    return on_each_device(local, sharding, True, True, True)(key, chunk, poses)


# Apart from the renderer, which is so compiled once for styled and plain caches.
@functools.partial(jax.jit, static_argnums=4)
def _restyle_groups(key, chunk, group: Group, share, sharding: NamedSharding | None) -> Group:
    def local(key, chunk, group, share):
        return restyle_groups(jax.random.fold_in(jax.random.fold_in(own_key(key, sharding), chunk), 2), group, share)

    return on_each_device(local, sharding, True, True, False, True)(key, chunk, group, share)


@functools.partial(jax.jit, static_argnums=3, donate_argnums=0)
def _write(cache: Group, new: Group, first, sharding: NamedSharding | None) -> Group:
    def local(cache, new, first):
        return {k: jax.lax.dynamic_update_slice_in_dim(cache[k], new[k], first, 0) for k in cache}

    return on_each_device(local, sharding, False, False, True)(cache, new, first)


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _draw(
    cache: Group, key, step, shape: tuple[int, int, int], recipe: str, sharding: NamedSharding | None, same_frame: float
) -> Group:
    def local(cache, key, step):
        key = jax.random.fold_in(jax.random.fold_in(own_key(key, sharding), 2**31 - 1), step)
        batch, drivers, poses = shape
        own = batch // (sharding.num_devices if sharding else 1)
        return draw_pairs(cache, key, own, drivers, recipe, same_frame, poses)

    return on_each_device(local, sharding, False, True, True)(cache, key, step)


def draw_pairs(
    cache: Group, key: jax.Array, batch: int, drivers: int, recipe: str, same_frame: float = 0.0, poses: int = 1
) -> Group:
    """Draws `batch` pairs from a cache: `batch / drivers` sources, each with that many drivers in different faces.

    In recipe `counterfactual` a driver is of any identity and, where the cache has faces in several `poses`, in any
    of them: the target is the source's person with the driver's face in a head pose of its own. In other recipes
    driver and target are one image. Sources, backgrounds and source poses have `batch / drivers` rows, the rest
    `batch`, the drivers of one source side by side. `person` numbers the sources' identities. In a share `same_frame`
    of the pairs the driver is in the source's own motion: one pair of a source at most, never the first of several.
    A cache with landmarks gives all three LANDMARK_FIELDS of sources, drivers and targets, and the sources'
    segmentation.
    """
    groups, identities, motions = cache["rgb"].shape[:3]
    keys = jax.random.split(key, 5)
    sources = batch // drivers
    group = jax.random.randint(keys[0], (sources,), 0, groups)
    source = jax.random.randint(keys[1], (sources,), 0, identities)
    first = jax.random.randint(keys[2], (sources,), 0, motions)
    faces = motions // poses
    others = jax.vmap(lambda k: jax.random.permutation(k, faces - 1))(jax.random.split(keys[3], sources))
    second = (first[:, None] // poses + 1 + others[:, :drivers]) % faces
    posed = jax.random.randint(jax.random.fold_in(key, 6), (2, sources, drivers), 0, poses)
    second, shown = second * poses + posed
    if same_frame:
        # Two drivers in one motion would count as different in the contrast of motions.
        still = jax.random.uniform(jax.random.fold_in(key, 5), (sources,)) < same_frame * drivers
        second, shown = (x.at[:, -1].set(jnp.where(still, first, x[:, -1])) for x in (second, shown))
    second, shown = second.reshape(-1), shown.reshape(-1)
    groups_of_pairs, owner = jnp.repeat(group, drivers), jnp.repeat(source, drivers)
    if recipe == "counterfactual":
        driver = jax.random.randint(keys[4], (batch,), 0, identities)
    else:
        driver, shown = owner, second
    landmarks = {}
    if "landmarks" in cache:
        images = {
            "source": (group, source, first),
            "driver": (groups_of_pairs, driver, second),
            "target": (groups_of_pairs, owner, shown),
        }
        landmarks = {
            f"{image}_{name}": cache[name][where[:2] if name == "rest" else where]
            for image, where in images.items()
            for name in LANDMARK_FIELDS
        }
        landmarks["source_segmentation"] = cache["segmentation"][group, source, first]
    return {
        "source": cache["rgb"][group, source, first],
        "background": cache["background"][group, source],
        "source_pose": cache["pose"][group, source, first],
        "person": group * identities + source,
        "driver": cache["rgb"][groups_of_pairs, driver, second],
        "driver_pose": cache["pose"][groups_of_pairs, driver, second],
        "target": cache["rgb"][groups_of_pairs, owner, shown],
        "target_pose": cache["pose"][groups_of_pairs, owner, shown],
        "segmentation": cache["segmentation"][groups_of_pairs, owner, shown],
        "same_identity": owner == driver,
        "same_pose": second == shown,
        **landmarks,
    }

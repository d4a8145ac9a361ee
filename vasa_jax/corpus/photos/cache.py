"""Photo heads as training data: groups drawn on the accelerator from fitted photographs, and pairs of them.

Like `corpus.render_cache`: groups live in device memory as uint8, the oldest is drawn anew every few updates, and every
batch is a pure function of (seed, step). On several devices each has groups of its own and draws its part of a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array

from vasa_jax.config import PhotoHeadsConfig
from vasa_jax.corpus.devices import on_each_device, own_key
from vasa_jax.corpus.photos import groups as G
from vasa_jax.corpus.photos.backdrops import before_backdrops
from vasa_jax.corpus.photos.draw import PhotoRenderer
from vasa_jax.corpus.photos.store import read_heads, resized
from vasa_jax.corpus.photos.topology import Mesh
from vasa_jax.corpus.render_cache import restyle
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint
from vasa_jax.models.face_encoder import VASAFaceEncoder
from vasa_jax.rng import named_key

GREY = 6.0  # mean difference of red and blue, of 255, under which a photograph is grey
DECIDING = ("share", "groups", "photos", "heads", "faces", "poses", "refresh", "as_taken", "rendered_drivers",
            "shut_lids", "half_shut_lids", "open_jaws", "turn", "style", "grey", "backdrops")  # fmt: skip
_SIDE = ("square", "background")  # pictures of the codec's square


class PhotoCache(StepIterator):
    """Iterates over batches of pairs with photographed sources, as `groups.draw_photo_pairs` describes them.

    size: of the pictures. anchor: an encoder of that size and its parameters, whose latents of rendered heads name the
    faces; None = they have no names. InputError for a folder that cannot be read, holds fewer heads than a group takes,
    or has no squares.
    """

    def __init__(
        self,
        settings: PhotoHeadsConfig,
        mesh: Mesh,
        size: int,
        anchor: tuple[VASAFaceEncoder, Mapping[str, Any]] | None,
        batch_size: int,
        drivers: int,
        supersample: int,
        seed: int,
        sharding: NamedSharding | None = None,
    ):
        heads = read_heads(settings.folder)
        if "square" not in heads:
            raise InputError(
                f"{settings.folder}: was fitted by an earlier version; make it anew with configs/fit_photos.py"
            )
        names, count = heads.pop("photograph"), len(heads["pose"])
        if count < settings.photos:
            raise InputError(
                f"{settings.folder}: {count} photo heads, a group takes {settings.photos}; fit more photographs, or "
                "set config.photo_heads.photos"
            )
        self._shape = G.Shape.of(settings, size, supersample)
        self._settings, self._sharding = settings, sharding
        self._batch, self._drivers = batch_size, drivers
        self._renderer = PhotoRenderer(mesh, size, supersample)
        self._reader, self._reader_params = anchor or (None, {})
        self._chance = chances(heads["square"], settings.grey)
        self._heads = {name: resized(x, size) if name in _SIDE else x for name, x in heads.items()}
        self._key = np.asarray(jax.random.key_data(named_key(seed, "photo heads")))
        self._groups: G.Arrays | None = None
        self._deciding = {
            **{f"photo_heads.{name}": getattr(settings, name) for name in DECIDING}, "size": size, "seed": seed,
            "batch_size": batch_size, "drivers": drivers, "photographs": fingerprint(sorted(names.tolist())),
        }  # fmt: skip

    def deciding(self) -> dict[str, Any]:
        """Returns the settings and photographs that decide the batches."""
        return self._deciding

    def restore(self, state: dict[str, int]) -> None:
        super().restore(state)
        self._groups = None

    def batch(self, step: int) -> G.Arrays:
        if self._groups is None:
            self._fill(step)
        shares = np.array([self._settings.as_taken, self._settings.rendered_drivers], np.float32)
        batch = _pairs(
            self._groups, self._key, np.uint32(step), shares, (self._batch, self._drivers), self._shape, self._sharding
        )
        refresh = self._settings.refresh
        if refresh and step % refresh == 0:
            renewed = step // refresh
            self._renew(renewed % self._settings.groups, self._settings.groups + renewed)
        return batch

    def _fill(self, step: int) -> None:
        """Draws what is held before the draw of `step`."""
        self._heads, self._reader_params = self._on_devices((self._heads, self._reader_params))
        count, refresh = self._settings.groups, self._settings.refresh
        renewed = -(-step // refresh) if refresh else 0
        for slot in range(count):
            last = renewed - 1 - (renewed - 1 - slot) % count
            drawn = self._draw(slot if last < 0 else count + last)
            if self._groups is None:
                self._groups = {
                    name: jnp.zeros((count * x.shape[0], *x.shape[1:]), x.dtype, device=self._sharding)
                    for name, x in drawn.items()
                }
            self._groups = _write(self._groups, drawn, np.int32(slot), self._sharding)

    def _on_devices(self, tree: Any) -> Any:
        """Copies to every device what all of them read."""
        if self._sharding is None:
            return jax.device_put(tree)
        return jax.device_put(tree, NamedSharding(self._sharding.mesh, jax.sharding.PartitionSpec()))

    def _renew(self, slot: int, number: int) -> None:
        self._groups = _write(self._groups, self._draw(number), np.int32(slot), self._sharding)

    def _draw(self, number: int) -> G.Arrays:
        shape, sharding, key, number = self._shape, self._sharding, self._key, np.uint32(number)
        shares = np.asarray(G.Shares.of(self._settings), np.float32)
        faces = _faces(key, number, shares, self._chance, shape, sharding)
        # Both renderers take minutes to compile for a GPU: side by side.
        with ThreadPoolExecutor(2) as pool:
            photos = pool.submit(
                _photos, self._heads, faces, key, number, np.float32(self._settings.backdrops), self._renderer,
                bool(self._settings.backdrops), sharding,
            )  # fmt: skip
            rendered = pool.submit(_rendered, faces, key, number, shape, sharding)
            photos, rendered = photos.result(), rendered.result()
        group = _joined(photos, rendered, faces, shape, sharding)
        if self._settings.style:
            group = _restyled(group, key, number, np.float32(self._settings.style), shape, sharding)
        if self._reader is None:
            return group
        return {**group, "latent": _latents(rendered["rgb"], self._reader_params, self._reader, shape, sharding)}


def chances(squares: np.ndarray, grey: float) -> np.ndarray:
    """Returns how probable each photograph is, float32 (N,): grey ones have the share `grey` together, if any are."""
    colour = squares.astype(np.int16)
    is_grey = np.abs(colour[..., 0] - colour[..., 2]).mean((1, 2)) < GREY
    if is_grey.all() or not is_grey.any():
        return np.full(len(squares), 1.0 / len(squares), np.float32)
    chance = np.where(is_grey, grey / is_grey.sum(), (1.0 - grey) / (~is_grey).sum())
    # A group takes several different ones: none may be impossible.
    return np.maximum(chance, 1e-9).astype(np.float32)


# Arrays of a device's one group have a leading axis of 1, along which those of several devices are joined.


@functools.partial(jax.jit, static_argnums=(4, 5))
def _faces(key, number, shares, chance, shape: G.Shape, sharding: NamedSharding | None) -> G.Arrays:
    """What a group shows: `motion` (1, M) by name, `pose` (1, M, 9), and `which` photo heads (1, photos)."""

    def local(key, number, shares, chance):
        k = jax.random.split(_own(key, number, sharding), 2)
        motion = G.sample_faces(k[0], shape, G.Shares(*shares))
        which = jax.random.choice(k[1], len(chance), (shape.photos,), replace=False, p=chance)
        faces = {"motion": motion, "pose": G.usual_poses(motion), "which": which}
        return jax.tree.map(lambda x: x[None], faces)

    return on_each_device(local, sharding, *[True] * 4)(key, number, shares, chance)


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def _photos(
    heads, faces, key, number, share, renderer: PhotoRenderer, backdrops: bool, sharding: NamedSharding | None
) -> G.Arrays:
    """The photo heads of a group: `groups.drawn_photos`, and background, square and square_pose of each."""

    def local(heads, faces, key, number, share):
        faces = jax.tree.map(lambda x: x[0], faces)
        chosen = {name: value[faces["which"]] for name, value in heads.items()}
        if backdrops:
            chosen = before_backdrops(chosen, jax.random.fold_in(_own(key, number, sharding), 4), share, renderer)
        drawn = G.drawn_photos(chosen, faces["motion"], faces["pose"], renderer)
        own = {"background": chosen["background"], "square": chosen["square"], "square_pose": chosen["pose"]}
        return jax.tree.map(lambda x: x[None], drawn | own)

    return on_each_device(local, sharding, True, False, True, True, True)(heads, faces, key, number, share)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _rendered(faces, key, number, shape: G.Shape, sharding: NamedSharding | None) -> G.Arrays:
    def local(faces, key, number):
        k = jax.random.fold_in(_own(key, number, sharding), 2)
        motion = {name: value[0] for name, value in faces["motion"].items()}
        return jax.tree.map(lambda x: x[None], G.rendered_heads(k, motion, shape))

    return on_each_device(local, sharding, False, True, True)(faces, key, number)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _joined(photos, rendered, faces, shape: G.Shape, sharding: NamedSharding | None) -> G.Arrays:
    """A group without its latents: photo heads, then rendered ones."""

    def local(photos, rendered, faces):
        photos, rendered, pose = jax.tree.map(lambda x: x[0], (photos, rendered, faces["pose"]))
        joined = {
            name: jnp.concatenate([photos[name], rendered[name]]) for name in ("rgb", "background", "segmentation")
        }
        pose = jnp.concatenate([jnp.broadcast_to(pose, (shape.photos, *pose.shape)), rendered["pose"]])
        kept = {name: photos[name] for name in ("square", "square_pose", "moved", "kind")}
        return jax.tree.map(lambda x: x[None], {**joined, "pose": pose, **kept})

    return on_each_device(local, sharding, False, False, False)(photos, rendered, faces)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _restyled(group, key, number, style, shape: G.Shape, sharding: NamedSharding | None) -> G.Arrays:
    """Gives some people of a group another look, the same in all of their images."""

    def local(group, key, number, style):
        k = jax.random.split(jax.random.fold_in(_own(key, number, sharding), 3), shape.people + 1)
        group = {name: value[0] for name, value in group.items()}
        share = style * jnp.where(jnp.arange(shape.people) < shape.photos, G.PHOTO_STYLE, 1.0)
        on = jax.random.uniform(k[-1], (shape.people,)) < share
        square = jnp.concatenate([group["square"], group["background"][shape.photos :]])  # rendered heads have none
        images = jnp.concatenate([group["rgb"], group["background"][:, None], square[:, None]], 1)
        looks = jax.lax.map(lambda x: restyle(*x), (k[:-1], images, on.astype(jnp.float32)))
        images = jnp.where(on[:, None, None, None, None], looks, images)
        # Looks may blur: what is copied is then not what is shown.
        kind = jnp.where(on[: shape.photos, None, None, None], 0, group["kind"]).astype(jnp.uint8)
        changed = {"rgb": images[:, :-2], "background": images[:, -2], "square": images[: shape.photos, -1]}
        return jax.tree.map(lambda x: x[None], {**group, **changed, "kind": kind})

    return on_each_device(local, sharding, False, True, True, True)(group, key, number, style)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _latents(rgb, params, reader: VASAFaceEncoder, shape: G.Shape, sharding: NamedSharding | None) -> Array:
    """(1, faces, Z): means over rendered heads, before their look is changed, and poses."""

    def local(rgb, params):
        images = rgb.reshape(-1, *rgb.shape[3:]).astype(jnp.float32) / 255.0
        latents = reader.apply({"params": params}, images, method="encode_motion")[1]
        return latents.reshape(shape.heads, shape.faces, shape.poses, -1).mean((0, 2))[None]

    return on_each_device(local, sharding, False, True)(rgb, params)


def _own(key, number, sharding: NamedSharding | None) -> Array:
    """The key of this device's group of a number."""
    return jax.random.fold_in(own_key(key, sharding), number)


@functools.partial(jax.jit, static_argnums=3, donate_argnums=0)
def _write(groups: G.Arrays, new: G.Arrays, slot, sharding) -> G.Arrays:
    def local(groups, new, slot):
        return {k: jax.lax.dynamic_update_slice_in_dim(groups[k], new[k], slot, 0) for k in groups}

    return on_each_device(local, sharding, False, False, True)(groups, new, slot)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _pairs(groups: G.Arrays, key, step, shares, counts: tuple[int, int], shape: G.Shape, sharding) -> G.Arrays:
    def local(groups, key, step, shares):
        key = jax.random.fold_in(jax.random.fold_in(own_key(key, sharding), 2**31 - 1), step)
        batch, drivers = counts
        own = batch // (sharding.num_devices if sharding else 1)
        return G.draw_photo_pairs(groups, key, own, drivers, shape, shares)

    return on_each_device(local, sharding, False, True, True, True)(groups, key, step, shares)

"""Photo heads as training data: groups drawn on the accelerator from fitted photographs, and pairs of them.

Like `corpus.render_cache`: groups live in device memory as uint8, the oldest is drawn anew every few updates, and every
batch is a pure function of (seed, step). On several devices each has groups of its own and draws its part of a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import PhotoHeadsConfig
from vasa_jax.corpus.devices import on_each_device, own_key
from vasa_jax.corpus.photos import groups as G
from vasa_jax.corpus.photos.draw import PhotoRenderer
from vasa_jax.corpus.photos.store import read_heads
from vasa_jax.corpus.photos.topology import Mesh
from vasa_jax.corpus.render_cache import restyle
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint
from vasa_jax.models.face_encoder import VASAFaceEncoder
from vasa_jax.rng import named_key

GREY = 6.0  # mean difference of red and blue, of 255, under which a photograph is grey
DECIDING = ("share", "groups", "photos", "heads", "faces", "poses", "refresh", "as_taken", "rendered_drivers",
            "shut_lids", "half_shut_lids", "open_jaws", "turn", "style", "grey")  # fmt: skip
_SIDE = ("square", "background")  # pictures of the codec's square


class PhotoCache(StepIterator):
    """Iterates over batches of pairs with photographed sources, as `groups.draw_photo_pairs` describes them.

    `reader` and `reader_params` are the encoder whose latents of rendered heads name the faces. InputError for a folder
    that cannot be read, holds fewer heads than a group takes, or has no squares.
    """

    def __init__(
        self,
        settings: PhotoHeadsConfig,
        mesh: Mesh,
        reader: VASAFaceEncoder,
        reader_params: Mapping[str, Any],
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
        size = reader.image_size
        self._shape = G.Shape.of(settings, size, supersample)
        self._settings, self._sharding = settings, sharding
        self._batch, self._drivers = batch_size, drivers
        self._renderer = PhotoRenderer(mesh, size, supersample)
        self._reader, self._reader_params = reader, reader_params
        self._chance = chances(heads["square"], settings.grey)
        self._heads = {name: _resized(x, size) if name in _SIDE else x for name, x in heads.items()}
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
        shapes = jax.eval_shape(lambda: self._draw(0))
        self._groups = {
            name: jnp.zeros((count * s.shape[0], *s.shape[1:]), s.dtype, device=self._sharding)
            for name, s in shapes.items()
        }
        for slot in range(count):
            last = renewed - 1 - (renewed - 1 - slot) % count
            self._renew(slot, slot if last < 0 else count + last)

    def _on_devices(self, tree: Any) -> Any:
        """Copies to every device what all of them read."""
        if self._sharding is None:
            return jax.device_put(tree)
        return jax.device_put(tree, NamedSharding(self._sharding.mesh, jax.sharding.PartitionSpec()))

    def _renew(self, slot: int, number: int) -> None:
        self._groups = _write(self._groups, self._draw(number), np.int32(slot), self._sharding)

    def _draw(self, number: int) -> G.Arrays:
        numbers = (np.asarray(G.Shares.of(self._settings), np.float32), np.float32(self._settings.style))
        shape, sharding = self._shape, self._sharding
        drawn = _group(
            self._heads, self._chance, self._key, np.uint32(number), *numbers, self._renderer, shape, sharding
        )
        return _read(drawn, self._reader_params, self._reader, shape, sharding)


def chances(squares: np.ndarray, grey: float) -> np.ndarray:
    """Returns how probable each photograph is, float32 (N,): grey ones have the share `grey` together, if any are."""
    colour = squares.astype(np.int16)
    is_grey = np.abs(colour[..., 0] - colour[..., 2]).mean((1, 2)) < GREY
    if is_grey.all() or not is_grey.any():
        return np.full(len(squares), 1.0 / len(squares), np.float32)
    chance = np.where(is_grey, grey / is_grey.sum(), (1.0 - grey) / (~is_grey).sum())
    # A group takes several different ones: none may be impossible.
    return np.maximum(chance, 1e-9).astype(np.float32)


def _resized(pictures: np.ndarray, size: int) -> np.ndarray:
    import cv2

    if pictures.shape[1] == size:
        return pictures
    return np.stack([cv2.resize(x, (size, size), interpolation=cv2.INTER_AREA) for x in pictures])


@functools.partial(jax.jit, static_argnums=(6, 7, 8))
def _group(heads, chance, key, number, shares, style, renderer: PhotoRenderer, shape: G.Shape, sharding) -> G.Arrays:
    """A group without its latents, one for each device."""

    def local(heads, chance, key, number, shares, style):
        k = jax.random.split(jax.random.fold_in(own_key(key, sharding), number), 5)
        motion = G.sample_faces(k[0], shape, G.Shares(*shares))
        pose = G.usual_poses(motion)
        which = jax.random.choice(k[1], len(chance), (shape.photos,), replace=False, p=chance)
        chosen = {name: value[which] for name, value in heads.items()}
        photos = G.drawn_photos(chosen, motion, pose, renderer)
        rendered = G.rendered_heads(k[2], motion, shape)
        rgb = jnp.concatenate([photos["rgb"], rendered["rgb"]])
        background = jnp.concatenate([chosen["background"], rendered["background"]])
        square = jnp.concatenate([chosen["square"], rendered["background"]])  # rendered heads have no photograph
        share = style * jnp.where(jnp.arange(shape.people) < shape.photos, G.PHOTO_STYLE, 1.0)
        on = jax.random.uniform(k[3], (shape.people,)) < share
        images = jnp.concatenate([rgb, background[:, None], square[:, None]], 1)
        keys = jax.random.split(k[4], shape.people)
        looks = jax.lax.map(lambda x: restyle(*x), (keys, images, on.astype(jnp.float32)))
        images = jnp.where(on[:, None, None, None, None], looks, images)
        # Looks may blur: what is copied is then not what is shown.
        kind = jnp.where(on[: shape.photos, None, None, None], 0, photos["kind"])
        group = {
            "rgb": images[:, :-2], "background": images[:, -2], "square": images[: shape.photos, -1],
            "segmentation": jnp.concatenate([photos["segmentation"], rendered["segmentation"]]),
            "pose": jnp.concatenate([jnp.broadcast_to(pose, (shape.photos, *pose.shape)), rendered["pose"]]),
            "square_pose": chosen["pose"], "moved": photos["moved"], "kind": kind.astype(jnp.uint8),
            "plain": rendered["rgb"],
        }  # fmt: skip
        return {name: value[None] for name, value in group.items()}

    whole = (True,) * 6
    return on_each_device(local, sharding, *whole)(heads, chance, key, number, shares, style)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _read(group: G.Arrays, params, reader: VASAFaceEncoder, shape: G.Shape, sharding) -> G.Arrays:
    """Adds `latent` (1, faces, Z): means over the rendered heads and the poses, read before their look is changed."""

    def local(group, params):
        plain = group["plain"][0]
        images = plain.reshape(-1, *plain.shape[2:]).astype(jnp.float32) / 255.0
        latents = reader.apply({"params": params}, images, method="encode_motion")[1]
        latents = latents.reshape(shape.heads, shape.faces, shape.poses, -1).mean((0, 2))
        rest = {name: value for name, value in group.items() if name != "plain"}
        return {**rest, "latent": latents[None]}

    return on_each_device(local, sharding, False, True)(group, params)


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

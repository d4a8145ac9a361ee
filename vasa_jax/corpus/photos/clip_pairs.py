"""Real clips as training data beside photo heads: a few frames of each in device memory, and pairs of one clip."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from vasa_jax.config import PhotoHeadsConfig
from vasa_jax.corpus.devices import on_each_device, own_key
from vasa_jax.corpus.photos.fill import filled
from vasa_jax.data.dataset import VASADataset
from vasa_jax.data.face_regions import segmentation_of
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.rng import named_key

CLEAR = 0.05  # share of a person under which a pixel shows the background
REACH = 9  # pixels of 256 around a matte that still belong to the person's rim


class ClipPairs(StepIterator):
    """Iterates over pairs of frames of one clip, driver and target the same frame.

    The target stands before the clip's own background: seen where the person once was not, filled elsewhere. InputError
    where no clip has poses, a matte and enough frames.
    """

    def __init__(
        self,
        settings: PhotoHeadsConfig,
        size: int,
        batch_size: int,
        drivers: int,
        seed: int,
        sharding: NamedSharding | None = None,
    ):
        self._batch, self._drivers, self._sharding = batch_size, drivers, sharding
        self._clips = read_clips(settings, size)
        place = None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())
        self._clips = jax.device_put(self._clips, place)
        self._key = np.asarray(jax.random.key_data(named_key(seed, "clips")))
        self._deciding = {
            "clips": len(self._clips["person"]), "clip_frames": settings.clip_frames, "size": size,
            "clip_stride": settings.clip_stride, "batch_size": batch_size, "drivers": drivers, "seed": seed,
        }  # fmt: skip

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that decide the batches."""
        return self._deciding

    def batch(self, step: int) -> dict[str, Array]:
        return _pairs(self._clips, self._key, np.uint32(step), (self._batch, self._drivers), self._sharding)


def read_clips(settings: PhotoHeadsConfig, size: int) -> dict[str, np.ndarray]:
    """Reads K frames of each clip of the training split, at most `most_clips`.

    Returns frames, shown (C, K, n, n, 3), segmentation (C, K, n, n), background (C, n, n, 3) uint8, pose (C, K, 9),
    person (C,). InputError as for `ClipPairs`.
    """
    length = (settings.clip_frames - 1) * settings.clip_stride + 1
    dataset = VASADataset(
        settings.clips, view="clips", batch_size=1, frames=length, size=size, matte=True, shuffle=False, epochs=1
    )
    clips = []
    for batch in dataset:
        if not (batch["valid_matte"][0] and batch["valid_pose"][0]):
            continue
        every = slice(None, None, settings.clip_stride)
        landmarks = batch["landmarks"][0, every] if batch["valid_landmarks"][0] else None
        clips.append(_clip(batch["frames"][0, every], batch["matte"][0, every], landmarks, batch["pose"][0, every]))
        if len(clips) == settings.most_clips:
            break
    if not clips:
        raise InputError(
            f"{settings.clips}: no clip of {length} frames with poses and mattes; make them with configs/prepare.py "
            "and analyzer litert, or lower config.photo_heads.clip_stride"
        )
    stacked = {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}
    return {**stacked, "person": np.arange(len(clips), dtype=np.int32)}


def _clip(
    frames: np.ndarray, matte: np.ndarray, landmarks: np.ndarray | None, pose: np.ndarray
) -> dict[str, np.ndarray]:
    import cv2

    size = frames.shape[1]
    points = [None] * len(frames) if landmarks is None else landmarks
    segmentation = np.stack([segmentation_of(m, p, size) for m, p in zip(matte, points)])
    share = np.clip((matte.astype(np.float32) / 255.0 - 0.2) / 0.6, 0.0, 1.0)
    reach = max(size * REACH // 256, 1)
    around = np.stack([cv2.dilate(s, np.ones((reach, reach))) for s in share])
    clear = (around < CLEAR).astype(np.float32)[..., None]
    seen = clear.sum(0)
    behind = (frames * clear).sum(0) / np.maximum(seen, 1.0)
    known = seen[..., 0] > 0
    behind = filled(behind, known) if known.any() else np.broadcast_to(frames.mean((0, 1, 2)), behind.shape)
    shown = share[..., None] * frames + (1.0 - share[..., None]) * behind

    def to_uint8(x):
        return np.clip(x + 0.5, 0, 255).astype(np.uint8)

    return {
        "frames": frames, "shown": to_uint8(shown), "background": to_uint8(behind), "segmentation": segmentation,
        "pose": pose.astype(np.float32),
    }  # fmt: skip


@functools.partial(jax.jit, static_argnums=(3, 4))
def _pairs(clips, key, step, counts: tuple[int, int], sharding: NamedSharding | None) -> dict[str, Array]:
    def local(clips, key, step):
        key = jax.random.fold_in(own_key(key, sharding), step)
        batch, drivers = counts
        count = batch // (sharding.num_devices if sharding else 1)
        sources = count // drivers
        total, held = clips["frames"].shape[:2]
        clip = jax.random.randint(jax.random.fold_in(key, 0), (sources,), 0, total)
        orders = jax.random.split(jax.random.fold_in(key, 1), sources)
        order = jax.vmap(lambda k: jax.random.permutation(k, held)[: drivers + 1])(orders)
        first, at, frame = order[:, 0], jnp.repeat(clip, drivers), order[:, 1:].reshape(-1)
        same, pose = jnp.ones(count, bool), clips["pose"][at, frame]
        return {
            "source": clips["shown"][clip, first],
            "background": clips["background"][clip],
            "source_pose": clips["pose"][clip, first],
            "person": clips["person"][clip],
            "driver": clips["frames"][at, frame],
            "driver_pose": pose,
            "target": clips["shown"][at, frame],
            "target_pose": pose,
            "segmentation": clips["segmentation"][at, frame],
            "same_identity": same,
            "same_pose": same,
        }

    return on_each_device(local, sharding, True, True, True)(clips, key, step)

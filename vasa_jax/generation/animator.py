"""A portrait moved by motion vectors: the codec at work, without speech (VASA-1 section 3.3)."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import POSE_DIM
from vasa_jax.generation.avatar import Avatar, fill_behind_head
from vasa_jax.generation.provenance import model_name
from vasa_jax.generation.watermark import Payload, embed, pattern
from vasa_jax.models.face import face_codec
from vasa_jax.models.layers import fold_standardisation


class PortraitAnimator:
    """The face codec's parts and their compiled functions; each compiles once per shape."""

    def __init__(
        self, face: tuple[dict[str, Any], dict[str, Any]], decode_batch: int = 8, dtype=jnp.float32, mark: bool = True
    ):
        """face: (parameters, metadata) of a codec, as `load_part` gives them; `decode_batch` frames at once.

        mark: frames carry the invisible mark (watermark.py); only what measures a network goes without.
        """
        params, metadata = face
        self._face = jax.jit(fold_standardisation)(params)
        self._encoder, self._decoder = face_codec(metadata["fields"], dtype)
        self._batch, self._mark = decode_batch, mark
        self.model = model_name(params)  # what a manifest calls it

    @property
    def image_size(self) -> int:
        """Pixels of the square picture that goes in and comes out."""
        return self._encoder.image_size

    def prepare(self, portrait: np.ndarray, payload: Payload | None = None) -> Avatar:
        """uint8 (n, n, 3), already cropped, to an avatar; `payload` of its mark, by default that of the portrait."""
        latents, matte = _encode_portrait(self._encoder, self._decoder, self._face, jnp.asarray(portrait)[None])
        canvas = fill_behind_head(portrait, np.asarray(matte[0, ..., 0], np.float32))
        payload = (payload or Payload.of_portrait(portrait)) if self._mark else None
        waves = pattern(payload, self.image_size) if payload else np.zeros(portrait.shape[:2], np.float32)
        return Avatar(latents, jnp.asarray(canvas, jnp.float32) / 255.0, portrait, payload, jnp.asarray(waves))

    def encode_motion(self, frames: np.ndarray) -> np.ndarray:
        """Pictures uint8 (N, n, n, 3) to the motion they show, float32 (N, 137)."""
        motion = []
        for start in range(0, len(frames), self._batch):
            part = frames[start : start + self._batch]
            padded = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), 0)])
            motion.append(np.asarray(_encode_motion(self._encoder, self._face, padded))[: len(part)])
        return np.concatenate(motion)

    def render(self, avatar: Avatar, motion: np.ndarray, batch: int = 0) -> Iterator[np.ndarray]:
        """Motion (T, 137) to frames, uint8 (b, n, n, 3), b at once (0 = the decode batch; the last may be shorter)."""
        batch = batch or min(self._batch, len(motion))
        for start in range(0, len(motion), batch):
            part = motion[start : start + batch]
            yield np.asarray(self.decode(avatar, part, batch))[: len(part)]

    def decode(self, avatar: Avatar, motion: np.ndarray, batch: int) -> jax.Array:
        """Motion of at most `batch` frames to pictures (batch, n, n, 3) on the device; the last one is repeated."""
        padded = np.concatenate([motion, np.repeat(motion[-1:], batch - len(motion), 0)])
        return _decode(self._decoder, self._face, avatar.latents, avatar.canvas, avatar.pattern, padded)


# Compiled per network and shape, not per animator: a process may make many, and compiled code is never freed.


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode_portrait(encoder, decoder, face, image):
    latents = encoder.apply({"params": face["encoder"]}, image.astype(jnp.float32) / 255.0, method="encode")
    return latents, decoder.apply({"params": face["decoder"]}, *latents).matte


@functools.partial(jax.jit, static_argnums=0)
def _encode_motion(encoder, face, images):
    images = images.astype(jnp.float32) / 255.0
    pose, dynamics = encoder.apply({"params": face["encoder"]}, images, method="encode_motion")
    return jnp.concatenate([pose, dynamics], -1)


@functools.partial(jax.jit, static_argnums=0)
def _decode(decoder, face, latents, canvas, pattern, motion):
    pose, dynamics = motion[:, :POSE_DIM], motion[:, POSE_DIM:]
    decoded = decoder.apply({"params": face["decoder"]}, latents.appearance, latents.identity, pose, dynamics)
    rgb, matte = decoded.rgb.astype(jnp.float32), decoded.matte.astype(jnp.float32)
    picture = matte * rgb + (1.0 - matte) * canvas
    return jnp.clip(embed(picture * 255.0, pattern) + 0.5, 0.0, 255.0).astype(jnp.uint8)

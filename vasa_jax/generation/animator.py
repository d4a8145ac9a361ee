"""A portrait moved by motion vectors: the codec at work, without speech (VASA-1 section 3.3)."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from vasa_jax.conventions import POSE_DIM
from vasa_jax.data.face_crop import Crop, crop_square
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.filling import filled_up
from vasa_jax.generation.cut_out import CODEC, PORTRAIT_MATTE, cut_out, distance_from
from vasa_jax.generation.paste import Paste, Place, writable
from vasa_jax.generation.person_matte import PersonMatte
from vasa_jax.generation.picture_mark import picture_mark
from vasa_jax.generation.portraits import Portrait
from vasa_jax.generation.provenance import model_name
from vasa_jax.generation.watermark import Payload, finished, pattern, rounded
from vasa_jax.models.face import Latents, face_codec
from vasa_jax.models.keypoint_motion import RawMotion
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.weights.networks import framing_of
from vasa_jax.weights.parts import MATTE, load_if_there, load_part

LARGEST_FRAME = 1024  # pixels of a side
NEAR, FADE = 0.03, 0.03  # halves of the side: how far lips, hair and matte reach beyond the portrait's person; a rim
TURNS = 0.2  # of that, for a rotation's largest change of a number
RIM = 2 / 256  # of the side, around the head: its own colours are in there, and go with it
FILLED = 1 / 96  # of the side: how far what is filled in behind the head is smoothed
HIDDEN = 0.05  # of the matte: where there is less of the head, its colour goes over into grey


@dataclasses.dataclass(frozen=True)
class Avatar:
    """A portrait made ready to speak: what is computed once per portrait (VASA-1 section 3.3)."""

    latents: Latents  # batch of one: V_app, z_id, and the portrait's own pose and dynamics
    # in [0, 1]: the portrait, where frames are larger than the codec's images
    detail: Float[Array, "1 n n 3"] | None
    canvas: Float[Array, "n n 3"]  # in [0, 1]: the background, filled in where the head was
    away: Float[Array, "n n"]  # from the person, in halves of the side: how far the head must move to be seen there
    portrait: UInt8[np.ndarray, "n n 3"]  # as cropped
    payload: Payload | None  # of the mark in every frame, so of one output; None = unmarked
    pattern: Float[Array, "n n"] | None  # of that mark

    @property
    def unmarked(self) -> "Avatar":
        """Returns the same without a mark in its frames, for what marks them later."""
        return dataclasses.replace(self, pattern=None)

    @functools.cached_property
    def motion(self) -> np.ndarray:
        """Returns the portrait's own pose and dynamics, float32 (137,)."""
        return np.concatenate([np.asarray(self.latents.pose)[0], np.asarray(self.latents.dynamics)[0]]).astype(
            np.float32
        )


class PortraitAnimator:
    """The face codec's parts and their compiled functions; each compiles once per shape.

    Attributes:
      model: what manifests call the codec, 12 hexadecimal digits.
      codec: its kind, "volume" or "keypoint".
      framing: how its square holds the face, see `framing_of`.
    """

    def __init__(
        self,
        face: tuple[dict[str, Any], dict[str, Any]],
        decode_batch: int = 8,
        dtype=jnp.float32,
        mark: bool = True,
        size: int = 0,
        matte: tuple[dict[str, Any], dict[str, Any]] | None = None,
    ):
        """face: (parameters, metadata) of a codec, as `load_part` gives them; `decode_batch` frames at once.

        mark: frames carry the invisible mark (watermark.py); only what measures a network goes without.
        size: side of the frames, pixels; 0 = the codec's own. InputError for one that the codec cannot make.
        matte: of the network that tells a portrait's person; None = the codec's own matte does.
        """
        params, metadata = face
        self._face = jax.jit(fold_standardisation)(params)
        self._encoder, self._decoder = face_codec(metadata["fields"], dtype)
        self._batch, self._mark = decode_batch, mark
        self._size = _checked_size(size, self._encoder.image_size, getattr(self._decoder, "portrait_pixels", False))
        self._person_of = None if matte is None else PersonMatte(matte)
        self.model = model_name(params)
        self.codec, self.framing = metadata["fields"].get("codec", "volume"), framing_of(metadata)

    @property
    def image_size(self) -> int:
        """Returns the side, pixels, of the square image that goes in and comes out."""
        return self._size

    @property
    def dynamics(self) -> int:
        """Returns how many numbers move the face, beside its pose."""
        return 3 * self._decoder.keypoints if self.codec == "keypoint" else self._encoder.dynamics_width

    @property
    def plain(self) -> "PortraitAnimator":
        """Returns the same codec at its own size, without marks: what reads pictures and measures."""
        other = copy.copy(self)
        other._size, other._mark = self._encoder.image_size, False
        return other

    @property
    def decode_batch(self) -> int:
        """Returns how many frames are decoded at once."""
        return self._batch

    @property
    def face_crop(self) -> tuple[tuple[float, float, float], float]:
        """Returns centre and zoom of the face's square, as `geometry.align_crop` takes them; of volume codecs."""
        return tuple(self._encoder.crop_centre), float(self._encoder.crop_zoom)

    def prepare(
        self, portrait: UInt8[np.ndarray, "n n 3"], payload: Payload | None = None, cut: bool = True
    ) -> Avatar:
        """Returns the avatar of a portrait, already cropped.

        cut: network and colours of this portrait cut the person out, see `cut_out`; else the codec's matte alone.
        payload: of the mark in its frames; by default a random one, so that the avatar is for one file or stream.
        `remarked` makes it ready for the next.
        """
        image = jnp.asarray(self.reduced(portrait[None]))
        detail = None if self._size == self._encoder.image_size else jnp.asarray(portrait[None], jnp.float32) / 255.0
        latents, matte = _encode_portrait(self._encoder, self._decoder, self._face, image, detail)
        person = np.asarray(matte[0, ..., 0], np.float32)
        if cut:
            own = (person, CODEC) if self._person_of is None else (self._person_of(portrait), PORTRAIT_MATTE)
            person = cut_out(portrait, own[0], np.asarray(latents.pose[0], np.float32), own[1])
        canvas = jnp.asarray(fill_behind_head(portrait, person), jnp.float32) / 255.0
        away = distance_from(person) if cut else np.zeros_like(person)
        avatar = Avatar(latents, detail, canvas, jnp.asarray(away), portrait, None, None)
        return self.remarked(avatar, payload)

    def remarked(self, avatar: Avatar, payload: Payload | None = None) -> Avatar:
        """Returns an avatar for another file or stream: the same with another mark, by default of a random payload.

        It has none where the animator does not mark.
        """
        if not self._mark:
            return dataclasses.replace(avatar, payload=None, pattern=None)
        payload = payload or Payload.random()
        return dataclasses.replace(avatar, payload=payload, pattern=jnp.asarray(pattern(payload, self.image_size)))

    def encode_motion(self, frames: UInt8[np.ndarray, "T n n 3"]) -> Float[np.ndarray, "T motion"]:
        """Returns the motion that images show: pose and dynamics, 137 numbers in the volume codec."""
        motion = []
        for start in range(0, len(frames), self._batch):
            part = self.reduced(frames[start : start + self._batch])
            read = _encode_motion(self._encoder, self._face, filled_up(part, self._batch))
            motion.append(np.asarray(read)[: len(part)])
        return np.concatenate(motion)

    def reduced(self, images: UInt8[np.ndarray, "N n n 3"]) -> UInt8[np.ndarray, "N m m 3"]:
        """Returns images at the codec's own size: each of its pixels is the mean of those that it covers.

        Images of that size already are returned as they are.
        """
        side = self._encoder.image_size
        if images.shape[1] == side:
            return images
        factor = images.shape[1] // side
        means = images.reshape(len(images), side, factor, side, factor, 3).mean((2, 4), dtype=np.float32)
        return (means + 0.5).astype(np.uint8)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: str | Path = "", decode_batch: int = 8, dtype=None, mark: bool = True, size: int = 0
    ) -> "PortraitAnimator":
        """Loads the codec of a folder alone; the arguments are those of `VideoGenerator.from_pretrained`."""
        face, matte = load_part(checkpoint, "face"), load_if_there(checkpoint, MATTE)
        return cls(face, decode_batch, dtype or compute_dtype("auto"), mark, size, matte)

    @property
    def angles(self) -> str:
        """Returns what a keypoint codec's angles mean, see `pose_from_raw`."""
        return self._encoder.angles

    @property
    def adjusts_keypoints(self) -> bool:
        """Returns whether the codec has the small networks that `adjust` applies."""
        return getattr(self._decoder, "retargeting", False)

    def adjust(self, network: str, keypoints: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        """Returns what a keypoint codec's `stitch`, `retarget_lips` or `retarget_eyes` says, float64 (N, K, 3)."""
        inputs = [jnp.asarray(value, jnp.float32) for value in (keypoints, *rest)]
        return np.asarray(_adjust(self._decoder, network, self._face, *inputs), np.float64)

    def read(self, portrait: UInt8[np.ndarray, "n n 3"]) -> RawMotion:
        """Returns what a keypoint codec's motion extractor says of a square picture, a batch of one, unchanged."""
        image = jnp.asarray(self.reduced(portrait[None]))
        return jax.tree.map(np.asarray, _read(self._encoder, self._face, image))

    def render(self, avatar: Avatar, motion: np.ndarray, batch: int = 0) -> Iterator[np.ndarray]:
        """Yields the frames of a motion (T, 137), uint8 (b, n, n, 3), `batch` at once, the last perhaps fewer.

        batch: 0 = the decode batch.
        """
        batch = batch or min(self._batch, max(len(motion), 1))
        for start in range(0, len(motion), batch):
            part = motion[start : start + batch]
            yield np.asarray(self.decode(avatar, part, batch))[: len(part)]

    def render_layers(self, avatar: Avatar, motion: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the head without its background and mark, uint8 (n, n, 4): colours, not multiplied, and the matte."""
        for start in range(0, len(motion), self._batch):
            part = motion[start : start + self._batch]
            filled = filled_up(part, self._batch)
            layers = _layers(self._decoder, self._face, avatar.latents, avatar.detail, avatar.away, filled)
            yield from np.asarray(layers)[: len(part)]

    def paste(
        self, portrait: Portrait, avatar: Avatar, mark_of: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Paste:
        """Returns what puts the avatar's unmarked frames into the picture that its portrait is cut from.

        Those whole pictures are marked with the avatar's payload. InputError where they are too small for a mark.
        mark_of: gives the levels (H, W) that mark a picture, uint8 (H, W, 3), where that is shown otherwise than whole.
        """
        picture, place = writable(portrait.picture, Place.of(portrait.crop, self.image_size))
        rest = np.asarray(self.decode(avatar.unmarked, avatar.motion[None], self._batch)[0])
        mark_of = mark_of or functools.partial(picture_mark, payload=avatar.payload)
        mark = mark_of(picture) if avatar.payload else None
        return Paste(picture, place, avatar.portrait, rest, mark)

    def render_whole(self, paste: Paste, avatar: Avatar, motion: np.ndarray) -> Iterator[np.ndarray]:
        """Yields whole pictures, uint8 (H, W, 3), one by one: that of `paste`, in which the avatar moves (T, 137)."""
        for frames in self.render(avatar.unmarked, motion, self._batch):
            yield from map(paste, frames)

    def moved_picture(
        self, picture: np.ndarray, crop: Crop, motion: np.ndarray, payload: Payload | None, mark: np.ndarray | None
    ) -> np.ndarray:
        """Returns a picture, uint8 (H, W, 3), in which the face has one motion (137,): a frame of a source video.

        crop: the square of the face; payload, mark: as those of the video's first frame.
        """
        pixels, crop = crop_square(picture, crop, self.image_size)
        avatar = self.prepare(pixels, payload, cut=False).unmarked  # what differs from frame to frame would flicker
        rest, made = np.asarray(self.decode(avatar, np.stack([avatar.motion, motion]), 2))
        return Paste(*writable(picture, Place.of_crop(crop, self.image_size)), pixels, rest, mark)(made)

    def decode(
        self, avatar: Avatar, motion: Float[np.ndarray, "T motion"], batch: int
    ) -> UInt8[Array, "{batch} n n 3"]:
        """Returns frames on the device of a motion, T <= batch; the last one is repeated."""
        filled = filled_up(motion, batch)
        pictures = _decode(
            self._decoder, self._face, avatar.latents, avatar.detail, avatar.canvas, avatar.away, filled
        )
        return finished(pictures, avatar.pattern)


# Compiled per network and shape, not per animator: a process may make many, and compiled code is never freed.


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode_portrait(encoder, decoder, face, image, detail):
    latents = encoder.apply({"params": face["encoder"]}, image.astype(jnp.float32) / 255.0, method="encode")
    return latents, decoder.apply({"params": face["decoder"]}, *latents, **_detail(detail)).matte


@functools.partial(jax.jit, static_argnums=(0, 1))
def _adjust(decoder, network, face, *inputs):
    return decoder.apply({"params": face["decoder"]}, *inputs, method=network)


@functools.partial(jax.jit, static_argnums=0)
def _read(encoder, face, image):
    return encoder.apply({"params": face["encoder"]}, image.astype(jnp.float32) / 255.0, method="read")


@functools.partial(jax.jit, static_argnums=0)
def _encode_motion(encoder, face, images):
    images = images.astype(jnp.float32) / 255.0
    pose, dynamics = encoder.apply({"params": face["encoder"]}, images, method="encode_motion")
    return jnp.concatenate([pose, dynamics], -1)


@functools.partial(jax.jit, static_argnums=0)
def _decode(decoder, face, latents, detail, canvas, away, motion):
    pose, dynamics = motion[:, :POSE_DIM], motion[:, POSE_DIM:]
    decoded = decoder.apply(
        {"params": face["decoder"]}, latents.appearance, latents.identity, pose, dynamics, **_detail(detail)
    )
    rgb, matte = decoded.rgb.astype(jnp.float32), decoded.matte.astype(jnp.float32)
    matte = matte * _reached(away, latents.pose, pose)
    return (matte * rgb + (1.0 - matte) * canvas) * 255.0


@functools.partial(jax.jit, static_argnums=0)
def _layers(decoder, face, latents, detail, away, motion):
    pose, dynamics = motion[:, :POSE_DIM], motion[:, POSE_DIM:]
    decoded = decoder.apply(
        {"params": face["decoder"]}, latents.appearance, latents.identity, pose, dynamics, **_detail(detail)
    )
    matte = decoded.matte.astype(jnp.float32) * _reached(away, latents.pose, pose)
    # What is not seen is grey: it neither shows the portrait's background nor costs a codec anything.
    seen = jnp.clip(matte / HIDDEN, 0.0, 1.0)
    rgb = seen * decoded.rgb.astype(jnp.float32) + (1.0 - seen) * 0.5
    return rounded(255.0 * jnp.concatenate([rgb, matte], -1))


def _reached(away: Array, own: Array, pose: Array) -> Array:
    """What a head can have come to in these poses, (B, n, n, 1): nothing where the person is too far away."""
    turn = jnp.abs(pose[:, :6] - own[:, :6]).max(-1)
    most = NEAR + jnp.abs(pose[:, 7:9] - own[:, 7:9]).max(-1) + jnp.abs(pose[:, 6] - own[:, 6]) + TURNS * turn
    return jnp.clip((most[:, None, None] - away) / FADE + 0.5, 0.0, 1.0)[..., None]


def _detail(detail: jax.Array | None) -> dict[str, jax.Array]:
    """Arguments of a decoder that only volume codecs know."""
    return {} if detail is None else {"detail": detail}


def _checked_size(size: int, own: int, portrait_pixels: bool) -> int:
    if size in (0, own):
        return own
    if not portrait_pixels:
        raise InputError(f"config.size: {size}; this codec makes frames of {own} pixels and no others")
    if size < own or size % own or size > LARGEST_FRAME:
        sizes = ", ".join(str(n) for n in range(own, LARGEST_FRAME + 1, own))
        raise InputError(f"config.size: {size} is none that this codec can make; choose among {sizes}")
    return size


def fill_behind_head(
    portrait: UInt8[np.ndarray, "n n 3"], matte: Float[np.ndarray, "n n"]
) -> UInt8[np.ndarray, "n n 3"]:
    """Returns the portrait with its background continued behind the head.

    matte: 1 = head. The head's soft rim is replaced too, so that no ghost of it stays when the head moves
    away.
    """
    import cv2

    size = portrait.shape[0]
    rim = max(round(size * RIM), 1)
    hole = cv2.dilate((matte > 0.1).astype(np.uint8), np.ones((2 * rim + 1, 2 * rim + 1), np.uint8))
    if hole.all():
        # Nothing of the background is visible: its mean colour is as good a guess as any.
        return np.full_like(portrait, portrait.reshape(-1, 3).mean(0))
    filled = cv2.inpaint(portrait, hole, 3, cv2.INPAINT_TELEA)
    # Inpainting draws streaks into large holes; smoothed, they are not seen.
    soft = cv2.GaussianBlur(filled, (0, 0), size * FILLED)
    return np.where(hole[..., None] > 0, soft, filled)

"""VideoGenerator: one portrait and speech in, a talking-head video out (VASA-1 section 3.3).

    from vasa_jax.generation.generator import VideoGenerator
    generator = VideoGenerator.from_pretrained()
    video = generator.generate("me.jpg", "hello.wav")
    video.save("hello.mp4")
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.data.face_crop import crop_square, find_face
from vasa_jax.data.media import Audio, read_audio, read_image, write_video
from vasa_jax.diffusion import VASADiffusion, active_guidance
from vasa_jax.generation.avatar import Avatar, fill_behind_head
from vasa_jax.generation.controls import control_arguments, parse_emotion
from vasa_jax.generation.pretrained import load_part
from vasa_jax.generation.speech_features import SpeechFeatures
from vasa_jax.generation.windows import sample_sequence, sample_window
from vasa_jax.models.face import face_codec
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.models.motion import POSE_DIM, VASADiffusionTransformer


@dataclasses.dataclass(frozen=True)
class TalkingHead:
    """A generated video: frames are decoded as they are read."""

    avatar: Avatar
    motion: np.ndarray  # float32 (T, 137): pose and dynamics of every frame
    audio: Audio
    notes: tuple[str, ...]
    _generator: "VideoGenerator" = dataclasses.field(repr=False)

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 (n, n, 3), one by one."""
        for batch in self._generator.render(self.avatar, self.motion):
            yield from batch

    def save(self, path: str | Path) -> Path:
        """Writes an MP4 (H.264, 25 fps, the original sound); InputError when it cannot be written."""
        return write_video(path, self.frames(), self.audio)


class VideoGenerator:
    """Holds the trained parts and their compiled functions; each compiles once per shape."""

    def __init__(self, parts: dict[str, tuple[dict, dict]], decode_batch: int = 8, dtype=jnp.float32):
        face, face_meta = parts["face"]
        motion, motion_meta = parts["motion"]
        self._face = fold_standardisation(face)
        self._encoder, self._decoder = face_codec(face_meta["fields"], dtype)
        self._speech = SpeechFeatures(*(parts["audio"][0], parts["audio"][1]["fields"]), dtype)
        self._transformer_params = jax.device_put(motion["transformer"])
        self._transformer = VASADiffusionTransformer(**motion_meta["fields"], dtype=dtype)
        self._mean, self._std = motion["statistics"]["mean"], motion["statistics"]["std"]
        self.trained_controls = tuple(motion_meta.get("trained_controls", ()))
        self._diffusion = VASADiffusion()
        self._batch = decode_batch

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path = "", decode_batch: int = 8, dtype=jnp.float32) -> "VideoGenerator":
        """A directory with face, audio and motion .safetensors; empty = the shipped model. InputError if unreadable."""
        return cls({part: load_part(checkpoint, part) for part in ("face", "audio", "motion")}, decode_batch, dtype)

    @property
    def image_size(self) -> int:
        """Pixels of the square picture that goes in and comes out."""
        return self._encoder.image_size

    def generate(
        self,
        image: str | Path,
        audio: str | Path,
        *,
        seed: int = 0,
        steps: int = 25,
        solver: str = "ddim",
        audio_guidance: float = 0.5,
        gaze_guidance: float = 1.0,
        gaze: tuple[float, float] | None = None,
        distance: float | None = None,
        emotion: str = "",
        crop: str = "",
        pose_anchor: str = "portrait",
    ) -> TalkingHead:
        """Portrait and speech files to a video; the settings are those of `VASAConfig`. InputError for bad files."""
        sound = read_audio(audio)
        portrait, notes = self.read_portrait(image, crop)
        avatar = self.prepare(portrait)
        motion = self.motion(
            sound.samples, avatar, seed=seed, steps=steps, solver=solver, audio_guidance=audio_guidance,
            gaze_guidance=gaze_guidance, gaze=gaze, distance=distance, emotion=emotion, pose_anchor=pose_anchor,
        )  # fmt: skip
        return TalkingHead(avatar, motion, sound, (*notes, *sound.notes), self)

    def read_portrait(self, image: str | Path, crop: str = "") -> tuple[np.ndarray, tuple[str, ...]]:
        """Picture file to the square that `prepare` takes, and what the user should be told.

        `crop`: `x,y,size` in pixels, `center`, or empty to find the face. InputError when there is none.
        """
        picture = read_image(image)
        where = crop or find_face(picture, str(image))
        portrait, _ = crop_square(picture, where, self.image_size, str(image))
        note = None if crop else where.note
        return portrait, (note,) if note else ()

    def prepare(self, portrait: np.ndarray) -> Avatar:
        """uint8 (n, n, 3), already cropped, to an avatar."""
        latents, matte = _encode_portrait(self._encoder, self._decoder, self._face, jnp.asarray(portrait)[None])
        canvas = fill_behind_head(portrait, np.asarray(matte[0, ..., 0], np.float32))
        return Avatar(latents, jnp.asarray(canvas, jnp.float32) / 255.0, portrait)

    def motion(
        self,
        samples: np.ndarray,
        avatar: Avatar | None = None,
        *,
        seed: int = 0,
        steps: int = 25,
        solver: str = "ddim",
        audio_guidance: float = 0.5,
        gaze_guidance: float = 1.0,
        gaze: tuple[float, float] | None = None,
        distance: float | None = None,
        emotion: str = "",
        pose_anchor: str = "portrait",
    ) -> np.ndarray:
        """16 kHz mono speech (N,) to motion (ceil(N / 640), 137). With an avatar and `pose_anchor="portrait"` position
        and scale vary around the portrait's own; a control the weights were not trained for is ignored."""
        if "gaze" not in self.trained_controls:
            gaze = None
        if "distance" not in self.trained_controls:
            distance = None
        emotion_vector = parse_emotion(emotion) if "emotion" in self.trained_controls else None
        guidance = active_guidance(audio=audio_guidance, gaze=gaze_guidance if gaze is not None else 0.0)
        model, params = self._transformer, self._transformer_params
        motion = sample_sequence(
            lambda key, conditions: sample_window(
                model, self._diffusion, steps, solver, params, key, conditions, guidance
            ),
            jax.random.key(seed),
            self._speech(samples)[None],
            control_arguments(gaze, distance, emotion_vector),
            window=model.window,
            previous=model.previous,
            motion_dim=model.motion_dim,
        )[0]
        motion = motion * self._std + self._mean
        if avatar is not None and pose_anchor == "portrait":
            # Log scale, tx and ty move around the portrait's instead of around the training set's mean.
            motion[:, 6:9] += np.asarray(avatar.latents.pose, np.float32)[0, 6:9] - self._mean[6:9]
        return motion

    def encode_motion(self, frames: np.ndarray) -> np.ndarray:
        """Pictures uint8 (N, n, n, 3) to the motion they show, float32 (N, 137)."""
        motion = []
        for start in range(0, len(frames), self._batch):
            part = frames[start : start + self._batch]
            padded = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), 0)])
            motion.append(np.asarray(_encode_motion(self._encoder, self._face, padded))[: len(part)])
        return np.concatenate(motion)

    def render(self, avatar: Avatar, motion: np.ndarray) -> Iterator[np.ndarray]:
        """Motion (T, 137) to frames, uint8 (b, n, n, 3) with b the decode batch (the last one may be shorter)."""
        batch = min(self._batch, len(motion))
        for start in range(0, len(motion), batch):
            part = motion[start : start + batch]
            padded = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
            frames = _decode(self._decoder, self._face, avatar.latents, avatar.canvas, padded)
            yield np.asarray(frames)[: len(part)]


# Compiled per network and shape, not per VideoGenerator: a process may make many, and compiled code is never freed.


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
def _decode(decoder, face, latents, canvas, motion):
    pose, dynamics = motion[:, :POSE_DIM], motion[:, POSE_DIM:]
    decoded = decoder.apply({"params": face["decoder"]}, latents.appearance, latents.identity, pose, dynamics)
    rgb, matte = decoded.rgb.astype(jnp.float32), decoded.matte.astype(jnp.float32)
    picture = matte * rgb + (1.0 - matte) * canvas
    return jnp.clip(picture * 255.0 + 0.5, 0.0, 255.0).astype(jnp.uint8)

"""VideoGenerator: one portrait and speech in, a talking-head video out (VASA-1 section 3.3).

    from vasa_jax.generation.generator import VideoGenerator
    generator = VideoGenerator.from_pretrained()
    video = generator.generate("me.jpg", "hello.wav", emotion="happiness:0.5")
    video.save("hello.mp4")

One motion moves any number of portraits (paper Figure 4): `motion = generator.motion(samples)`, then
`generator.render(generator.prepare(portrait), motion)` for each of them.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.face_crop import crop_square, find_face
from vasa_jax.data.image_files import read_image
from vasa_jax.diffusion import VASADiffusion
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.generation.avatar import Avatar
from vasa_jax.generation.controls import Controls, Steering
from vasa_jax.generation.motion_edit import finish_motion
from vasa_jax.generation.provenance import write_generated
from vasa_jax.generation.speech_features import SpeechFeatures
from vasa_jax.generation.stream import DEFAULT_HOP, Stream, StreamBatch
from vasa_jax.generation.windows import Past, sample_sequence, sample_windows
from vasa_jax.models.motion import MotionConditions, VASADiffusionTransformer, cast_products
from vasa_jax.weights.parts import load_part


@dataclasses.dataclass(frozen=True)
class TalkingHead:
    """A generated video: frames are decoded as they are read."""

    avatar: Avatar
    motion: np.ndarray  # float32 (T, 137): pose and dynamics of every frame
    audio: Audio
    notes: tuple[str, ...]
    _generator: "VideoGenerator" = dataclasses.field(repr=False)
    _hop: int = 0

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 (n, n, 3), one by one."""
        for batch in self._generator.render(self.avatar, self.motion, self._hop):
            yield from batch

    def save(self, path: str | Path) -> Path:
        """Writes an MP4 (H.264, 25 fps, the original sound) with its manifest; InputError when it cannot be written."""
        return write_generated(path, self.frames(), self.audio, self.avatar.payload, self._generator.model)


class VideoGenerator(PortraitAnimator):
    """Holds the trained parts and their compiled functions; each compiles once per shape."""

    def __init__(
        self, parts: dict[str, tuple[dict, dict]], decode_batch: int = 8, dtype=jnp.float32, mark: bool = True
    ):
        super().__init__(parts["face"], decode_batch, dtype, mark)
        motion, motion_meta = parts["motion"]
        self.speech = SpeechFeatures(*(parts["audio"][0], parts["audio"][1]["fields"]), dtype)
        self._transformer_params = cast_products(motion["transformer"], dtype)
        self.transformer = VASADiffusionTransformer(**motion_meta["fields"], dtype=dtype)
        self._mean, self._std = motion["statistics"]["mean"], motion["statistics"]["std"]
        self.trained_controls = tuple(motion_meta.get("trained_controls", ()))
        self._diffusion = VASADiffusion()

    @classmethod
    def from_pretrained(
        cls, checkpoint: str | Path = "", decode_batch: int = 8, dtype=None, mark: bool = True
    ) -> "VideoGenerator":
        """A directory with face, audio and motion .safetensors; empty = the shipped model. InputError if unreadable.

        `dtype` of the computation: None = float32 on CPU, bfloat16 on accelerators (its frames differ from float32's by
        a PSNR of 50 dB or more). `mark`: frames carry the invisible mark (watermark.py).
        """
        dtype = compute_dtype("auto") if dtype is None else dtype
        parts = {part: load_part(checkpoint, part) for part in ("face", "audio", "motion")}
        return cls(parts, decode_batch, dtype, mark)

    def generate(
        self, image: str | Path, audio: str | Path, controls: Controls | None = None, *, crop: str = "", **changes: Any
    ) -> TalkingHead:
        """Portrait and speech files to a video, steered by `controls`; `changes` are fields of `Controls`, over those.

        InputError for bad files and settings.
        """
        controls = dataclasses.replace(controls or Controls(), **changes).validate()
        sound = read_audio(audio)
        portrait, notes = self.read_portrait(image, crop)
        avatar = self.prepare(portrait)
        notes = (*notes, *sound.notes, *controls.ignored(self.trained_controls))
        return TalkingHead(avatar, self.motion(sound.samples, avatar, controls), sound, notes, self, controls.hop)

    def stream(
        self, portrait: Avatar | np.ndarray | str | Path, controls: Controls | None = None, **changes: Any
    ) -> Stream:
        """A live stream of one portrait: `feed` it sound, it gives frames. The hop is 10 frames unless given.

        portrait: an avatar, a cropped picture uint8 (n, n, 3), or a file (whose face is found). `changes` are fields of
        `Controls`, e.g. `hop=5, steps=10`. InputError for a bad file or setting.
        """
        controls = dataclasses.replace(controls or Controls(hop=DEFAULT_HOP), **changes)
        batch, avatar = StreamBatch(self, 1, controls), self._avatar(portrait)
        batch.warm_up(avatar)
        return Stream(batch, batch.open(avatar))

    def stream_batch(
        self,
        capacity: int,
        controls: Controls | None = None,
        *,
        guided: tuple[str, ...] | None = None,
        **changes: Any,
    ) -> StreamBatch:
        """Many live streams on one device, whose windows are computed `capacity` at a time: see `StreamBatch`."""
        controls = dataclasses.replace(controls or Controls(hop=DEFAULT_HOP), **changes)
        return StreamBatch(self, capacity, controls, guided)

    def read_portrait(self, image: str | Path, crop: str = "") -> tuple[np.ndarray, tuple[str, ...]]:
        """Picture file to the square that `prepare` takes, and what the user should be told.

        `crop`: `x,y,size` in pixels, `center`, or empty to find the face. InputError when there is none.
        """
        picture = read_image(image)
        where = crop or find_face(picture, str(image))
        portrait, _ = crop_square(picture, where, self.image_size, str(image))
        note = None if crop else where.note
        return portrait, (note,) if note else ()

    def motion(
        self, samples: np.ndarray, avatar: Avatar | None = None, controls: Controls | None = None, **changes: Any
    ) -> np.ndarray:
        """16 kHz mono speech (N,) to motion (ceil(N / 640), 137), steered by `controls` and, over those, `changes`.

        With an avatar and `pose_anchor="portrait"` position and scale vary around the portrait's own. A control the
        weights were not trained for is ignored. With a hop this is what a live stream makes of the same sound.
        """
        controls = dataclasses.replace(controls or Controls(), **changes)
        if controls.hop:
            return StreamBatch(self, 1, controls).whole_motion(samples, avatar)
        steering = Steering(controls, self.trained_controls)

        def sampler(past, count, keep, keys, conditions, centres):
            scales = [steering.guidance(centre) for centre in centres]
            guidance = {name: np.array([scale[name] for scale in scales], np.float32) for name in steering.guided}
            return self.sample_windows(past, count, keep, keys, conditions, guidance, controls)

        sample = sample_sequence(
            sampler,
            jax.random.key(controls.seed),
            self.speech(samples)[None],
            steering.conditions,
            window=self.transformer.window,
            previous=self.transformer.previous,
            motion_dim=self.transformer.motion_dim,
        )[0]
        return self.finish_motion(sample, 0, steering, avatar)

    def sample_windows(
        self,
        past: Past,
        count: int,
        keep: np.ndarray,
        keys: jax.Array,
        conditions: MotionConditions,
        guidance: dict[str, np.ndarray],
        controls: Controls,
    ) -> jax.Array:
        """z-scored motion (windows, B, W, 137) of windows in a row, by the solver and the steps of `controls`; see
        `windows.sample_windows`."""
        return sample_windows(
            self.transformer, self._diffusion, controls.steps, controls.solver, self._transformer_params, past,
            np.int32(count), np.asarray(keep, np.int32), keys, conditions, guidance,
        )  # fmt: skip

    def finish_motion(
        self, sample: np.ndarray, first: int, steering: Steering, avatar: Avatar | None = None
    ) -> np.ndarray:
        """z-scored (T, 137), frames `first`... of the video, to the avatar's motion (motion_edit.py)."""
        portrait = None if avatar is None else avatar.motion
        return finish_motion(sample, first, steering, self._mean, self._std, portrait)

    def _avatar(self, portrait: Avatar | np.ndarray | str | Path) -> Avatar:
        if isinstance(portrait, Avatar):
            return portrait
        if isinstance(portrait, (str, Path)):
            portrait, _ = self.read_portrait(portrait)
        size = self.image_size
        if portrait.shape != (size, size, 3) or portrait.dtype != np.uint8:
            raise InputError(
                f"portrait: {portrait.dtype} {portrait.shape}; give uint8 ({size}, {size}, 3), cropped, or a file"
            )
        return self.prepare(portrait)

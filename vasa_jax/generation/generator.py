"""VideoGenerator: one portrait and speech in, a talking-head video out (VASA-1 section 3.3).

    from vasa_jax.generation.generator import VideoGenerator
    generator = VideoGenerator.from_pretrained()
    video = generator.generate("me.jpg", "hello.wav", emotion="happiness:0.5")
    video.save("hello.mp4")

One motion moves any number of portraits (paper Figure 4): `motion = generator.motion(samples)`, then
`generator.render(generator.prepare(portrait), motion)` for each of them.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME
from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.subtitles import read_subtitles
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.generation.animator import Avatar, PortraitAnimator
from vasa_jax.generation.composition import Composition, Form, check_sound
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.ditto import DittoSampler
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import DrivingMotion
from vasa_jax.generation.joyvasa import JoyVASASampler
from vasa_jax.generation.motion_rate import at_rate, looped, needed
from vasa_jax.generation.open_stream import OpenStream, open_windows
from vasa_jax.generation.portraits import Portrait
from vasa_jax.generation.reenactment import drive, framed_portrait, motion_of, reenact
from vasa_jax.generation.sampler import MotionSampler
from vasa_jax.generation.speech_features import as_speech
from vasa_jax.generation.stream import DEFAULT_HOP, Stream, StreamBatch
from vasa_jax.generation.talking_head import Stage, TalkingHead
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.generation.watermark import Payload
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits
from vasa_jax.settings import fields_of
from vasa_jax.weights.parts import LIPS, MATTE, load_model

MOST_FPS = 120


class VideoGenerator(PortraitAnimator):
    """Holds the trained parts and their compiled functions; each compiles once per shape.

    Attributes:
      sampler: speech to motion.
      trained_controls: the conditions that the motion's weights know.
    """

    def __init__(
        self,
        parts: dict[str, tuple[dict, dict]],
        decode_batch: int = 8,
        dtype=jnp.float32,
        mark: bool = True,
        size: int = 0,
    ):
        """parts: as `load_model` gives them; `decode_batch` frames are decoded at once.

        mark, size: as of `PortraitAnimator`.
        """
        super().__init__(parts["face"], decode_batch, dtype, mark, size, parts.get(MATTE))
        self.sampler = _sampler(parts, dtype)
        self.trained_controls = self.sampler.trained

    @classmethod
    def from_pretrained(
        cls, checkpoint: str | Path = "", decode_batch: int = 8, dtype=None, mark: bool = True, size: int = 0,
        motion_generator: str = "",
    ) -> "VideoGenerator":  # fmt: skip
        """Loads a folder of face, audio and motion .safetensors; empty = the shipped model. InputError if unreadable.

        `dtype` of the computation: None = float32 on CPU, bfloat16 on accelerators (its frames differ from float32's by
        a PSNR of 50 dB or more). `mark`: frames carry the invisible mark (watermark.py). `size`: side of the frames,
        pixels, a multiple of the codec's own, which 0 means; the portrait's pixels fill the larger ones.
        `motion_generator`: joyvasa or ditto, which make an imported keypoint codec's motion; empty = what is there.
        """
        dtype = compute_dtype("auto") if dtype is None else dtype
        return cls(load_model(checkpoint, motion_generator), decode_batch, dtype, mark, size)

    def generate(
        self,
        image: str | Path,
        audio: str | Path | Audio | None = None,
        controls: Controls | None = None,
        *,
        form: VideoForm | None = None,
        fps: float = FPS,
        crop: str = "",
        background: str = "",
        paste: bool = False,
        limits: InputLimits = DEFAULT_LIMITS,
        how: Driving | None = None,
        stage: Stage = contextlib.nullcontext,
        payload: Payload | None = None,
        watch: Watch = unwatched,
        **changes: Any,
    ) -> TalkingHead:
        """Makes a video of a portrait file and speech; InputError for bad files and settings.

        Args:
          image, audio: files; the sound may be read already. An idle loop has none.
          controls, form: what is asked of the motion, and of how it is shown; `changes` are fields of `Controls` or
            `VideoForm`, over those.
          fps: frames per second of the video: the motion is interpolated, the sound stays as it is.
          crop, background: see `read_portrait`.
          paste: whether frames are the whole picture (see paste.py), not the square.
          limits: what the files may ask of this machine.
          how: what open weights (JoyVASA, Ditto) are asked for: region, multiplier, stitching, framing.
          stage: `stage(name)` surrounds each stage: read, portrait, motion.
          payload: of the mark; by default a random one. Give that of an earlier output for the same frames again.
          watch: sees the parts of the motion pass; what it raises ends that.
        """
        shown = {name: changes.pop(name) for name in [*changes] if name in fields_of(VideoForm)}
        controls = dataclasses.replace(controls or Controls(), **changes).validate("controls")
        form = dataclasses.replace(form or VideoForm(), **shown).validate("form")
        check_sound(form, audio, "form")
        if not 1 <= fps <= MOST_FPS:
            raise InputError(f"fps: {fps:g} is out of range; choose 1 to {MOST_FPS} frames a second")
        with stage("read"):
            sound = audio if isinstance(audio, Audio) or audio is None else read_audio(audio, limits)
            read = Form.read(form, paste, limits, "form")
            subtitles = read_subtitles(form.subtitles, sound.samples if sound else None) if form.subtitles else ()
            portrait, how = framed_portrait(self, image, crop, background, limits, how or Driving())
        with stage("portrait"):
            avatar = self.prepare(portrait.pixels, payload)
            # As a stream draws them, bit for bit; who watches waits for fewer frames, which rounding may change.
            batch = controls.hop if watch is unwatched else 0
            composition = Composition(self, avatar, portrait, read, paste, batch)
        with stage("motion"):
            if form.idle:
                silence = np.zeros(needed(form.idle) * SAMPLES_PER_FRAME, np.float32)
                motion = looped(self.motion(silence, avatar, controls, how, watch), form.idle)
            else:
                motion = self.motion(sound.samples, avatar, controls, how, watch)
            motion = at_rate(motion, FPS, fps, loop=bool(form.idle))
        notes = (*portrait.notes, *(sound.notes if sound else ()), *controls.ignored(self.trained_controls))
        sources = (image, *([sound.original] if sound and isinstance(sound.original, Path) else []))
        return TalkingHead(
            avatar, motion, sound, notes, portrait.crop, sources, composition.size, self.model,
            lambda: composition.frames(motion), fps, "photograph" if paste else "", composition.transparent, subtitles,
        )  # fmt: skip

    def stream(
        self,
        portrait: Avatar | np.ndarray | str | Path,
        controls: Controls | None = None,
        payload: Payload | None = None,
        how: Driving | None = None,
        **changes: Any,
    ) -> Stream | OpenStream:
        """Opens a live stream of one portrait: `feed` it sound, it gives frames. The hop is 10 frames unless given.

        portrait: an avatar, a cropped picture uint8 (n, n, 3), or a file (whose face is found). `changes` are fields of
        `Controls`, e.g. `hop=5, steps=10`. payload: of the mark; by default the avatar's, or a random one.
        A file of the same sound gets `stream.payload`. how: see `generate`; open weights have hops of their own (see
        `open_stream.py`). InputError for a bad file or setting.
        """
        if not self.makes_hops:
            controls = dataclasses.replace(controls or Controls(), **changes).validate("controls")
            how = how or Driving()
            avatar = self._avatar(portrait, payload, how)
            return OpenStream(self, avatar, open_windows(self.sampler, self, avatar, controls, how))
        controls = dataclasses.replace(controls or Controls(hop=DEFAULT_HOP), **changes)
        batch, avatar = StreamBatch(self.sampler, self, 1, controls), self._avatar(portrait, payload)
        batch.warm_up(avatar)
        return Stream(batch, batch.open(avatar))

    @property
    def makes_hops(self) -> bool:
        """Returns whether motion comes hop by hop, as `stream_batch` and the live avatar need it."""
        return isinstance(self.sampler, MotionSampler)

    def stream_batch(
        self,
        capacity: int,
        controls: Controls | None = None,
        *,
        guided: tuple[str, ...] | None = None,
        **changes: Any,
    ) -> StreamBatch:
        """Returns live streams that share a device, whose windows are computed `capacity` at a time: `StreamBatch`."""
        if not self.makes_hops:
            raise InputError("stream: JoyVASA and Ditto stream one at a time here; use generator.stream")
        controls = dataclasses.replace(controls or Controls(hop=DEFAULT_HOP), **changes)
        return StreamBatch(self.sampler, self, capacity, controls, guided)

    def read_portrait(
        self, image: str | Path, crop: str = "", background: str = "", limits: InputLimits = DEFAULT_LIMITS,
        how: Driving | None = None,
    ) -> Portrait:  # fmt: skip
        """Returns the square of a picture, or of a video's best early frame, that `prepare` takes, with its notes.

        `crop`: `x,y,size` in pixels, `center`, or empty to find the face; `background`: a colour's name or #rrggbb;
        how: what frames it for keypoint codecs. InputError when there is none.
        """
        return framed_portrait(self, image, crop, background, limits, how or Driving())[0]

    def motion_of(
        self, video: str | Path, how: Driving | None = None, limits: InputLimits = DEFAULT_LIMITS, **changes: Any
    ) -> DrivingMotion:
        """Returns the motion that a driving video, a picture or saved motion shows; `changes` are fields of `Driving`.

        InputError for a bad file, no face in the first frame, several faces, and cuts.
        """
        return motion_of(self, video, dataclasses.replace(how or Driving(), **changes).validate("driving"), limits)

    def drive(self, avatar: Avatar, driving: DrivingMotion, how: Driving | None = None, **changes: Any) -> np.ndarray:
        """Returns the motion (T, 137) of an avatar, for `render`, that a driving motion gives it.

        InputError for what the codec cannot do. `changes` are fields of `Driving`.
        """
        return drive(self, avatar, driving, dataclasses.replace(how or Driving(), **changes).validate("driving"))

    def render(self, avatar: Avatar, motion: np.ndarray | DrivingMotion, batch: int = 0) -> Iterator[np.ndarray]:
        """Yields frames as `PortraitAnimator.render` does; a driving motion is first taken over with the defaults."""
        if isinstance(motion, DrivingMotion):
            motion = self.drive(avatar, motion)
        return super().render(avatar, motion, batch)

    def reenact(
        self, image: str | Path, video: str | Path, how: Driving | None = None, *, form: VideoForm | None = None,
        audio: Any = None, crop: str = "", background: str = "", paste: bool = False,
        limits: InputLimits = DEFAULT_LIMITS, payload: Payload | None = None, **changes: Any,
    ) -> TalkingHead:  # fmt: skip
        """Makes a video in which a portrait moves as a driving face does: see `reenactment.reenact`.

        `changes` are fields of `Driving` or `VideoForm`.
        """
        shown = {name: changes.pop(name) for name in [*changes] if name in fields_of(VideoForm)}
        how, form = dataclasses.replace(how or Driving(), **changes), dataclasses.replace(form or VideoForm(), **shown)
        return reenact(
            self, image, video, how, form=form, audio=audio, crop=crop, background=background, paste=paste,
            limits=limits, payload=payload,
        )[0]  # fmt: skip

    def motion(
        self, samples: np.ndarray, avatar: Avatar | None = None, controls: Controls | None = None,
        how: Driving | None = None, watch: Watch = unwatched, **changes: Any,
    ) -> np.ndarray:  # fmt: skip
        """Returns the motion (ceil(N / 640), 137) of 16 kHz mono speech (N,), see `as_speech`.

        With an avatar and `pose_anchor="portrait"` turn, position and scale vary around the portrait's own. A control
        that the weights were not trained for is ignored. With a hop this is what a live stream makes of the same sound.

        controls: what is asked of the motion; `changes` are fields of `Controls`, over those; how, watch: see
        `generate`. InputError for bad ones, and for samples that are no sound.
        """
        controls = dataclasses.replace(controls or Controls(), **changes)
        samples = as_speech(samples)
        if not len(samples):
            raise InputError("sound: empty; give at least one sample")
        if not self.makes_hops:
            return self.sampler.motion(self, samples, controls, avatar, how or Driving(), watch)
        if controls.hop:
            return StreamBatch(self.sampler, self, 1, controls).whole_motion(samples, avatar, watch)
        return self.sampler.whole_motion(samples, controls, avatar, watch)

    def _avatar(
        self, portrait: Avatar | np.ndarray | str | Path, payload: Payload | None, how: Driving | None = None
    ) -> Avatar:
        if isinstance(portrait, Avatar):
            return self.remarked(portrait, payload) if payload else portrait
        if isinstance(portrait, (str, Path)):
            portrait = self.read_portrait(portrait, how=how).pixels
        size = self.image_size
        if portrait.shape != (size, size, 3) or portrait.dtype != np.uint8:
            raise InputError(
                f"portrait: {portrait.dtype} {portrait.shape}; give uint8 ({size}, {size}, 3), cropped, or a file"
            )
        return self.prepare(portrait, payload)


def _sampler(parts: dict[str, Any], dtype) -> MotionSampler | JoyVASASampler | DittoSampler:
    """Returns what makes motion of speech, of the parts that `load_model` gives."""
    if "joyvasa" in parts:
        return JoyVASASampler(parts["joyvasa"], parts["audio"], dtype)
    if "ditto" in parts:
        return DittoSampler(parts["ditto"], parts["ditto"][1]["folder"], dtype)
    return MotionSampler(parts["motion"], parts["audio"], dtype, parts.get(LIPS))

"""A video that is decoded while it is read or written."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.data.audio_files import Audio
from vasa_jax.data.face_crop import Crop
from vasa_jax.data.output_files import video_output
from vasa_jax.data.subtitles import Cue, within
from vasa_jax.generation.animator import Avatar
from vasa_jax.generation.provenance import Signer, write_generated

Stage = Callable[[str], AbstractContextManager]  # `with stage("motion"): ...` surrounds each stage of a video


@dataclasses.dataclass(frozen=True)
class TalkingHead:
    """A generated video: frames are decoded as they are read.

    Attributes:
      motion: float32 (T, 137): pose and dynamics of every frame.
      audio: its sound; None = silent.
      notes: what the user should be told.
      crop: the square of the portrait's picture that is animated, in pixels.
      sources: the files that it was made from.
      size: height and width of a frame.
      model: what its manifest calls the codec.
      fps: frames per second.
      edited: what the user gave and its frames show whole, "photograph" or "video"; empty = neither.
      transparent: whether frames have a matte.
      subtitles: its track of text.
    """

    avatar: Avatar
    motion: np.ndarray
    audio: Audio | None
    notes: tuple[str, ...]
    crop: Crop
    sources: tuple[str | Path, ...]
    size: tuple[int, int]
    model: str
    _decoded: Callable[[], Iterator[np.ndarray]] = dataclasses.field(repr=False)
    fps: float = FPS
    edited: str = ""
    transparent: bool = False
    subtitles: tuple[Cue, ...] = ()

    @property
    def seconds(self) -> float:
        """Returns how long it is."""
        return len(self.motion) / self.fps

    def frames(self, stage: Stage = contextlib.nullcontext) -> Iterator[np.ndarray]:
        """Yields uint8 (H, W, 3), or (H, W, 4) with a matte, one by one; decoding is within `stage("decode")`."""
        decoded = self._decoded()
        while True:
            with stage("decode"):
                frame = next(decoded, None)
            if frame is None:
                return
            yield frame

    def save(
        self,
        path: str | Path,
        *,
        stage: Stage = contextlib.nullcontext,
        progress: Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]] = iter,
        signer: Signer | None = None,
    ) -> Path:
        """Writes a video with the original sound, and its manifest where the format has one.

        The name's suffix says how: .mp4, .m4v, .mov, .webm, or .zip of PNG pictures (`data/encodings.py`). InputError
        when it cannot be written, or holds no transparency where frames have it.
        All of it is within `stage("write")`; `progress` sees the frames pass; `signer` is by default this machine's.
        """
        video_output(path, self.sources, self.transparent)
        with stage("write"):
            frames = iter(progress(self.frames(stage)))
            rate = Fraction(self.fps).limit_denominator(1001)
            return write_generated(
                path, frames, self.audio, self.avatar.payload, self.model, signer, rate, self.edited, self.transparent,
                within(self.subtitles, self.seconds),
            )  # fmt: skip

"""Frames in, frames and sound out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.data.audio_files import Audio
from vasa_jax.data.containers import check_length, open_container
from vasa_jax.data.encodings import SEQUENCE, TextTrack, encoding_of
from vasa_jax.data.image_files import existing_file
from vasa_jax.data.output_files import FrameWriter, unwritable
from vasa_jax.data.picture_sequence import SequenceWriter
from vasa_jax.data.sound_track import SoundTrack
from vasa_jax.errors import InputError
from vasa_jax.files import replacing
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

BYTES_PER_PIXEL = 16  # of a video while it is decoded: FFmpeg's few frames and the RGB of one


@dataclass(frozen=True)
class Video:
    """frames: iterator of uint8 RGB (H, W, 3), to be used once; fps; seconds (None where the file does not say)."""

    frames: Iterator[np.ndarray]
    fps: float
    seconds: float | None


def read_video(
    path: str | os.PathLike, fps: float | None = None, limits: InputLimits = DEFAULT_LIMITS
) -> Video:
    """Opens a video file; frames come upright, in display proportion, and are decoded as they are asked for.

    With `fps`, frames are dropped or repeated to that constant rate (the nearest in time), which also evens out a
    variable rate; without, every frame comes as stored. Damaged frames are skipped.
    Raises InputError, at once for what is no video, while iterating where nothing decodes or `limits` are passed.
    """
    path = existing_file(path, "video")
    container = open_container(path, limits)
    if not container.streams.video:
        container.close()
        raise InputError(f"{path}: has no picture track; give a video file")
    stream = container.streams.video[0]
    if stream.codec_context is None:  # decoding it would crash the process in PyAV 14
        container.close()
        raise InputError(f"{path}: its picture track cannot be decoded; convert it to H.264 in MP4")
    try:
        _check_frame(path, stream.codec_context.width, stream.codec_context.height, limits)
    except InputError:
        container.close()
        raise
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate or FPS
    seconds = float(stream.duration * stream.time_base) if stream.duration else None
    frames = _decoded(container, stream, path, float(rate), limits)
    images = _at_rate(frames, fps, float(rate)) if fps else (frame for _, frame in frames)
    return Video(images, float(fps or rate), seconds)


def _check_frame(path: Path, width: int, height: int, limits: InputLimits) -> None:
    most = min(1e6 * limits.megapixels, 2**30 * limits.memory / BYTES_PER_PIXEL)
    if width * height > most:
        raise InputError(
            f"{path}: its pictures have {width} x {height} pixels; reduce them to at most {most / 1e6:.0f} million, or "
            "raise config.limits.memory"
        )


def _shown(frame, aspect: Fraction | None) -> np.ndarray:
    """Returns a frame as uint8 RGB with square pixels: one side is enlarged where the pixels are not."""
    if aspect is None or aspect == 1 or not 0.1 < aspect < 10:
        return frame.to_ndarray(format="rgb24")
    width = max(round(frame.width * aspect), frame.width)
    height = max(round(frame.height / aspect), frame.height)
    return frame.reformat(width, height, "rgb24").to_ndarray()


def _decoded(container, stream, path: Path, rate: float, limits: InputLimits) -> Iterator[tuple[float, np.ndarray]]:
    """(time from the first frame in seconds, upright uint8 RGB) of every frame that decodes."""
    import av

    first, time = None, 0.0
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    with container:
        packets = container.demux(stream)
        while True:
            try:
                frames = next(packets).decode()
            except StopIteration:
                break
            except av.InvalidDataError:
                continue
            except av.FFmpegError:
                break
            for frame in frames:
                _check_frame(path, frame.width, frame.height, limits)
                stamp = frame.time
                if first is None:
                    first = stamp or 0.0
                elif stamp is None:
                    time += 1.0 / rate
                if stamp is not None:
                    time = stamp - first
                turns = round((getattr(frame, "rotation", 0) or 0) / 90)  # counter-clockwise, as np.rot90
                check_length(path, time, limits)
                yield time, np.ascontiguousarray(np.rot90(_shown(frame, aspect), turns))
    if first is None:
        raise InputError(f"{path}: no frame of it decodes; give an intact video")


def _at_rate(frames: Iterator[tuple[float, np.ndarray]], fps: float, source: float) -> Iterator[np.ndarray]:
    """Frame k of the result is the one nearest to k / fps; the last one stays for 1 / source seconds."""
    count, last_time, last = 0, 0.0, None
    for time, frame in frames:
        while last is not None and count / fps < (last_time + time) / 2:
            yield last
            count += 1
        last_time, last = time, frame
    while last is not None and (count + 0.01) / fps < last_time + 1.0 / source:  # 0.01: rounding of the times
        yield last
        count += 1


def write_video(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    audio: Audio | None = None,
    fps: int | Fraction = FPS,
    **more: Any,
) -> Path:
    """Writes frames (uint8 RGB, H and W even) and the original sound as a video. See `VideoWriter`.

    more: what else `FrameWriter` takes. Returns the path. Those that end in .zip are a sequence of pictures, see
    `SequenceWriter`.
    """
    kind = SequenceWriter if Path(path).suffix.lower() == SEQUENCE else VideoWriter
    with kind(path, audio, fps, **more) as writer:
        for frame in frames:
            writer.add(frame)
    return writer.path


class VideoWriter(FrameWriter):
    """A video file that is either complete or absent: frames and the ORIGINAL sound, both from time 0.

    The name's suffix says how (`encodings.py`): .mp4, .m4v, .mov are H.264 (crf 18, 4:2:0) and AAC; .webm is VP9 and
    Opus. With `transparent` frames are uint8 (H, W, 4), colours not multiplied by the matte; .webm and .mov (then
    ProRes 4444 and PCM) hold them. `subtitles` become a track of text that players can show.

    Use as a context manager: `add(frame)` in order, the file appears under its name when the block ends without an
    error (`files.replacing`). Until then it grows beside it under another name, which any exception removes.
    The sound keeps rate and channels unless the codec lacks the rate; it is cut where the video ends. Memory is
    bounded. The container's comment says that the video is AI-generated. `seal` is called with the complete file
    before it gets its name, and may rewrite it.

    Raises InputError for a path that cannot be written (before any frame is asked for) or a disk that fills up.
    """

    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self._encoding = encoding_of(self.path, self._channels == 4)
        self._layout = "rgba" if self._channels == 4 else "rgb24"
        self._metadata = {"comment": self._comment, **({"title": self._title} if self._title else {})}
        self._place = replacing(os.path.realpath(self.path))  # a link stays one
        self._container = self._video = self._sound = self._text = None

    def __enter__(self) -> VideoWriter:
        import av

        with self._writing():
            self._part = self._place.__enter__()
            self._container = av.open(
                f"file:{self._part}", "w", format=self._encoding.container, options=self._encoding.container_options
            )
        return self

    def add(self, frame: np.ndarray) -> None:
        """Encodes one frame, uint8 (H, W, 3 or 4); all of one size."""
        import av

        self._check(frame)
        with self._writing():
            if self._video is None:
                self._open_streams(*frame.shape[:2])
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=self._layout)
            image.pts = self.frames
            image.time_base = Fraction(1, self._fps)
            self._container.mux(self._video.encode(image))
            self.frames += 1
            seconds = Fraction(self.frames, self._fps)
            if self._sound:
                self._sound.encode_until(seconds, self._container)
            if self._text:
                self._text.encode_until(seconds, self._container)

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            try:
                self._finish()
                return
            except BaseException:
                self._discard()
                raise
        self._discard()

    def _finish(self) -> None:
        if not self.frames:
            raise ValueError(f"{self.path}: no frames were given")
        with self._writing():
            self._container.mux(self._video.encode(None))
            if self._sound:
                self._sound.finish(self._container)
            self._container.close()
            if self._seal:
                self._seal(self._part)
            self._place.__exit__(None, None, None)

    def _discard(self) -> None:
        with contextlib.suppress(Exception):
            self._container.close()
        unfinished = _Unfinished()
        self._place.__exit__(_Unfinished, unfinished, None)

    @contextlib.contextmanager
    def _writing(self):
        import av

        try:
            yield
        except (OSError, av.FFmpegError) as error:
            self._discard()
            raise unwritable(self.path, error) from None

    def _open_streams(self, height: int, width: int) -> None:
        if height % 2 or width % 2:
            raise ValueError(f"4:2:0 colour needs even sides, not {width} x {height}")
        how = self._encoding
        self._container.metadata.update(self._metadata)
        stream = self._container.add_stream(how.video, rate=self._fps, options=how.options)
        stream.width, stream.height, stream.pix_fmt = width, height, how.pixels
        codec = stream.codec_context
        codec.time_base = Fraction(1, self._fps)
        # FFmpeg turns RGB into limited-range BT.601; players guess the matrix from the size unless told.
        codec.colorspace, codec.color_range, codec.color_primaries, codec.color_trc = 6, 1, 1, 1
        self._video = stream
        if self._audio is not None:
            self._sound = SoundTrack(self._container, self._audio, how.sound)
        if self._subtitles:
            self._text = TextTrack(self._container, how.text, self._subtitles)


class _Unfinished(Exception):
    """Tells `replacing` that the file is not to appear."""

"""Frames in, frames and sound out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.data.audio_files import Audio
from vasa_jax.data.containers import check_length, open_container
from vasa_jax.data.image_files import existing_file
from vasa_jax.data.limits import DEFAULT_LIMITS, InputLimits
from vasa_jax.data.output_files import video_output
from vasa_jax.errors import InputError
from vasa_jax.files import replacing

AI_COMMENT = "AI-generated video: a face animated by vasa_jax. It does not show real events."
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)  # ISO 14496-3
BYTES_PER_PIXEL = 16  # of a video while it is decoded: FFmpeg's few frames and the RGB of one
AAC_BLOCK = 1024  # samples per AAC packet


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
    title: str | None = None,
    comment: str = AI_COMMENT,
    seal: Callable[[Path], None] | None = None,
) -> Path:
    """Frames (uint8 RGB, H and W even) and the original sound -> MP4 at `path`. See `VideoWriter`. Returns the path."""
    with VideoWriter(path, audio, fps, title, comment, seal) as writer:
        for frame in frames:
            writer.add(frame)
    return writer.path


class VideoWriter:
    """An MP4 that is either complete or absent: H.264 (crf 18, 4:2:0) and the ORIGINAL sound as AAC, both from time 0.

    Use as a context manager: `add(frame)` in order, the file appears under its name when the block ends without an
    error (`files.replacing`). Until then it grows beside it under another name, which any exception removes.
    The sound keeps rate and channels unless AAC lacks the rate; it is cut where the video ends. Memory is bounded.
    The container's comment says that the video is AI-generated; the index comes first, so that playing can start
    before the file is complete ("faststart"). `seal` is called with the complete file before it gets its name, and may
    rewrite it.

    Raises InputError for a path that cannot be written (before any frame is asked for) or a disk that fills up.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        audio: Audio | None = None,
        fps: int | Fraction = FPS,
        title: str | None = None,
        comment: str = AI_COMMENT,
        seal: Callable[[Path], None] | None = None,
    ):
        heard = None if audio is None else audio.original
        self.path = video_output(path, [heard] if isinstance(heard, Path) else [])
        self.frames = 0
        self._audio, self._fps, self._seal = audio, fps, seal
        self._metadata = {"comment": comment, **({"title": title} if title else {})}
        self._place = replacing(os.path.realpath(self.path))  # a link stays one
        self._container = self._video = self._sound = None

    def __enter__(self) -> VideoWriter:
        import av

        with self._writing():
            self._part = self._place.__enter__()
            self._container = av.open(f"file:{self._part}", "w", format="mp4", options={"movflags": "faststart"})
        return self

    def add(self, frame: np.ndarray) -> None:
        """Encodes one frame, uint8 (H, W, 3); all of one size."""
        import av

        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame must be uint8 (H, W, 3), not {frame.dtype} {frame.shape}")
        with self._writing():
            if self._video is None:
                self._open_streams(*frame.shape[:2])
            elif frame.shape[:2] != (self._video.height, self._video.width):
                raise ValueError(f"frame {self.frames} is {frame.shape[:2]}, the first was another size")
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            image.pts = self.frames
            image.time_base = Fraction(1, self._fps)
            self._container.mux(self._video.encode(image))
            self.frames += 1
            if self._sound:
                self._sound.encode_until(Fraction(self.frames, self._fps), self._container)

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
            fault = (getattr(error, "strerror", None) or str(error)).lower()
            raise InputError(f"{self.path}: cannot be written ({fault}); choose another path or free space") from None

    def _open_streams(self, height: int, width: int) -> None:
        if height % 2 or width % 2:
            raise ValueError(f"H.264 with 4:2:0 colour needs even sides, not {width} x {height}")
        self._container.metadata.update(self._metadata)
        stream = self._container.add_stream("libx264", rate=self._fps, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, self._fps)
        # FFmpeg turns RGB into limited-range BT.601; players guess the matrix from the size unless told.
        codec.colorspace, codec.color_range, codec.color_primaries, codec.color_trc = 6, 1, 1, 1
        self._video = stream
        if self._audio is not None:
            self._sound = _SoundTrack(self._container, self._audio)


class _Unfinished(Exception):
    """Tells `replacing` that the file is not to appear."""


class _SoundTrack:
    """Encodes the original sound along with the frames, so that packets interleave and memory stays bounded."""

    def __init__(self, container, audio: Audio):
        source = audio.rate
        self.rate = source if source in AAC_RATES else next((r for r in AAC_RATES if source < r <= 48000), 48000)
        self._stream = container.add_stream("aac", rate=self.rate, layout="mono" if audio.channels == 1 else "stereo")
        # 4 bits per sample and channel, at most 128 kbit/s: transparent for speech, and what AAC allows at low rates.
        self._stream.bit_rate = audio.channels * min(128_000, 4 * self.rate)
        self._stream.codec_context.time_base = Fraction(1, self.rate)
        self._layout = "mono" if audio.channels == 1 else "stereo"
        self._blocks = _resampled(audio.blocks(), source, self.rate, audio.channels)
        self._held = np.zeros((0, audio.channels), np.float32)
        self._sent = 0
        self._limit = 0

    def encode_until(self, seconds: Fraction, container) -> None:
        """Sends whole AAC blocks that end by `seconds`, which is how far the frames reach."""
        self._limit = int(seconds * self.rate)
        while self._sent + AAC_BLOCK <= self._limit and self._take(AAC_BLOCK):
            self._send(AAC_BLOCK, container)

    def finish(self, container) -> None:
        self._take(AAC_BLOCK)
        rest = min(len(self._held), self._limit - self._sent)
        if rest:
            self._send(rest, container)
        container.mux(self._stream.encode(None))

    def _take(self, count: int) -> bool:
        while len(self._held) < count:
            block = next(self._blocks, None)
            if block is None:
                return False
            self._held = np.concatenate([self._held, block])
        return True

    def _send(self, count: int, container) -> None:
        import av

        samples, self._held = self._held[:count], self._held[count:]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=self._layout)
        frame.sample_rate = self.rate
        frame.time_base = Fraction(1, self.rate)
        frame.pts = self._sent
        self._sent += count
        container.mux(self._stream.encode(frame))


def _resampled(blocks: Iterator[np.ndarray], source: int, target: int, channels: int) -> Iterator[np.ndarray]:
    if source == target:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(source, target, channels, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)

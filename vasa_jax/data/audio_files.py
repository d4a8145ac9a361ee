"""Speech in: any sound or video file becomes 16 kHz mono, and keeps a handle on the original sound."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count
from vasa_jax.data.image_files import existing_file
from vasa_jax.errors import InputError

SILENCE_PEAK = 1e-4  # -80 dB of full scale
BLOCK_SECONDS = 1.0
LONGEST_GAP = 5.0  # seconds; a larger jump between timestamps is taken for a wrong timestamp
# Containers whose header states the length; the others only have an estimate, no proof that something is missing.
FORMATS_WITH_LENGTH = {"wav", "w64", "aiff", "flac", "mov", "matroska"}


@dataclass(frozen=True)
class Audio:
    """Speech as the models hear it, and the sound it came from.

    samples: float32 (N,), mono, 16 kHz, in [-1, 1].
    rate, channels: of the original sound (Hz; 1 or 2: more channels are mixed down to two).
    start: seconds by which the sound starts after the video of the same file (0 for a file with sound only).
    notes: what the user should be told, one line each.
    original: the file, or a float32 (n, channels) array; `blocks` reads it.
    """

    samples: np.ndarray
    rate: int
    channels: int
    start: float = 0.0
    notes: tuple[str, ...] = ()
    original: Path | np.ndarray = field(repr=False, default=None)

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def frames(self) -> int:
        """Number of video frames that belong to this sound."""
        return frame_count(len(self.samples))

    @classmethod
    def from_samples(cls, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Audio:
        """Makes sound from memory: float (n,) or (n, channels up to 2) in [-1, 1] at `rate` Hz."""
        original = np.asarray(samples, np.float32)
        original = _bounded(original[:, None] if original.ndim == 1 else original)
        if not 1 <= original.shape[1] <= 2:
            raise ValueError(f"samples must be (n,), (n, 1) or (n, 2), not {np.shape(samples)}")
        mono = _ToSpeech(rate)
        mono.feed(original)
        return cls(mono.finish(), rate, original.shape[1], original=original)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the original sound, float32 (n, channels) blocks at `rate`, decoded again from the file: bounded
        memory."""
        if isinstance(self.original, np.ndarray):
            yield from np.split(self.original, range(self.rate, len(self.original), self.rate))
        else:
            yield from _Decoder(self.original).blocks()


def read_audio(path: str | os.PathLike) -> Audio:
    """Reads the sound of an audio or video file. The content decides, not the file name. Any rate, channels, length.

    A file cut short gives what decodes and a note; so does silence. Holes between timestamps become silence, so that
    time in `samples` is time in the file. Resampling is soxr's.

    Raises InputError for a path that is no readable file, for no sound track, for sound that does not decode, and for
    less than one video frame (40 ms) of it.
    """
    path = existing_file(path, "sound or video")
    decoder = _Decoder(path)
    speech = None
    for block in decoder.blocks():
        speech = speech or _ToSpeech(decoder.rate)
        speech.feed(block)
    if speech is None:
        if decoder.damaged:
            raise InputError(f"{path}: its sound is damaged, nothing decodes; give an intact copy")
        raise InputError(f"{path}: its sound track is empty; give a file with speech")
    samples = speech.finish()
    if len(samples) < SAMPLES_PER_FRAME:
        milliseconds = 1000 * len(samples) / SAMPLE_RATE
        raise InputError(f"{path}: holds {milliseconds:.0f} ms of sound, less than one video frame; give 40 ms or more")
    notes = decoder.notes()
    if np.abs(samples).max() < SILENCE_PEAK:
        notes.append(f"{path}: is silent; the mouth will stay at rest")
    return Audio(samples, decoder.rate, decoder.channels, decoder.start, tuple(notes), path)


def _bounded(samples: np.ndarray) -> np.ndarray:
    """Float files may hold NaN and values beyond full scale, which would reach the encoder and the networks."""
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1.0, 1.0).astype(np.float32, copy=False)


class _ToSpeech:
    """Blocks at any rate -> mono 16 kHz, as a stream (equal to resampling all at once)."""

    def __init__(self, rate: int):
        import soxr

        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
        self._parts: list[np.ndarray] = []

    def feed(self, block: np.ndarray) -> None:
        mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
        self._parts.append(self._stream.resample_chunk(mono) if self._stream else mono)

    def finish(self) -> np.ndarray:
        if self._stream:
            self._parts.append(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        samples = np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)
        return np.clip(samples, -1.0, 1.0)  # resampling overshoots a little at clipped peaks


class _Decoder:
    """Streams the best sound track of a file as float32 (n, channels) blocks of about a second at one rate.

    `rate`, `channels`, `start` are known after the first block; `damaged` (packets lost) and `notes` after the last.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rate = self.channels = 0
        self.start = 0.0
        self.damaged = 0
        self.decoded = 0  # samples
        self.stated: float | None = None  # seconds, where the container says so

    def notes(self) -> list[str]:
        seconds = self.decoded / self.rate
        if self.stated and seconds < 0.98 * self.stated - 0.2:
            return [f"{self.path}: is cut short: {seconds:.1f} s of {self.stated:.1f} s decode; using these"]
        if self.damaged:
            return [f"{self.path}: is damaged: {self.damaged} packets of sound do not decode; using the rest"]
        return []

    def _stated_by_riff(self, seconds: float | None) -> float | None:
        """FFmpeg takes a WAV's length from the size of the file; what its header promised shows whether it was cut."""
        with open(self.path, "rb") as file:
            header = file.read(8)
        size = self.path.stat().st_size
        promised = int.from_bytes(header[4:], "little") + 8
        if seconds and header[:4] == b"RIFF" and size < promised < 0x7FFFF000:  # above: written by a pipe
            return seconds * promised / size
        return seconds

    def blocks(self) -> Iterator[np.ndarray]:
        pending: list[np.ndarray] = []
        count = 0
        for chunk in self._chunks():
            pending.append(chunk)
            count += len(chunk)
            if count >= BLOCK_SECONDS * self.rate:
                yield np.concatenate(pending)
                pending, count = [], 0
        if pending:
            yield np.concatenate(pending)

    def _chunks(self) -> Iterator[np.ndarray]:
        """Decoded frames in time order, holes filled with silence."""
        first = None
        for frame, time in self._frames():
            if first is None:
                first = time
            if time is not None and first is not None:
                hole = time - first - self.decoded / self.rate
                if 0.02 < hole < LONGEST_GAP:
                    silence = np.zeros((round(hole * self.rate), self.channels), np.float32)
                    self.decoded += len(silence)
                    yield silence
            self.decoded += len(frame)
            yield frame

    def _frames(self) -> Iterator[tuple[np.ndarray, float | None]]:
        """(samples (n, channels), seconds or None) of each decoded frame. A damaged packet is counted, not fatal."""
        import av

        with open_container(self.path) as container:
            if not container.streams.audio:
                raise InputError(f"{self.path}: has no sound; give a file with speech")
            stream = container.streams.best("audio") or container.streams.audio[0]
            if stream.codec_context is None:  # decoding it would crash the process in PyAV 14
                raise InputError(f"{self.path}: its sound cannot be decoded; convert it to WAV")
            if container.format.name.split(",")[0] in FORMATS_WITH_LENGTH and stream.duration:
                self.stated = float(stream.duration * stream.time_base)
            self.stated = self._stated_by_riff(self.stated)
            mixer = _Mixer()
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                except StopIteration:
                    break
                except av.FFmpegError:  # the file ends or breaks here: what came before is good
                    self.damaged += 1
                    break
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    self.damaged += 1
                    continue
                for frame in frames:
                    if not frame.samples or not frame.sample_rate:
                        continue
                    if not self.rate:
                        self.rate = frame.sample_rate
                        self.channels = min(frame.layout.nb_channels, 2)
                        self.start = _start_after_video(container, frame.time)
                    time = frame.time  # the mixer takes it away
                    yield mixer(frame, self.rate, self.channels), time


class _Mixer:
    """FFmpeg frame -> float32 (n, channels) at one rate, also where a file changes its format half-way."""

    def __init__(self):
        self._resampler = None
        self._source = None

    def __call__(self, frame, rate: int, channels: int) -> np.ndarray:
        import av

        source = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if source != self._source:
            layout = "mono" if channels == 1 else "stereo"
            self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
            self._source = source
        frame.pts = None  # holes are filled by `_chunks`, not by the resampler
        try:
            parts = [part.to_ndarray() for part in self._resampler.resample(frame)]
        except (av.FFmpegError, ValueError):  # channels without a known arrangement cannot be mixed down by rule
            return self._first_channels(frame, channels)
        return _bounded(np.concatenate(parts, axis=1).T) if parts else np.zeros((0, channels), np.float32)

    @staticmethod
    def _first_channels(frame, channels: int) -> np.ndarray:
        samples = frame.to_ndarray()
        if not frame.format.is_planar:
            samples = samples.reshape(-1, frame.layout.nb_channels).T
        if samples.dtype == np.uint8:
            samples = (samples.astype(np.float32) - 128.0) / 128.0
        elif samples.dtype.kind == "i":
            samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
        return _bounded(samples[:channels].T)


def open_container(path: Path):
    """Opens a media file with FFmpeg; local files only: a playlist must not reach the network. Raises InputError."""
    import av

    try:
        # "file:" keeps names such as "a:b.mp4" or "x%03d.png" from being read as a protocol or a pattern.
        # Not `options`: PyAV 14 and 16 crash the process with it after some dozens of files.
        settings = {"container_options": {"protocol_whitelist": "file"}}
        if int(av.__version__.split(".")[0]) < 19:  # later versions never fail on tags that are not UTF-8
            settings["metadata_errors"] = "replace"
        return av.open(f"file:{path}", **settings)
    except av.FFmpegError as error:
        fault = (error.strerror or "unknown fault").lower()
        raise InputError(f"{path}: is not readable as sound or video ({fault}); give an intact file") from None


def _start_after_video(container, sound: float | None) -> float:
    """Returns the seconds from the first video frame to the first sample, 0 where the file has no video."""
    with contextlib.suppress(IndexError, TypeError):
        video = container.streams.video[0]
        if video.start_time is not None and sound is not None and video.frames != 1:
            return sound - float(video.start_time * video.time_base)
    return 0.0

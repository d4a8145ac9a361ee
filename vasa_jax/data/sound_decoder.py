"""Sound tracks as blocks of float32 samples, decoded with FFmpeg."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vasa_jax.data.containers import check_length, open_container
from vasa_jax.errors import InputError
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

RATES = (2_000, 768_000)  # Hz; the lowest that holds some speech, and the highest of any converter
BLOCK_SECONDS = 1.0
LONGEST_GAP = 5.0  # seconds; a larger jump between timestamps is taken for a wrong timestamp
MOST_FILLED = 600.0  # seconds of holes, in sound that is mostly holes
CANCELLED = 0.03  # power of a mix over that of its loudest channel; two equal channels give 1, one of two 0.25
# Containers whose header states the length; the others only have an estimate, no proof that something is missing.
FORMATS_WITH_LENGTH = {"wav", "w64", "aiff", "flac", "mov", "matroska"}


def bounded(samples: np.ndarray) -> np.ndarray:
    """Returns float32 in [-1, 1]: float files may hold NaN and more than full scale, which no encoder takes."""
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1.0, 1.0).astype(np.float32, copy=False)


def loudest_of_cancelled(mix: np.ndarray, channels: np.ndarray) -> np.ndarray | None:
    """Returns the loudest of `channels` (n, k) where `mix` (n,) has lost it, as in antiphase; None where it has not."""
    power = np.square(channels, dtype=np.float64).sum(axis=0)
    loudest = int(power.argmax())
    if np.square(mix, dtype=np.float64).sum() < CANCELLED * power[loudest]:
        return channels[:, loudest]
    return None


class SoundDecoder:
    """Streams the best sound track of a file as float32 (n, channels) blocks of about a second at one rate.

    `rate`, `channels`, `start` are known after the first block; `damaged` (packets lost) and `notes` after the last.
    More than two channels are mixed to two; where the mix loses the loudest of them, both are that one.
    """

    def __init__(self, path: Path, limits: InputLimits = DEFAULT_LIMITS):
        self.path = path
        self.rate = self.channels = 0
        self.start = 0.0
        self.damaged = 0
        self.decoded = 0  # samples, silence in holes included
        self._filled = 0  # samples of that silence
        self._stated: float | None = None  # seconds, where the container says so
        self._limits = limits

    def notes(self) -> list[str]:
        """Returns a line on what of the file is missing."""
        seconds = self.decoded / self.rate
        if self._stated and seconds < 0.98 * self._stated - 0.2:
            return [f"{self.path}: is cut short: {seconds:.1f} s of {self._stated:.1f} s decode; using these"]
        if self.damaged:
            return [f"{self.path}: is damaged: {self.damaged} packets of sound do not decode; using the rest"]
        return []

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the blocks; InputError for what is no sound, and for more of it than the limits allow."""
        pending: list[np.ndarray] = []
        sources: list[np.ndarray] = []
        count = 0
        for chunk, source in self._chunks():
            pending.append(chunk)
            sources.append(source)
            count += len(chunk)
            if count >= BLOCK_SECONDS * self.rate:
                yield _mixed(pending, sources)
                pending, sources, count = [], [], 0
        if pending:
            yield _mixed(pending, sources)

    def _stated_by_riff(self, seconds: float | None) -> float | None:
        """FFmpeg takes a WAV's length from the size of the file; what its header promised shows whether it was cut."""
        with open(self.path, "rb") as file:
            header = file.read(8)
        size = self.path.stat().st_size
        promised = int.from_bytes(header[4:], "little") + 8
        if seconds and header[:4] == b"RIFF" and size < promised < 0x7FFFF000:  # above: written by a pipe
            return seconds * promised / size
        return seconds

    def _chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Decoded frames in time order with their channels as stored, holes filled with silence."""
        first = None
        for frame, source, time in self._frames():
            if first is None:
                first = time
            if time is not None and first is not None:
                hole = time - first - self.decoded / self.rate
                if 0.02 < hole < LONGEST_GAP:
                    silence = np.zeros((round(hole * self.rate), self.channels), np.float32)
                    self.decoded += len(silence)
                    self._filled += len(silence)
                    self._check_holes()
                    yield silence, silence
            self.decoded += len(frame)
            check_length(self.path, self.decoded / self.rate, self._limits)
            yield frame, source

    def _check_holes(self) -> None:
        if self._filled > MOST_FILLED * self.rate and self._filled > 0.8 * self.decoded:
            raise InputError(f"{self.path}: its sound is mostly holes between its packets; convert it to WAV")

    def _frames(self) -> Iterator[tuple[np.ndarray, np.ndarray, float | None]]:
        """(samples (n, channels), those of every channel, seconds or None). A damaged packet is counted, not fatal."""
        import av

        with open_container(self.path, self._limits) as container:
            if not container.streams.audio:
                raise InputError(f"{self.path}: has no sound; give a file with speech")
            stream = container.streams.best("audio") or container.streams.audio[0]
            if stream.codec_context is None:  # decoding it would crash the process in PyAV 14
                raise InputError(f"{self.path}: its sound cannot be decoded; convert it to WAV")
            if stream.codec_context.sample_rate:
                _check_rate(self.path, stream.codec_context.sample_rate)
            if container.format.name.split(",")[0] in FORMATS_WITH_LENGTH and stream.duration:
                self._stated = float(stream.duration * stream.time_base)
                check_length(self.path, self._stated, self._limits)
            self._stated = self._stated_by_riff(self._stated)
            mixer = _Mixer(self.path)
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
                    yield *mixer(frame, self.rate, self.channels), time


def _check_rate(path: Path, rate: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"{path}: its sound has a rate of {rate} Hz; give sound of 2 to 768 kHz")


def _mixed(pending: list[np.ndarray], sources: list[np.ndarray]) -> np.ndarray:
    """Returns a block whose mix is replaced by the loudest channel as stored, where it has lost that one."""
    block = np.concatenate(pending)
    if any(chunk is not source for chunk, source in zip(pending, sources)):
        width = max(source.shape[1] for source in sources)
        source = np.concatenate([np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in sources])
        power = np.square(block, dtype=np.float64).sum(axis=0)
        lost = loudest_of_cancelled(block[:, int(power.argmax())], source)
        if lost is not None:
            block = np.repeat(lost[:, None], block.shape[1], axis=1)
    return block


class _Mixer:
    """FFmpeg frame -> float32 (n, channels) at one rate, also where a file changes its format half-way."""

    def __init__(self, path: Path):
        self._path = path
        self._resampler = None
        self._source = None

    def __call__(self, frame, rate: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mix, and every channel as stored; the mix itself where there are no more than two."""
        import av

        source = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if source != self._source:
            _check_rate(self._path, frame.sample_rate)
            layout = "mono" if channels == 1 else "stereo"
            self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
            self._source = source
        frame.pts = None  # holes are filled by `SoundDecoder._chunks`, not by the resampler
        try:
            parts = [part.to_ndarray() for part in self._resampler.resample(frame)]
        except (av.FFmpegError, ValueError):  # channels without a known arrangement cannot be mixed down by rule
            every = _every_channel(frame)
            return np.repeat(every.mean(axis=1, keepdims=True), channels, axis=1), every
        mix = bounded(np.concatenate(parts, axis=1).T) if parts else np.zeros((0, channels), np.float32)
        if frame.layout.nb_channels > 2 and len(mix) == frame.samples:
            return mix, _every_channel(frame)
        return mix, mix


def _every_channel(frame) -> np.ndarray:
    """Returns float32 (n, channels) as the frame stores them."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128.0) / 128.0
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return bounded(samples.T)


def _start_after_video(container, sound: float | None) -> float:
    """Returns the seconds from the first video frame to the first sample, 0 where the file has no video."""
    with contextlib.suppress(IndexError, TypeError):
        video = container.streams.video[0]
        if video.start_time is not None and sound is not None and video.frames != 1:
            return sound - float(video.start_time * video.time_base)
    return 0.0

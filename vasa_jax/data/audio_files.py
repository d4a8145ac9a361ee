"""Speech in: any sound or video file becomes 16 kHz mono, and keeps a handle on the original sound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count
from vasa_jax.data.image_files import existing_file
from vasa_jax.data.sound_decoder import SoundDecoder, bounded, loudest_of_cancelled
from vasa_jax.data.speech_level import settle
from vasa_jax.errors import InputError
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

SILENCE_PEAK = 1e-4  # -80 dB of full scale
SEGMENT = 10 * 2**20  # samples stored together: so large that their memory goes back to the system at once


@dataclass(frozen=True)
class Audio:
    """Speech as the models hear it, and the sound it came from.

    samples: float32 (N,), mono, 16 kHz, in [-1, 1].
    rate, channels: of the original sound (Hz; 1 or 2: more channels are mixed down to two).
    start: seconds by which the sound starts after the video of the same file (0 for a file with sound only).
    notes: what the user should be told, one line each.
    original: the file, or a float32 (n, channels) array; `blocks` reads it.
    limits: what the file may ask for when it is read again.
    """

    samples: np.ndarray
    rate: int
    channels: int
    start: float = 0.0
    notes: tuple[str, ...] = ()
    original: Path | np.ndarray = field(repr=False, default=None)
    limits: InputLimits = field(repr=False, default=DEFAULT_LIMITS)

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def frames(self) -> int:
        """Number of video frames that belong to this sound."""
        return frame_count(len(self.samples))

    @classmethod
    def from_samples(cls, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Audio:
        """Makes sound from memory: float (n,) or (n, channels up to 2) in [-1, 1] at `rate` Hz. Its level stays."""
        original = np.asarray(samples, np.float32)
        original = bounded(original[:, None] if original.ndim == 1 else original)
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
            yield from SoundDecoder(self.original, self.limits).blocks()


def read_audio(path: str | os.PathLike, limits: InputLimits = DEFAULT_LIMITS) -> Audio:
    """Reads the sound of an audio or video file. The content decides, not the file name. Any channels, 2 to 768 kHz.

    A file cut short gives what decodes and a note; so does silence. Holes between timestamps become silence, so that
    time in `samples` is time in the file. Resampling is soxr's. Where channels cancel each other the loudest is heard,
    and a constant or an odd level is made good (`speech_level.settle`); both are noted. `blocks` is not changed.

    Raises:
      InputError: no readable file; no sound track; sound that does not decode; more than `limits` allow; less than one
        video frame (40 ms).
    """
    path = existing_file(path, "sound or video")
    decoder = SoundDecoder(path, limits)
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
    if speech.cancelled:
        notes.append(f"{path}: its channels cancel each other; the loudest is heard for the lips")
    notes += [f"{path}: {note}" for note in settle(samples)]
    if max(samples.max(), -samples.min()) < SILENCE_PEAK:
        notes.append(f"{path}: is silent; the mouth will stay at rest")
    return Audio(samples, decoder.rate, decoder.channels, decoder.start, tuple(notes), path, limits)


class _ToSpeech:
    """Blocks at any rate -> mono 16 kHz, as a stream (equal to resampling all at once).

    cancelled: whether a block's channels cancelled each other, so that its loudest stands for their mean.
    """

    def __init__(self, rate: int):
        import soxr

        self.cancelled = False
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
        self._segments: list[np.ndarray] = []
        self._free = 0  # samples of the last segment

    def feed(self, block: np.ndarray) -> None:
        mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
        lost = loudest_of_cancelled(mono, block) if block.shape[1] > 1 else None
        if lost is not None:
            mono, self.cancelled = np.ascontiguousarray(lost), True
        self._store(self._stream.resample_chunk(mono) if self._stream else mono)

    def finish(self) -> np.ndarray:
        """Returns float32 (N,). Needs little more memory than that: each segment is given back once it is copied."""
        if self._stream:
            self._store(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        result = np.empty(len(self._segments) * SEGMENT - self._free, np.float32)
        for start in range(0, len(result), SEGMENT):
            part = result[start : start + SEGMENT]
            # Resampling overshoots a little at clipped peaks.
            np.clip(self._segments.pop(0)[: len(part)], -1.0, 1.0, out=part)
        return result

    def _store(self, samples: np.ndarray) -> None:
        while len(samples):
            if not self._free:
                self._segments.append(np.empty(SEGMENT, np.float32))
                self._free = SEGMENT
            count = min(self._free, len(samples))
            start = SEGMENT - self._free
            self._segments[-1][start : start + count] = samples[:count]
            self._free -= count
            samples = samples[count:]

"""The original sound, encoded along with the frames that it belongs to."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from vasa_jax.data.audio_files import Audio
from vasa_jax.data.encodings import SoundEncoding


class SoundTrack:
    """Encodes the original sound along with the frames, so that packets interleave and memory stays bounded."""

    def __init__(self, container, audio: Audio, encoding: SoundEncoding):
        self.rate = encoding.rate_for(audio.rate)
        self._encoding = encoding
        self._layout = "mono" if audio.channels == 1 else "stereo"
        self._stream = container.add_stream(encoding.codec, rate=self.rate, layout=self._layout)
        if encoding.bits:
            self._stream.bit_rate = audio.channels * min(128_000, encoding.bits * self.rate)
        self._stream.codec_context.time_base = Fraction(1, self.rate)
        self._blocks = resampled(audio.blocks(), audio.rate, self.rate, audio.channels)
        self._held = np.zeros((0, audio.channels), np.float32)
        self._sent = 0
        self._limit = 0

    def encode_until(self, seconds: Fraction, container) -> None:
        """Sends whole blocks that end by `seconds`, which is how far the frames reach."""
        self._limit = int(seconds * self.rate)
        block = self._encoding.block
        while self._sent + block <= self._limit and self._take(block):
            self._send(block, container)

    def finish(self, container) -> None:
        """Sends the rest, as far as the frames reach."""
        self._take(self._encoding.block)
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
        form = self._encoding.form
        if form == "s16":
            samples = as_int16(samples)
        shown = samples.T if form.endswith("p") else samples.reshape(1, -1)  # planes, or samples of channels in turn
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(shown), format=form, layout=self._layout)
        frame.sample_rate = self.rate
        frame.time_base = Fraction(1, self.rate)
        frame.pts = self._sent
        self._sent += count
        container.mux(self._stream.encode(frame))


def resampled(blocks: Iterator[np.ndarray], source: int, target: int, channels: int) -> Iterator[np.ndarray]:
    """Yields blocks of sound, float32 (n, channels), at another rate."""
    if source == target:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(source, target, channels, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Returns samples in [-1, 1] as 16-bit numbers; louder ones are clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)

"""Lossy codecs of sound in memory: what phones, calls and videos do to a voice."""

import io

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE


def through_aac(samples: np.ndarray, bit_rate: int) -> np.ndarray:
    """Passes 16 kHz mono f32 (N,) through AAC at `bit_rate` bit/s, by FFmpeg: f32 (N,), in step."""
    import av

    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.asarray(samples, np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory) as container:  # the delay of the encoder is told in the file, and taken away by the reader
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return np.pad(heard, (0, max(len(samples) - len(heard), 0)))[: len(samples)]

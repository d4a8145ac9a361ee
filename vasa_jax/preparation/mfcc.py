"""Mel-frequency cepstral coefficients as speech recognisers compute them (Davis and Mermelstein 1980; HTK's liftering).

The variant that audio-visual networks such as SyncNet were trained on has frames of 25 ms every 10 ms without a window.
Its triangles lie between whole bins of the spectrum; the log energy stands in the place of the zeroth coefficient.
librosa has no such triangles: its coefficients are 1.5 off on average on speech (their deviation is 22), and the
networks would mishear.
"""

from __future__ import annotations

import functools

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE

FRAME, STEP, TRANSFORM = SAMPLE_RATE // 40, SAMPLE_RATE // 100, 512  # samples: 25 ms, 10 ms
FILTERS, COEFFICIENTS = 26, 13
PRE_EMPHASIS = 0.97
LIFTER = 22
FULL_SCALE = 32768.0  # the coefficients are those of 16-bit samples


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Returns the coefficients of float (N,) at 16 kHz in [-1, 1]: float32 (1 + (N - 400) // 160, 13).

    N is at least 400; frame k begins at sample 160 k.
    """
    from scipy.fft import dct

    values = samples.astype(np.float64) * FULL_SCALE
    emphasised = np.concatenate([values[:1], values[1:] - PRE_EMPHASIS * values[:-1]])
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, FRAME)[::STEP]
    power = np.square(np.abs(np.fft.rfft(frames, TRANSFORM))) / TRANSFORM
    floor = np.finfo(np.float64).eps
    bands = np.log(np.maximum(power @ _triangles().T, floor))
    result = dct(bands, type=2, norm="ortho")[:, :COEFFICIENTS]
    result *= 1.0 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    result[:, 0] = np.log(np.maximum(power.sum(1), floor))
    return result.astype(np.float32)


@functools.cache
def _triangles() -> np.ndarray:
    """(26, 257): each rises from the centre of the one before to its own and falls to that of the next."""
    highest = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)  # mel
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, highest, FILTERS + 2) / 2595.0) - 1.0)
    bins = np.floor((TRANSFORM + 1) * hertz / SAMPLE_RATE)
    at = np.arange(TRANSFORM // 2 + 1)
    low, centre, high = (bins[i : FILTERS + i, None] for i in range(3))
    rising, falling = (at - low) / (centre - low), (high - at) / (high - centre)
    return np.where(at < centre, rising, falling).clip(0.0) * ((at >= low) & (at < high))

"""Frame-level loudness and pitch of speech at 50 Hz: frame k covers samples [320 k, 320 k + 400) of 16 kHz audio."""

import numpy as np
from scipy.fft import irfft, rfft

from vasa_jax.conventions import SAMPLE_RATE

HOP, WINDOW = 320, 400
_HANN = np.hanning(512).astype(np.float32)


def frame_centres(frames: int) -> np.ndarray:
    """Middle of each frame in seconds: f64 [frames]."""
    return (HOP * np.arange(frames) + WINDOW / 2) / SAMPLE_RATE


def log_energy(samples: np.ndarray, frames: int) -> np.ndarray:
    """Natural log of the root mean square of each frame, floored at 1e-5: f32 [frames]."""
    padded = np.pad(samples, (0, max(HOP * (frames - 1) + WINDOW - len(samples), 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames]
    return np.log(np.sqrt((windows**2).mean(1)) + 1e-5).astype(np.float32)


def pitch_contour(
    samples: np.ndarray, frames: int, low: float = 60.0, high: float = 420.0, voiced: float = 0.5
) -> np.ndarray:
    """Fundamental frequency in Hz, 0 where unvoiced: f32 [frames]. The peak of the normalised autocorrelation of 64 ms
    at 8 kHz between `low` and `high` Hz; `voiced` is the correlation that a voiced frame reaches."""
    rate, size = SAMPLE_RATE // 2, 512
    halved = samples[: len(samples) // 2 * 2].reshape(-1, 2).mean(1, dtype=np.float32)
    centre = (frame_centres(frames) * rate).astype(int)
    padded = np.pad(halved, (size // 2, size + max(int(centre[-1]) - len(halved), 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[centre] * _HANN
    correlation = irfft(np.abs(rfft(windows, 2 * size)) ** 2)[:, : size // 2]
    window = irfft(np.abs(rfft(_HANN, 2 * size)) ** 2)[: size // 2]
    correlation = correlation / (correlation[:, :1] + 1e-9) / (window / window[0])
    lags = slice(int(rate / high), int(rate / low) + 1)
    # A small preference for short lags keeps the first of several equal peaks: the octave above, not below.
    score = correlation[:, lags] - 0.0008 * np.arange(lags.stop - lags.start)
    lag = score.argmax(1) + lags.start
    rows = np.arange(frames)
    a, b, c = correlation[rows, lag - 1], correlation[rows, lag], correlation[rows, np.minimum(lag + 1, size // 2 - 1)]
    peak = lag + np.clip(0.5 * (a - c) / np.where(np.abs(a - 2 * b + c) < 1e-9, 1.0, a - 2 * b + c), -0.5, 0.5)
    energy = (windows**2).mean(1)
    is_voiced = (b > voiced) & (energy > 1e-3 * energy.max() + 1e-10)
    return np.where(is_voiced, rate / peak, 0.0).astype(np.float32)

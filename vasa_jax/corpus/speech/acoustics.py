"""Levels of speech, and energy at 50 Hz: frame k covers samples [320 k, 320 k + 400) of 16 kHz audio."""

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME

HOP, WINDOW = SAMPLES_PER_FRAME // 2, SAMPLE_RATE // 40  # 20 ms, 25 ms: the frames of wav2vec 2.0


def frame_centres(frames: int) -> np.ndarray:
    """Returns the middle of each frame in seconds: f64 [frames]."""
    return (HOP * np.arange(frames) + WINDOW / 2) / SAMPLE_RATE


def block_rms(samples: np.ndarray, size: int) -> np.ndarray:
    """Returns the root mean square of each block of `size` samples, in the type of `samples` (N,): [N / size]."""
    return np.sqrt((samples.reshape(-1, size) ** 2).mean(1))


def rms_between(samples: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns the root mean square of samples [low, high) of (N,) for each pair of places, cut to [0, N]: f64."""
    power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    low, high = np.clip(low, 0, len(samples)), np.clip(high, 0, len(samples))
    return np.sqrt((power[high] - power[low]) / np.maximum(high - low, 1))


def log_energy(samples: np.ndarray, frames: int) -> np.ndarray:
    """Returns the natural log of each frame's root mean square plus 1e-5: f32 [frames]. Missing samples are zeros."""
    import librosa  # seconds to import: only where clips are made

    padded = np.pad(samples, (0, max(HOP * (frames - 1) + WINDOW - len(samples), 0)))
    level = librosa.feature.rms(y=padded, frame_length=WINDOW, hop_length=HOP, center=False)[0]
    return np.log(level[:frames] + 1e-5).astype(np.float32)

"""Smooth random curves at the frame rate of the corpus."""

import numpy as np

from vasa_jax.conventions import FPS


def wander(rng: np.random.Generator, frames: int, tau: float, deviation: float) -> np.ndarray:
    """Returns a smooth random curve f64 [frames]: white noise through two equal low-pass stages of time constant `tau`
    s."""
    from scipy.signal import lfilter  # its import takes half a second

    decay = np.exp(-1.0 / (FPS * tau))
    warm = int(6 * tau * FPS)
    noise = rng.standard_normal(warm + frames)
    curve = lfilter([1.0], [1.0, -2.0 * decay, decay**2], noise)[warm:]
    # stationary deviation of the two-stage filter
    return curve * deviation * np.sqrt((1 - decay**2) ** 3 / (1 + decay**2))

"""Smoothing of motion that was read frame by frame."""

import numpy as np

FIRST_VARIANCE = 1e5  # of the first state, over that of a step


def smoothed(values: np.ndarray, noise: float) -> np.ndarray:
    """Returns the most likely course of each column of (T, N), a random walk that was read with noise.

    noise: variance of a reading over that of a step of the walk; 0 changes nothing. Kalman's filter, then the smoother
    of Rauch, Tung and Striebel, as LivePortrait smooths the motion of videos.
    """
    values = np.asarray(values, np.float64)
    if noise <= 0 or len(values) < 2:
        return values
    mean, variance = np.empty_like(values), np.empty(len(values))
    guess, spread = values[0], FIRST_VARIANCE
    for i, reading in enumerate(values):
        if i:
            guess, spread = mean[i - 1], variance[i - 1] + 1.0
        gain = spread / (spread + noise)
        mean[i], variance[i] = guess + gain * (reading - guess), (1.0 - gain) * spread
    for i in range(len(values) - 2, -1, -1):
        mean[i] += variance[i] / (variance[i] + 1.0) * (mean[i + 1] - mean[i])
    return mean

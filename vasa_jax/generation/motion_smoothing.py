"""Smoothing of motion that was read frame by frame."""

import numpy as np

from vasa_jax.conventions import POSE_DIM

FIRST_VARIANCE = 1e5  # of the first state, over that of a step
LARGEST_NOISE = 100.0  # that is estimated: what hardly moves is all noise
SURELY = 2.4  # variances of noise that a step has, 2, and what a second of video leaves uncertain
FEWEST_FRAMES = 12  # from which noise is estimated


def smoothed(values: np.ndarray, noise: float | np.ndarray) -> np.ndarray:
    """Returns the most likely course of each column of (T, N), a random walk that was read with noise.

    noise: variance of a reading over that of a step of the walk, one or (N,); 0 changes nothing. Kalman's filter, then
    the smoother of Rauch, Tung and Striebel, as LivePortrait smooths the motion of videos.
    """
    values, noise = np.asarray(values, np.float64), np.asarray(noise, np.float64)
    if len(values) < 2 or not np.any(noise > 0):
        return values
    mean = np.empty_like(values)
    variance = np.empty((len(values), *noise.shape))
    guess, spread = values[0], np.full(noise.shape, FIRST_VARIANCE)
    for i, reading in enumerate(values):
        if i:
            guess, spread = mean[i - 1], variance[i - 1] + 1.0
        gain = spread / (spread + noise)
        mean[i], variance[i] = guess + gain * (reading - guess), (1.0 - gain) * spread
    for i in range(len(values) - 2, -1, -1):
        mean[i] += variance[i] / (variance[i] + 1.0) * (mean[i + 1] - mean[i])
    return mean


def reading_noise(values: np.ndarray) -> np.ndarray:
    """Estimates `noise` of `smoothed` for each column of (T, N), T > 3, from the columns themselves.

    Faces move smoothly from frame to frame, so that third differences are nearly those of the noise alone: 20 times its
    variance. Of motion at 4 Hz they are 4 % of its own.
    """
    values = np.asarray(values, np.float64)
    noise = np.square(np.diff(values, 3, axis=0)).mean(0) / 20.0
    walk = np.maximum(np.square(np.diff(values, axis=0)).mean(0) - SURELY * noise, noise / LARGEST_NOISE)
    return np.divide(noise, walk, out=np.zeros_like(noise), where=walk > 0)


def steadied(vectors: np.ndarray, noise: float | None = None) -> np.ndarray:
    """Returns motion vectors (T, 9 + Z) smoothed by `noise`; None = the pose alone, as noisy as it is itself.

    Lips are fast: smoothing of dynamics by the same estimate took more of a mouth's motion away than of its noise.
    """
    vectors = np.asarray(vectors, np.float64)
    if noise is not None:
        return smoothed(vectors, noise)
    if len(vectors) < FEWEST_FRAMES:
        return vectors
    pose = vectors[:, :POSE_DIM]
    return np.concatenate([smoothed(pose, reading_noise(pose)), vectors[:, POSE_DIM:]], 1)

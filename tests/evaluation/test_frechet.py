"""Fréchet distances of Gaussians in closed form, and which clips of a video count."""

import numpy as np
import pytest
from fake_heads import POINTS, fake_landmarks, pose

from vasa_jax.evaluation.face_readings import Measurements
from vasa_jax.evaluation.frechet import (
    Gaussian,
    clip_starts,
    expression_features,
    frechet_distance,
    gaussian,
    reading_features,
)


def turned(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def test_of_gaussians_with_common_axes():
    """|m1 - m2|^2 + sum (sqrt a - sqrt b)^2."""
    a, b = np.array([4.0, 1.0, 0.25]), np.array([1.0, 9.0, 0.0])
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    first = Gaussian(np.array([1.0, 2.0, 3.0]), axes @ np.diag(a) @ axes.T, 10)
    second = Gaussian(np.array([1.0, 0.0, 4.0]), axes @ np.diag(b) @ axes.T, 10)
    expected = 5.0 + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)


def test_of_gaussians_with_other_axes():
    """Of 2 x 2 matrices: tr (S1 S2)^(1/2) = sqrt(tr S1 S2 + 2 sqrt det S1 S2)."""
    one, two = np.diag([3.0, 0.5]), turned(0.7) @ np.diag([2.0, 0.1]) @ turned(0.7).T
    product = one @ two
    cross = np.sqrt(np.trace(product) + 2.0 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(one) + np.trace(two) - 2.0 * cross
    zero = np.zeros(2)
    assert frechet_distance(Gaussian(zero, one, 2), Gaussian(zero, two, 2)) == pytest.approx(expected, rel=1e-9)


def test_statistics_are_unbiased_and_in_float64():
    features = (1e4 + np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])).astype(np.float32)
    found = gaussian(features)
    np.testing.assert_allclose(found.mean, [1e4 + 2, 1e4 + 2])
    np.testing.assert_allclose(found.covariance, [[4.0, 3.0], [3.0, 3.0]])
    assert found.covariance.dtype == np.float64 and found.count == 3
    with pytest.raises(ValueError, match="two feature vectors"):
        gaussian(features[:1])


@pytest.mark.parametrize(("frames", "starts"), [(24, []), (25, [0]), (74, [0, 25]), (75, [0, 25, 50])])
def test_clips_follow_each_other(frames, starts):
    assert list(clip_starts(frames)) == starts


def test_features_of_readings_are_means_deviations_and_changes():
    count = 30
    reading = Measurements(
        mouth=np.tile([0.0, 0.2], 15), lids=np.ones((count, 2)), gaze=np.tile([10.0, -20.0], (count, 1)),
        pose=np.stack([pose(yaw=float(i)) for i in range(count)]), landmarks=np.zeros((count, 1, 2)),
        embedding=np.ones((count, 2)),
    )  # fmt: skip
    features = reading_features(reading)
    assert features.shape == (1, 24)
    mean, deviation, change = features[0].reshape(3, 8)
    np.testing.assert_allclose(mean[1:], [1, 1, 1, -2, 1.2, 0, 0], atol=1e-9)  # yaw 0 to 24 degrees
    assert mean[0] == pytest.approx(12 / 25) and deviation[0] == pytest.approx(np.sqrt(0.48 * 0.52))
    np.testing.assert_allclose(change, [1, 0, 0, 0, 0, 0.1, 0, 0], atol=1e-9)
    assert reading_features(reading[:10]).shape == (0, 24)


def test_expressions_are_those_of_single_frames_whatever_the_head_does():
    jaw = np.linspace(0.1, 0.4, 6)
    points = np.asarray(fake_landmarks(jaw, POINTS))
    reading = Measurements(
        mouth=0.2 * jaw, lids=np.full((6, 2), 0.7), gaze=np.full((6, 2), [10.0, -5.0]), pose=np.tile(pose(), (6, 1)),
        landmarks=points, embedding=np.zeros((6, 2)),
    )  # fmt: skip
    found = expression_features(reading, POINTS)
    assert found.shape == (6, 7) and found.dtype == np.float64
    np.testing.assert_allclose(found[:, 0], jaw)
    np.testing.assert_allclose(found[:, 1:5], np.tile([0.7, 0.7, 1.0, -0.5], (6, 1)))
    assert np.ptp(found[:, 5]) == pytest.approx(0.0, abs=1e-5) and np.corrcoef(found[:, 6], jaw)[0, 1] > 0.999
    moved = Measurements(**{**vars(reading), "landmarks": 1.3 * points + 0.1})
    np.testing.assert_allclose(expression_features(moved, POINTS), found, rtol=1e-4)

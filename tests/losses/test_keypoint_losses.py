"""Losses of keypoints against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.conventions import LANDMARKS
from vasa_jax.losses.keypoints import (
    DEPTH,
    LEAST_SPREAD,
    SPREAD,
    WING,
    WING_CURVE,
    bent,
    bent_images,
    equivariance,
    expression_guide,
    guide_points,
    keypoint_guide,
    keypoint_prior,
    random_bends,
)
from vasa_jax.models.geometry import pixel_grid
from vasa_jax.models.keypoint_reader import GUIDES


def test_keypoints_repel_each_other_only_when_close():
    apart = jnp.array([[[0.5, 0.0, DEPTH], [-0.5, 0.0, DEPTH]]])
    assert keypoint_prior(apart) == pytest.approx(0, abs=1e-6)
    together = jnp.array([[[0.1, 0.0, DEPTH], [-0.1, 0.0, DEPTH]]])  # a squared distance of 0.04
    assert keypoint_prior(together) == pytest.approx(2 * (SPREAD - 0.04), rel=1e-5)
    assert keypoint_prior(apart + jnp.array([0.0, 0.0, 0.3])) == pytest.approx(0.3, rel=1e-5)


def test_guided_keypoints_may_lie_close_to_each_other_alone():
    keypoints = jnp.full((1, 3, 3), DEPTH)  # all in one place
    assert keypoint_prior(keypoints) == pytest.approx(6 * SPREAD, rel=1e-5)
    assert keypoint_prior(keypoints, 2) == pytest.approx(4 * SPREAD, rel=1e-5)  # each of the two against the third
    assert keypoint_prior(keypoints, 3) == pytest.approx(0, abs=1e-6)


def test_the_guide_is_the_wing_loss_of_the_first_keypoints():
    landmarks = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, len(LANDMARKS), 2)), jnp.float32)
    points = guide_points(landmarks, len(GUIDES))
    assert points.shape == (1, len(GUIDES), 2) and guide_points(landmarks, 5).shape == (1, 5, 2)
    np.testing.assert_array_equal(points[0, 2], landmarks[0, LANDMARKS.index("outer_lip_0")])
    keypoints = jnp.pad(points, ((0, 0), (0, 3), (0, 0)), constant_values=0.7)  # the others are free
    assert keypoint_guide(keypoints, points) == pytest.approx(0, abs=1e-7)
    near, far = 0.02, 0.5
    assert keypoint_guide(keypoints + near, points) == pytest.approx(WING * np.log(1 + near / WING_CURVE), rel=1e-4)
    assert keypoint_guide(keypoints - far, points) == pytest.approx(
        far - WING + WING * np.log(1 + WING / WING_CURVE), rel=1e-4
    )


def test_the_guide_of_expressions_counts_in_their_spread():
    """A lid that moves by 0.01 counts as much as a jaw that moves by 0.1."""
    points = jnp.array([[[0.01, 0.1, 0.0]], [[-0.01, -0.1, 0.0]]])
    assert expression_guide(points, points) == 0
    spread = np.array([0.01, 0.1, 0.0]) + LEAST_SPREAD
    off = jnp.asarray(np.float32([0.5, 2.0, 0.0]) * spread)
    found = jnp.pad(points + off, ((0, 0), (0, 4), (0, 0)), constant_values=9.0)  # the others are free
    assert expression_guide(found, points) == pytest.approx((0.125 + 1.5 + 0.0) / 3, rel=1e-4)


@pytest.mark.parametrize("guide", [keypoint_guide, expression_guide])
def test_guides_count_rows_that_have_landmarks_alone(guide):
    keypoints, points = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    valid = np.array([True, False, True, True, False])
    np.testing.assert_allclose(guide(keypoints, points, valid), guide(keypoints[valid], points[valid]), rtol=1e-5)
    np.testing.assert_allclose(guide(keypoints, points, np.ones(5, bool)), guide(keypoints, points), rtol=1e-5)


def test_a_bend_without_weights_is_its_affine_part():
    affine = jnp.array([[[1.0, 0.2, 0.1], [0.0, 0.9, -0.3]]])
    points = jnp.array([[[0.5, -0.5], [0.0, 0.25]]])
    moved = bent(points, (affine, jnp.zeros((1, 25))))
    np.testing.assert_allclose(moved[0], [[0.5, -0.75], [0.15, -0.075]], atol=1e-6)


def test_bends_are_small_and_differ():
    bends = random_bends(jax.random.key(0), 64)
    points = jnp.broadcast_to(pixel_grid(4, 4).reshape(1, -1, 2), (64, 16, 2))
    shift = np.asarray(bent(points, bends) - points)
    assert 0.02 < shift.std() < 0.2 and np.abs(shift[0] - shift[1]).max() > 1e-3


def test_keypoints_that_follow_the_bend_cost_nothing():
    """Pictures show at each place what lies where the map takes it: so does a bend of coordinates as colours."""
    bends = random_bends(jax.random.key(1), 2)
    grid = pixel_grid(32, 32)
    picture = jnp.concatenate([grid, jnp.zeros((32, 32, 1))], -1)
    seen = np.asarray(bent_images(jnp.stack([picture, picture]), bends))[..., :2]
    expected = np.asarray(bent(jnp.broadcast_to(grid.reshape(1, -1, 2), (2, 1024, 2)), bends)).reshape(2, 32, 32, 2)
    inside = np.abs(expected).max(-1) < 0.95
    assert inside.mean() > 0.6
    np.testing.assert_allclose(seen[inside], expected[inside], atol=1e-4)
    found = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 5, 3)), jnp.float32)
    truth = jnp.concatenate([bent(found[..., :2], bends), found[..., 2:]], -1)
    assert equivariance(truth, found, bends) == pytest.approx(0, abs=1e-6)
    assert equivariance(truth + 0.1, found, bends) == pytest.approx(0.1, rel=1e-4)

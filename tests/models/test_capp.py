"""CAPP: what its embeddings do not depend on, and its loss in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from vasa_jax.models.capp import CAPP, WINDOW, contrast, pose_features
from vasa_jax.models.variants import CAPP_VARIANTS

RNG = np.random.default_rng(0)
ANGLES = RNG.normal(0, 5, (3, WINDOW, 3)).astype(np.float32)
HEARD = RNG.normal(size=(3, WINDOW, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def embed():
    network = CAPP(**CAPP_VARIANTS["capp_tiny"])
    params = random_params(lambda key: network.init(key, ANGLES, HEARD)["params"])
    return jax.jit(lambda angles, heard: network.apply({"params": params}, angles, heard))


def test_embeddings_have_unit_length_and_every_row_its_own(embed):
    poses, sounds, scale = embed(ANGLES, HEARD)
    np.testing.assert_allclose(np.linalg.norm(poses, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(sounds, axis=-1), 1.0, rtol=1e-5)
    assert 0 < scale <= 100
    turned, _, _ = embed(ANGLES[::-1], HEARD)
    np.testing.assert_allclose(turned[::-1], poses, atol=1e-5)


def test_how_a_head_is_turned_on_the_whole_does_not_count(embed):
    poses, _, _ = embed(ANGLES, HEARD)
    elsewhere, _, _ = embed(ANGLES + np.float32([20.0, -5.0, 3.0]), HEARD)
    np.testing.assert_allclose(elsewhere, poses, atol=1e-4)
    assert np.abs(embed(2 * ANGLES, HEARD)[0] - poses).max() > 1e-3


def test_pose_features_are_angles_about_their_mean_and_differences():
    ramp = np.zeros((1, WINDOW, 3), np.float32)
    ramp[0, :, 1] = 2.0 * np.arange(WINDOW)
    features = np.asarray(pose_features(ramp))[0]
    np.testing.assert_allclose(features[:, 1], (ramp[0, :, 1] - ramp[0, :, 1].mean()) / 10.0, atol=1e-5)
    np.testing.assert_allclose(features[1:, 4], 2.0)
    assert features[0, 4] == 0 and not features[:, [0, 2, 3, 5]].any()


@pytest.mark.parametrize("scale", [1.0, 14.0])
def test_contrast_of_orthogonal_pairs(scale):
    """Own partner scores 1, the B - 1 others of the batch and the N further ones 0."""
    every = np.eye(10, dtype=np.float32)
    pairs, others = every[:4], every[4:7]
    loss, accuracy = contrast(pairs, pairs, jnp.float32(scale), others, others)
    assert float(loss) == pytest.approx(np.log(1.0 + 6.0 * np.exp(-scale)), rel=1e-5, abs=1e-6)
    assert float(accuracy) == 1.0


def test_a_shifted_window_of_the_same_clip_is_a_negative():
    """A further negative that equals the partner halves the probability."""
    every = np.eye(6, dtype=np.float32)
    pairs, others = every[:2], every[4:]
    alone, _ = contrast(pairs, pairs, jnp.float32(50.0), others, others)
    rival, _ = contrast(pairs, pairs, jnp.float32(50.0), pairs, pairs)
    assert float(alone) == pytest.approx(0.0, abs=1e-6)
    assert float(rival) == pytest.approx(np.log(2.0), rel=1e-5)

"""Stage-1 losses against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax import losses
from vasa_jax.config import FaceConfig
from vasa_jax.training.augmentation import apply_colour_transform, sample_colour_transform


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))


def test_weighted_l1_counts_only_weighted_pixels(images):
    weight = jnp.zeros((2, 32, 32)).at[:, :4].set(2.0)
    changed = images.at[:, 8:].add(1.0)
    assert losses.weighted_l1(changed, images, weight) == 0.0
    np.testing.assert_allclose(losses.weighted_l1(images + 0.25, images, weight), 0.25, rtol=1e-5)


def test_square_error_is_what_psnr_measures(images):
    np.testing.assert_allclose(-10 * np.log10(losses.square_error(images + 0.1, images)), 20.0, rtol=1e-4)


def test_ssim_is_one_for_equal_and_known_for_constant_images(images):
    np.testing.assert_allclose(losses.ssim(images, images), 1.0, atol=1e-5)
    a, b = jnp.full((1, 8, 8, 3), 0.2), jnp.full((1, 8, 8, 3), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    np.testing.assert_allclose(losses.ssim(a, b), expected, rtol=1e-3)


def test_structure_loss_grows_with_blur(images):
    blurred = 0.5 * images + 0.5 * images.mean((1, 2), keepdims=True)
    assert 0 < losses.structure_loss(blurred, images) < losses.structure_loss(1 - images, images)


def test_gradient_loss_ignores_brightness_and_sees_edges(images):
    weight = jnp.ones((2, 32, 32))
    np.testing.assert_allclose(losses.gradient_loss(images + 0.1, images, weight), 0.0, atol=1e-6)
    edge = images.at[:, :, 8:].add(0.5)  # one column of 31 differs by 0.5
    np.testing.assert_allclose(losses.gradient_loss(edge, images, weight), 0.5 / 31, rtol=1e-4)


def test_gradient_penalty_of_a_linear_discriminator_is_half_its_square_norm(images):
    w = jax.random.normal(jax.random.key(1), images.shape[1:])

    def linear(w, images):
        return [jnp.einsum("bhwc,hwc->b", images, w)[:, None, None, None] + 3.0]

    def penalty(w, rows=None):
        return losses.gradient_penalty(lambda x: linear(w, x), images, rows)

    value, slope = jax.value_and_grad(penalty)(w)
    np.testing.assert_allclose(value, 0.5 * jnp.square(w).sum(), rtol=1e-5)
    np.testing.assert_allclose(slope, w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(penalty(w, jnp.array([0.25, 0.0])), value, rtol=1e-5)


def test_gradient_penalty_is_of_each_images_mean_score(images):
    """D(x) = |x|^2 / 2 has the gradient x; places and scales are averaged before the norm, images after it."""

    def scores(x):
        half = 0.5 * jnp.square(x)
        each = half.sum((1, 2, 3))[:, None, None, None]
        return [jnp.concatenate([each, 3.0 * each], 1), jnp.zeros((len(x), 5, 5, 1))]  # (1 + 3) / 2, and 0

    square = jnp.square(images).sum((1, 2, 3))
    np.testing.assert_allclose(losses.gradient_penalty(scores, images), 0.5 * square.mean(), rtol=1e-5)
    rows = jnp.array([0.0, 0.5])
    np.testing.assert_allclose(losses.gradient_penalty(scores, images, rows), 0.5 * square[1], rtol=1e-5)


def test_matte_loss_is_the_cross_entropy():
    matte = jnp.full((1, 4, 4), 0.25)
    np.testing.assert_allclose(losses.matte_loss(matte, jnp.ones((1, 4, 4))), -np.log(0.25), rtol=1e-5)
    np.testing.assert_allclose(losses.matte_loss(matte, jnp.zeros((1, 4, 4))), -np.log(0.75), rtol=1e-5)
    assert jnp.isfinite(losses.matte_loss(jnp.zeros((1, 4, 4)), jnp.ones((1, 4, 4))))


def test_contrast_carries_its_margin_on_the_positives_only():
    z = jnp.eye(4)
    scale, margin = 5.0, 0.2
    expected = np.log(1 + 3 * np.exp(-scale * (1 - margin)))
    np.testing.assert_allclose(losses.motion_contrast(z, 3.0 * z, scale, margin), expected, rtol=1e-4)
    shuffled = losses.motion_contrast(z, jnp.roll(z, 1, 0), scale, margin)
    assert shuffled > losses.motion_contrast(z, z, scale, margin)


def test_disagreement_is_the_share_of_variance_that_is_not_shared():
    z = jax.random.normal(jax.random.key(0), (4096, 3))
    own = jax.random.normal(jax.random.key(1), (4096, 3))
    assert losses.disagreement(z, z) == 0.0
    np.testing.assert_allclose(losses.disagreement(z, own), 1.0, atol=0.03)
    np.testing.assert_allclose(losses.disagreement(z - z.mean(0), z.mean(0) - z), 2.0, rtol=1e-5)
    # numbers of any size count alike: one that is all shared, one in which a quarter of the variance is not
    a = jnp.stack([z[:, 0], 1e-2 * (jnp.sqrt(0.75) * z[:, 1] + 0.5 * own[:, 1])], 1)
    b = jnp.stack([z[:, 0], 1e-2 * (jnp.sqrt(0.75) * z[:, 1] + 0.5 * own[:, 2])], 1)
    np.testing.assert_allclose(losses.disagreement(a, b), 0.125, atol=0.01)


def test_regions_are_weighted_and_grow_by_one_pixel():
    loss = losses.VASALoss(FaceConfig(mouth_weight=8.0, eye_weight=6.0, background_weight=0.3), (4,), (6,))
    segmentation = jnp.ones((1, 9, 9)).at[0, 0, :].set(0).at[0, 4, 2].set(4).at[0, 4, 6].set(6)
    weight = np.asarray(loss.pixel_weights(segmentation)[0])
    assert weight[0, 0] == np.float32(0.3) and weight[1, 0] == 1.0
    assert (weight[3:6, 1:4] == 8.0).all() and (weight[3:6, 5:8] == 6.0).all()
    assert (weight > 1).sum() == 18


def test_perfect_prediction_leaves_only_the_contrast(images):
    loss = losses.VASALoss(FaceConfig(), (4,), (6,))
    segmentation = jnp.ones((2, 32, 32))
    pose, z = jnp.zeros((2, 9)), jnp.eye(2)
    total, terms = loss(images, images, jnp.ones((2, 32, 32, 1)), segmentation, pose, pose, z, z)
    np.testing.assert_allclose([terms[n] for n in ("l1", "mse", "gradient", "pose")], 0.0, atol=1e-6)
    np.testing.assert_allclose(terms["ssim"], 0.0, atol=1e-5)
    np.testing.assert_allclose(terms["matte"], 1e-4, rtol=0.1)
    s = FaceConfig()
    np.testing.assert_allclose(
        total, s.contrast * terms["contrast"] + s.matte * terms["matte"] + s.ssim * terms["ssim"], rtol=1e-5
    )


def test_gradients_are_finite_at_equality(images):
    loss = losses.VASALoss(FaceConfig(), (4,), (6,))

    def total(picture, z):
        return loss(picture, images, jnp.ones((2, 32, 32, 1)), jnp.ones((2, 32, 32)), z, z, z, z)[0]

    for gradient in jax.jit(jax.grad(total, (0, 1)))(images, jnp.zeros((2, 9))):
        assert jnp.isfinite(gradient).all()


def test_colour_transform_is_the_identity_when_off(images):
    transform = sample_colour_transform(jax.random.key(0), 2, 0.0)
    np.testing.assert_allclose(apply_colour_transform(images, transform), images, atol=1e-3)
    strong = sample_colour_transform(jax.random.key(0), 2, 1.0)
    changed = apply_colour_transform(images, strong)
    assert jnp.abs(changed - images).max() > 0.05
    assert changed.min() >= 0 and changed.max() <= 1


def test_one_transform_treats_batches_as_it_treats_singles(images):
    transform = sample_colour_transform(jax.random.key(1), 2, 1.0)
    batched = apply_colour_transform(images, transform)
    for i in range(2):
        single = apply_colour_transform(images[i : i + 1], {n: v[i : i + 1] for n, v in transform.items()})
        np.testing.assert_allclose(batched[i : i + 1], single, atol=1e-6)

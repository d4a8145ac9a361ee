"""The portrait matte: sizes, what a pixel's share depends on, and that it can learn to tell two colours apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vasa_jax.models.portrait_matte import PortraitMatte
from vasa_jax.models.variants import MATTE_VARIANTS

NETWORK = PortraitMatte(widths=(8, 8), groups=2)


@pytest.mark.parametrize("fields", MATTE_VARIANTS.values())
def test_every_size_has_a_share_for_every_pixel_of_any_side_that_halves(fields):
    network = PortraitMatte(**fields)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    for side in (32, 64, 256):
        found = jax.eval_shape(network.apply, shapes, jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32))
        assert found.shape == (2, side, side) and found.dtype == jnp.float32


def test_pictures_of_a_batch_do_not_know_of_each_other():
    images = jax.random.uniform(jax.random.key(0), (3, 16, 16, 3))
    params = NETWORK.init(jax.random.key(1), images)
    together = NETWORK.apply(params, images)
    for one, image in zip(together, images):
        np.testing.assert_allclose(one, NETWORK.apply(params, image[None])[0], atol=1e-5)


def test_it_learns_which_side_of_an_edge_is_the_persons():
    """Discs of changing place and colours on grounds of others: the disc is the person's."""
    y, x = np.mgrid[:16, :16]

    def examples(seed, count=32):
        rng = np.random.default_rng(seed)
        centre, radius = rng.uniform(5, 11, (count, 2, 1, 1)), rng.uniform(3, 6, (count, 1, 1))
        disc = np.hypot(x - centre[:, 0], y - centre[:, 1]) < radius
        warm = np.array([0.8, 0.4, 0.3]) + rng.uniform(-0.15, 0.15, (count, 1, 1, 3))
        cold = np.array([0.3, 0.4, 0.7]) + rng.uniform(-0.3, 0.3, (count, 1, 1, 3))
        return np.where(disc[..., None], warm, cold).astype(np.float32), disc.astype(np.float32)

    params = NETWORK.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    optimiser = optax.adam(1e-2)
    state = optimiser.init(params)

    @jax.jit
    def update(params, state, images, discs):
        def loss(p):
            return optax.sigmoid_binary_cross_entropy(NETWORK.apply(p, images), discs).mean()

        change, state = optimiser.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, change), state

    for step in range(60):
        params, state = update(params, state, *examples(step))
    images, discs = examples(1000)
    assert ((NETWORK.apply(params, images) > 0) == discs).mean() > 0.97

"""Looks: pure, computed alone, one per person and scene, and without effect on labels or on plain identities."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus import render_cache
from vasa_jax.corpus.heads import style

SIZE = 32


@pytest.fixture(scope="module")
def pictures():
    """Two smooth pictures of each of six persons (6, 2, n, n, 3); the second is the first with a square on it."""
    place = (np.arange(SIZE) + 0.5) / SIZE
    rng = np.random.default_rng(0)
    colours = rng.uniform(0.2, 0.8, (6, 2, 3))
    ground = colours[:, 0, None, None] + place[:, None, None] * (colours[:, 1] - colours[:, 0])[:, None, None]
    ground = np.broadcast_to(ground, (6, SIZE, SIZE, 3))
    with_head = ground.copy()
    with_head[:, 20:28, 20:28] = colours[:, 1, None, None] * 0.5
    return jnp.asarray(np.stack([ground, with_head], 1), jnp.float32)


stylise_all = jax.jit(jax.vmap(style.stylise, (0, 0, None)))


def test_styles_change_pictures_within_bounds_and_differ(pictures):
    keys = jax.random.split(jax.random.key(1), 6)
    styled = np.asarray(stylise_all(keys, pictures, 1.0))
    assert styled.shape == pictures.shape and styled.min() >= 0 and styled.max() <= 1
    assert (np.abs(styled - pictures).mean((1, 2, 3, 4)) > 0.005).all()
    np.testing.assert_array_equal(styled, stylise_all(keys, pictures, 1.0))
    other = np.asarray(stylise_all(jax.random.split(jax.random.key(2), 6), pictures, 1.0))
    assert (np.abs(styled - other).mean((1, 2, 3, 4)) > 0.005).all()


def test_every_person_is_styled_alone(pictures):
    keys = jax.random.split(jax.random.key(1), 6)
    batched = stylise_all(keys, pictures, 1.0)
    single = jax.jit(style.stylise)
    for key, mine, expected in zip(keys, pictures, batched):
        np.testing.assert_allclose(single(key, mine, 1.0), expected, atol=2e-5)
        np.testing.assert_allclose(single(key, mine[1:], 1.0)[0], expected[1], atol=2e-5)


def test_a_person_and_the_empty_ground_share_one_look(pictures):
    styled = np.asarray(stylise_all(jax.random.split(jax.random.key(3), 6), pictures, 1.0))
    # Away from the head (filters reach less than eight pixels at this size) head and ground pictures are one.
    np.testing.assert_allclose(styled[:, 0, :12, :12], styled[:, 1, :12, :12], atol=1e-5)
    assert (np.abs(styled[:, 0] - styled[:, 1])[:, 21:27, 21:27].mean((1, 2, 3)) > 0.01).all()


def test_share_leaves_the_others_exactly_as_they_are(pictures):
    keys = jax.random.split(jax.random.key(4), 6)
    np.testing.assert_array_equal(stylise_all(keys, pictures, 0.0), pictures)
    draws = jax.vmap(lambda key: jax.random.uniform(jax.random.split(key, 3)[2]))(keys)
    styled = np.asarray(stylise_all(keys, pictures, float(np.median(draws))))
    assert (styled == np.asarray(pictures)).all((1, 2, 3, 4)).sum() == 3


def test_all_looks_occur_with_their_strengths_in_range():
    styles = jax.vmap(style.sample_style)(jax.random.split(jax.random.key(0), 400))
    assert {name for name, value in styles.items() if value.shape == (400, 3)} == {"balance", "paper"}
    drawn, painted, lined = (np.asarray(styles[name]) > 0 for name in ("ink", "paint", "lines"))
    assert 0.08 < drawn.mean() < 0.22 and 0.5 < painted.mean() < 0.7 and 0.3 < lined.mean() < 0.55
    for name in ("lines", "steps", "ink", "hatch", "chroma_blur", "coarse", "sepia"):
        assert np.min(styles[name]) >= 0 and np.max(styles[name]) <= 1.0001, name


def test_strokes_keep_flat_regions_and_edges():
    step = jnp.where(jnp.arange(SIZE)[:, None, None] < 16, 0.2, 0.9) * jnp.ones((SIZE, SIZE, 3))
    np.testing.assert_allclose(style._strokes(step, 2), step, atol=1e-3)
    blurred = style._gaussian(step, 2.0)
    np.testing.assert_allclose(blurred[0], 0.2, atol=1e-6)
    assert abs(float(blurred[16, 0, 0]) - 0.9) > 0.2


def test_a_bank_styles_a_share_of_its_identities(monkeypatch):
    def render_groups(key, groups, identities, motions, size, supersample, poses=1):
        colour = jax.random.uniform(key, (groups, identities, 1, 1, 1, 3), minval=0.3, maxval=0.7)
        rgb = render_cache.to_uint8(jnp.broadcast_to(colour, (groups, identities, motions, size, size, 3)))
        shape = (groups, identities, motions)
        return {
            "rgb": rgb,
            "segmentation": jnp.zeros((*shape, size, size), jnp.uint8),
            "background": rgb[:, :, 0],
            "pose": jnp.zeros((*shape, 9)),
        }

    monkeypatch.setattr(render_cache, "render_groups", render_groups)
    plain = CorpusConfig(groups=8, chunk=4, identities=2, motions=3, drivers=1, supersample=1, style=0.0)

    def filled(share):
        frames = render_cache.RenderCache(dataclasses.replace(plain, style=share), 16, 4, "self", 0, "styles")
        next(frames)
        return jax.tree.map(np.asarray, frames._cache)

    before, after = filled(0.0), filled(0.5)
    changed = (before["rgb"] != after["rgb"]).any((3, 4, 5))
    assert 0.2 < changed.mean() < 0.8
    assert (changed == changed[:, :, :1]).all()  # all motions of an identity alike
    np.testing.assert_array_equal(after["background"], after["rgb"][:, :, 0])  # and its background
    for name in ("segmentation", "pose"):
        np.testing.assert_array_equal(before[name], after[name])
    assert len({person.tobytes() for person in after["rgb"][:, :, 0].reshape(16, -1)}) == 16
    np.testing.assert_array_equal(filled(0.5)["rgb"], after["rgb"])

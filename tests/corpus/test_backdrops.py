"""Made-up backgrounds: they are busy, in colour, of their key; a head is cut out by its own matte."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_portrait import drawn_mesh
from half_portrait import HalfPortrait

from vasa_jax.corpus.photos.backdrops import before_backdrops, dead_leaves

SIZE = 32
drawn = jax.jit(jax.vmap(lambda key: dead_leaves(key, SIZE)))


def test_backdrops_are_of_their_key_in_range_and_busy():
    keys = jax.random.split(jax.random.key(0), 16)
    pictures = np.asarray(drawn(keys))
    np.testing.assert_array_equal(drawn(keys), pictures)
    assert pictures.shape == (16, SIZE, SIZE, 3) and pictures.min() >= 0 and pictures.max() <= 255
    assert len({picture.tobytes() for picture in pictures}) == 16
    spread = pictures.std((1, 2)).mean(1)
    assert (spread > 12).all() and pictures.mean((1, 2, 3)).std() > 15


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_head_is_cut_out_by_its_matte(share):
    heads = {
        "square": np.full((2, SIZE, SIZE, 3), 50, np.uint8), "background": np.full((2, SIZE, SIZE, 3), 90, np.uint8),
        "pose": np.zeros((2, 9), np.float32),
    }  # fmt: skip
    renderer = HalfPortrait(drawn_mesh(), SIZE, 1)
    found = jax.device_get(before_backdrops(jax.device_put(heads), jax.random.key(1), jnp.float32(share), renderer))
    if not share:
        for name, value in heads.items():
            np.testing.assert_array_equal(found[name], value)
        return
    assert (found["square"][:, :, : SIZE // 2] == 50).all()
    np.testing.assert_array_equal(found["square"][:, :, SIZE // 2 :], found["background"][:, :, SIZE // 2 :])
    assert found["background"].std() > 10 and (found["background"][0] != found["background"][1]).any()
    assert (found["pose"] == 0).all()

"""The second reading of the head pose."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from random_params import random_params
from tiny_face import LEAST, SIZE

from vasa_jax.conventions import IDENTITY_POSE
from vasa_jax.models import geometry
from vasa_jax.models.face import face_codec
from vasa_jax.models.pose import PoseCorrection, corrected_pose

IDENTITY = np.asarray(IDENTITY_POSE, np.float32)
POSES = jnp.asarray(IDENTITY + 0.2 * np.random.default_rng(0).normal(size=(5, 9)), jnp.float32)
POINTS = jnp.asarray(np.random.default_rng(1).normal(size=(1, 7, 3)), jnp.float32)


def test_a_corrected_pose_puts_points_where_both_maps_one_after_the_other_do():
    """In the plane of the picture; what a shift moves in depth an orthographic camera does not see."""
    correction = jnp.asarray(0.1 * np.random.default_rng(2).normal(size=(5, 9)), jnp.float32)
    inner = geometry.image_from_canonical(jnp.repeat(POINTS, 5, 0), correction + IDENTITY)
    expected = geometry.image_from_canonical(inner, POSES)
    found = geometry.image_from_canonical(POINTS, corrected_pose(POSES, correction))
    np.testing.assert_allclose(found[..., :2], expected[..., :2], atol=1e-5)


def test_no_correction_keeps_the_pose_and_a_new_network_gives_none():
    same = corrected_pose(POSES, jnp.zeros((5, 9)))
    np.testing.assert_allclose(same[:, 6:], POSES[:, 6:], atol=1e-6)
    for kept, first in zip(geometry.pose_matrix(same), geometry.pose_matrix(POSES)):
        np.testing.assert_allclose(kept, first, atol=1e-6)
    network = PoseCorrection(LEAST["encoder"]["pose_resnet"], 4)
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles in a tenth of the time
    correction, _ = jax.jit(network.init_with_output)(key, jnp.full((2, 16, 16, 3), 0.3))
    np.testing.assert_array_equal(correction, np.zeros((2, 9)))


def test_an_encoder_with_a_second_reading_starts_at_what_it_read_without_and_learns_both():
    fields = LEAST["encoder"]
    twice, _ = face_codec(LEAST)
    once = twice.clone(correction_resnet=None)
    assert fields["correction_resnet"] is not None
    images = jnp.asarray(np.random.default_rng(3).random((2, SIZE, SIZE, 3)), jnp.float32)
    flat = flatten_dict(random_params(twice.init, images), sep="/")
    last = [name for name in flat if name.startswith("params/pose_correction/head/")]
    assert len(last) == 2
    new = unflatten_dict({name: jnp.zeros_like(x) if name in last else x for name, x in flat.items()}, sep="/")
    found, first = (jax.jit(partial(net.apply, method="encode_pose"))(new, images) for net in (twice, once))
    for kept, expected in zip(geometry.pose_matrix(found), geometry.pose_matrix(first)):
        np.testing.assert_allclose(kept, expected, atol=1e-5)

    def error(params):
        return jnp.square(twice.apply(params, images, method="encode_pose") - IDENTITY).sum()

    slopes = flatten_dict(jax.jit(jax.grad(error))(unflatten_dict(flat, sep="/"))["params"], sep="/")
    for part in ("pose_net", "pose_correction"):
        assert all(jnp.abs(slope).max() > 0 for name, slope in slopes.items() if name.startswith(part))

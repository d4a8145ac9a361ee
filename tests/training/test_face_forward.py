"""The parts of stage 1's forward pass, each alone, with a codec of a few products in the place of the networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stub_face import PARAMS, Decoder, Encoder, N

from vasa_jax.models.face_decoder import PortraitUse
from vasa_jax.models.geometry import pixel_grid
from vasa_jax.training.tasks import face_forward as forward
from vasa_jax.training.tasks.face_forward import Motion, Motions, Request, Views

SOURCES, DRIVERS = 2, 3
ROWS = SOURCES * DRIVERS


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def images(seed, count):
    return jax.random.uniform(jax.random.key(seed), (count, N, N, 3))


@pytest.fixture
def views():
    return Views(images(0, SOURCES), images(1, SOURCES), images(2, ROWS), images(3, ROWS))


@pytest.fixture
def motions():
    counts = enumerate((SOURCES, ROWS, ROWS))
    return Motions(*(Motion(normal(10 + i, rows, 9), normal(20 + i, rows, 3)) for i, rows in counts))


def test_rows_of_a_source():
    x = jnp.arange(ROWS)
    assert forward.first_of(x, SOURCES).tolist() == [0, 3]
    assert forward.following(x).tolist() == [1, 2, 3, 4, 5, 0]
    assert forward.following(x, 2).tolist() == [2, 3, 4, 5, 0, 1]
    assert forward.repeated(x[:2], 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("warp", [0.0, 0.3])
def test_each_image_gets_its_own_motion(views, warp):
    found = forward.encode_motions(Encoder(), PARAMS["encoder"], views, jax.random.key(0), warp)
    for name in ("source", "driver", "target"):
        motion = getattr(found, name)
        pose, dynamics = Encoder().apply({"params": PARAMS["encoder"]}, getattr(views, name), method="encode_motion")
        np.testing.assert_allclose(motion.pose, pose, rtol=1e-6)
        if not warp:
            np.testing.assert_allclose(motion.dynamics, dynamics, rtol=1e-6)


def test_jitter_is_shared_by_source_and_target_only():
    grey = jnp.full((1, N, N, 3), 0.5)
    two = forward.repeated(grey, 2)
    pairs = {"source": grey, "background": grey, "driver": two, "target": two}
    found = forward.jittered(pairs, jax.random.split(jax.random.key(1), 3), 1.0)
    np.testing.assert_array_equal(found.source[0], found.target[1])
    np.testing.assert_array_equal(found.source, found.background)
    assert not np.allclose(found.source[0], 0.5, atol=1e-2) and not np.allclose(found.driver[0], found.target[0])


@pytest.mark.parametrize(("share", "valid"), [(0.0, None), (0.25, None), (0.25, [True, False] * 3), (0.0, [False] * 6)])
def test_labelled_poses_pass_a_share_of_the_gradient(motions, share, valid):
    valid = None if valid is None else jnp.array(valid)

    def total(motions):
        return sum(motion.pose.sum() for motion in forward.with_held_poses(motions, valid, share))

    found = jax.grad(total)(motions)
    labelled = np.ones(ROWS, bool) if valid is None else np.asarray(valid)
    expected = np.where(labelled, share, 1.0)[:, None] * np.ones((1, 9))
    for motion, rows in zip(found, (expected[::DRIVERS], expected, expected)):
        np.testing.assert_allclose(motion.pose, rows)
    held = forward.with_held_poses(motions, valid, share)
    for a, b in zip(jax.tree.leaves(held), jax.tree.leaves(motions), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_requests_name_who_is_decoded_with_whose_motion(views, motions):
    same_pose = jnp.array([True, False, True, False, True, False])
    requests = forward.build_requests(
        Encoder(), PARAMS["encoder"], views, motions, motions.driver.dynamics, same_pose, pairwise_transfer=True
    )
    assert list(requests) == ["image", "i", "j"]
    own = Encoder().apply({"params": None}, views.source, *motions.source, method="encode_appearance")
    for name in ("image", "i"):
        for a, b in zip(requests[name][:2], own):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    first = Motion(*(forward.first_of(value, SOURCES) for value in motions.target))
    other = Encoder().apply({"params": None}, views.target[::DRIVERS], *first, method="encode_appearance")
    for a, b in zip(requests["j"][:2], other):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    shown = jnp.where(same_pose[:, None], motions.driver.pose, motions.target.pose)
    np.testing.assert_array_equal(requests["image"].pose, shown)
    for name in ("i", "j"):
        np.testing.assert_array_equal(requests[name].pose, first.pose)
        np.testing.assert_array_equal(requests[name].dynamics, motions.source.dynamics)
    alone = forward.build_requests(
        Encoder(), PARAMS["encoder"], views, motions, motions.driver.dynamics, same_pose, pairwise_transfer=False
    )
    assert list(alone) == ["image"]


@pytest.mark.parametrize(("pool", "poses"), [(0.0, [3, 0]), (1.0, [0, 3])])
def test_cross_identity_takes_the_next_persons_motion(motions, pool, poses):
    request = Request(normal(1, SOURCES, 2), normal(2, SOURCES, 2), None, None)
    found = forward.cross_identity_request(request, motions, jax.random.key(0), pool)
    np.testing.assert_array_equal(found.appearance, request.appearance)
    np.testing.assert_array_equal(found.dynamics, motions.driver.dynamics[jnp.array([3, 0])])
    np.testing.assert_array_equal(found.pose, motions.driver.pose[jnp.array(poses)])


class LookingDecoder(Decoder):
    """Also says where it took the portrait's pixels from: two numbers of the pose."""

    def apply(self, variables, appearance, identity, pose, dynamics):
        decoded = super().apply(variables, appearance, identity, pose, dynamics)
        places = jnp.broadcast_to(pose[:, None, None, :2], (len(pose), 4, 4, 2))
        return decoded._replace(portrait=PortraitUse(places, 2 * places, decoded.matte))


@pytest.mark.parametrize("decoder", [Decoder(), LookingDecoder()])
def test_requests_are_decoded_together_as_alone(views, motions, decoder):
    appearance, identity = normal(4, SOURCES, 1, 1, 1, 3), normal(5, SOURCES, 1, 1, 3)
    requests = {
        "image": Request(appearance, identity, *motions.driver),
        "other": Request(2 * appearance, identity, *motions.source),
    }
    own = {"image": forward.repeated(views.background, DRIVERS)}
    valid = jnp.array([True, False, True, True, True, False])
    both = forward.decode(decoder, PARAMS["decoder"], requests, own, views.background, valid, SOURCES)
    for name, request in requests.items():
        rows = len(request.pose) // SOURCES
        part = valid.reshape(SOURCES, -1)[:, :rows].reshape(-1)
        alone = forward.decode(decoder, PARAMS["decoder"], {name: request}, own, views.background, part, SOURCES)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), both[name], alone[name])
        assert (both[name].portrait is None) == (type(decoder) is Decoder)
    # Without a label of the matte the colours alone are the image.
    rgb = Decoder().apply({"params": PARAMS["decoder"]}, *requests["image"]).rgb
    np.testing.assert_allclose(both["image"].image[1], rgb[1], rtol=1e-5)
    assert not np.allclose(both["image"].image[0], rgb[0])


class Surveyor:
    """Reads the pose exactly from images whose first two colours are the coordinates of their points, over 4."""

    def apply(self, variables, images, method):
        assert method == "encode_motion"
        middle = slice(N // 2 - 1, N // 2 + 1)
        colours = 4.0 * (images[:, middle, middle, :2] - 0.5)  # of the four pixels around the centre
        slope = jnp.stack([jnp.diff(colours, axis=axis).mean((1, 2)) for axis in (2, 1)], -1) * (N / 2)
        there = jnp.linalg.inv(slope)  # k Q
        scale = jnp.sqrt(jnp.linalg.det(there))
        turn = there / scale[:, None, None]
        place = -jnp.einsum("bij,bj->bi", there, colours.mean((1, 2)))
        zero = jnp.zeros((len(images), 1))
        pose = [turn[..., 0], zero, turn[..., 1], zero, jnp.log(scale)[:, None], place]
        return jnp.concatenate(pose, -1), colours.mean((1, 2))


def test_poses_read_in_moved_images_are_those_of_the_images():
    grid = pixel_grid(N, N) / 4.0 + 0.5
    rows = [jnp.broadcast_to(jnp.dstack([grid, grid[..., :1]]), (n, N, N, 3)) for n in (SOURCES, SOURCES, ROWS, ROWS)]
    found = forward.encode_motions(Surveyor(), PARAMS["encoder"], Views(*rows), jax.random.key(3), 0.0, placement=1.0)
    for motion in found:
        still = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0, 0], np.float32), (len(motion.pose), 1))
        np.testing.assert_allclose(motion.pose, still, atol=1e-4)
        assert np.abs(motion.dynamics).max() > 0.05  # the encoder saw moved images

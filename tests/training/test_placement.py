"""Images moved in their plane: poses read there come back exactly; the pictures move as the poses say."""

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.models.geometry import bilinear_sample, image_from_canonical, pixel_grid, rotation_from_6d
from vasa_jax.training.placement import FURTHEST, Placement, placed, put_back, sample_placement


def moved_pose(pose: np.ndarray, placement: Placement) -> np.ndarray:
    """(Q R, log s + log k, k Q t + u), written in NumPy."""
    rotation = np.asarray(rotation_from_6d(jnp.asarray(pose[:, :6])))
    turn = np.tile(np.eye(3, dtype=np.float32), (len(pose), 1, 1))
    turn[:, :2, :2] = placement.turn
    rotation = turn @ rotation
    move = np.asarray(placement.scale)[:, None] * np.einsum("bij,bj->bi", placement.turn, pose[:, 7:9]) + placement.move
    scale = pose[:, 6:7] + np.log(placement.scale)[:, None]
    return np.concatenate([rotation[:, :, 0], rotation[:, :, 1], scale, move], -1).astype(np.float32)


def test_poses_of_moved_images_come_back():
    random = np.random.default_rng(0)
    pose = random.normal(size=(16, 9)).astype(np.float32)
    rotation = np.asarray(rotation_from_6d(jnp.asarray(pose[:, :6])))
    pose[:, :6] = np.concatenate([rotation[:, :, 0], rotation[:, :, 1]], -1)
    placement = sample_placement(jax.random.key(1), 16, 1.0)
    np.testing.assert_allclose(put_back(jnp.asarray(moved_pose(pose, placement)), placement), pose, atol=2e-6)


def test_a_moved_image_shows_each_point_where_its_moved_pose_has_it():
    """A picture that is linear in x and y: its value at a head's point is the same before and after."""
    placement = sample_placement(jax.random.key(2), 6, 1.0)
    grid = pixel_grid(64, 64)
    image = jnp.stack([grid[..., 0], grid[..., 1], grid[..., 0] - grid[..., 1]], -1)
    image = jnp.broadcast_to(image, (6, 64, 64, 3))
    pose = np.tile(np.array([1, 0, 0, 0, 1, 0, -1.5, 0.05, -0.1], np.float32), (6, 1))
    points = jnp.asarray(np.random.default_rng(3).uniform(-0.5, 0.5, (1, 20, 3)), jnp.float32)
    before = image_from_canonical(points, jnp.asarray(pose))[..., :2]
    after = image_from_canonical(points, jnp.asarray(moved_pose(pose, placement)))[..., :2]
    seen = bilinear_sample(placed(image, placement), after[:, :, None], "border")[:, :, 0]
    inside = (np.abs(after) < 0.97).all(-1)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(np.asarray(seen[..., :2])[inside], np.asarray(before)[inside], atol=1e-5)


def test_a_share_of_the_images_stays_in_place():
    placement = sample_placement(jax.random.key(4), 400, 0.25)
    still = (np.asarray(placement.move) == 0).all(-1)
    assert 0.65 < still.mean() < 0.85 and (np.asarray(placement.scale)[still] == 1).all()
    assert np.abs(placement.move).max() <= FURTHEST
    image = jax.random.uniform(jax.random.key(5), (4, 16, 16, 3))
    nothing = sample_placement(jax.random.key(6), 4, 0.0)
    np.testing.assert_allclose(placed(image, nothing), image, atol=1e-6)

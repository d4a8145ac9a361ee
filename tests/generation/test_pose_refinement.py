"""Poses read again from how far off the drawn face is: the closed form of a step, a known pose found, parts alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import save_tiny_model

from vasa_jax.conventions import IDENTITY_POSE, POSE_DIM, rotation_columns, rotation_matrices
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.generation.pose_refinement import RADII, MotionReader, _moves, aligned, ellipsoid, moved_pose
from vasa_jax.models import geometry

CENTRE, ZOOM, SIZE = (0.0, 0.2, -0.23), 2.2, 96
POSES = jnp.asarray(
    np.concatenate(
        [rotation_columns(np.array([(12.0, -5, 3), (-20, 8, -6)])), [(0.1, 0.05, -0.1), (-0.2, -0.1, 0.08)]], 1
    ),
    jnp.float32,
)


def test_a_change_turns_scales_and_moves():
    change = jnp.asarray([[0.1, -0.2, 0.05, 0.03, 0.01, -0.02], [0, 0, 0, 0, 0, 0]], jnp.float32)
    found = np.asarray(moved_pose(POSES, change))
    np.testing.assert_allclose(found[1], POSES[1], atol=1e-6)
    np.testing.assert_allclose(found[0, 6:], POSES[0, 6:] + change[0, 3:], atol=1e-6)
    turn = rotation_matrices(found[:1, :6])[0] @ rotation_matrices(np.asarray(POSES[:1, :6]))[0].T
    angle = np.linalg.norm(change[0, :3])
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(np.degrees(angle), abs=1e-3)
    np.testing.assert_allclose(turn @ np.asarray(change[0, :3]), change[0, :3], atol=1e-6)


def test_moves_are_the_derivatives_of_the_places():
    surface, _ = ellipsoid(CENTRE, ZOOM)
    surface = surface[::97]

    def places(change):
        return geometry.image_from_canonical(surface[None], moved_pose(POSES, change))[..., :2]

    _, columns = jax.vmap(lambda d: jax.jvp(places, (jnp.zeros((2, 6)),), (jnp.tile(d, (2, 1)),)))(jnp.eye(6))
    rotation, scale, _ = geometry.pose_matrix(POSES)
    turned = scale[:, None, None] * jnp.einsum("bij,nj->bni", rotation, surface)
    np.testing.assert_allclose(_moves(turned), jnp.moveaxis(columns, 0, 2), atol=1e-4)


@jax.jit
def drawn(pose):
    """A painted ellipsoid in these poses, (B, n, n, 3) of 0 to 255."""
    rotation, scale, place = geometry.pose_matrix(pose)
    seen = (geometry.pixel_grid(SIZE, SIZE)[None] - place[:, None, None, :2]) / scale[:, None, None, None]
    point = jnp.broadcast_to(jnp.asarray(CENTRE[:2]), seen.shape)
    inverse = jnp.linalg.inv(rotation[:, :2, :2])
    for _ in range(12):  # the canonical point that each pixel shows: its depth is that of the surface
        from_centre = point - jnp.asarray(CENTRE[:2])
        depth = 1 - jnp.sqrt(jnp.maximum(1 - ((from_centre / jnp.asarray(RADII[:2])) ** 2).sum(-1), 0.02))
        z = CENTRE[2] + RADII[2] * depth
        point = jnp.einsum("bij,bhwj->bhwi", inverse, seen - rotation[:, None, None, :2, 2] * z[..., None])
    waves = [jnp.sin(9 * point[..., 0] + k) * jnp.cos(11 * point[..., 1] - k) for k in range(3)]
    return 127.5 + 100 * jnp.stack(waves, -1)


def test_the_pose_of_a_painted_ellipsoid_is_found():
    off = jnp.asarray([[0.03, -0.04, 0.03, 0.02, 0.02, -0.015], [-0.04, 0.03, -0.02, -0.02, -0.01, 0.02]])
    pose, offset = moved_pose(POSES, off), jnp.zeros((2, 6))
    for _ in range(6):
        pose, offset = aligned(pose, offset, drawn(pose), drawn(POSES), CENTRE, ZOOM)
    np.testing.assert_allclose(pose[:, 6:], POSES[:, 6:], atol=2e-3)
    left = rotation_matrices(np.asarray(pose[:, :6])) @ rotation_matrices(np.asarray(POSES[:, :6])).swapaxes(1, 2)
    assert np.degrees(np.arccos(np.clip((np.trace(left, axis1=1, axis2=2) - 1) / 2, -1, 1))).max() < 0.25
    np.testing.assert_allclose(offset, -off, atol=0.01)


def test_a_face_that_fits_and_a_picture_without_any_edge_stay():
    flat = jnp.full((2, SIZE, SIZE, 3), 90.0)
    for picture in (drawn(POSES), flat):
        pose, offset = aligned(POSES, jnp.zeros((2, 6)), picture, picture, CENTRE, ZOOM)
        np.testing.assert_allclose(offset, 0, atol=1e-6)
        np.testing.assert_allclose(pose, POSES, atol=1e-5)


@pytest.fixture(scope="module")
def animator(tmp_path_factory):
    return PortraitAnimator.from_checkpoint(save_tiny_model(tmp_path_factory.mktemp("tiny")), 4, mark=True)


def test_a_video_is_read_alike_in_any_parts_and_only_its_poses_change(animator):
    frames = np.random.default_rng(0).integers(0, 256, (6, animator.image_size, animator.image_size, 3), np.uint8)
    alone = animator.encode_motion(frames)
    np.testing.assert_array_equal(MotionReader(animator, 0)(frames), alone)
    whole = MotionReader(animator, 2)(frames)
    np.testing.assert_array_equal(whole[:, POSE_DIM:], alone[:, POSE_DIM:])
    assert np.isfinite(whole).all() and (whole[:, :POSE_DIM] != alone[:, :POSE_DIM]).any()
    reader = MotionReader(animator, 2)
    np.testing.assert_array_equal(np.concatenate([reader(frames[:4]), reader(frames[4:])]), whole)
    np.testing.assert_array_equal(MotionReader(animator, 2)(frames[:1]), whole[:1])


def test_rotations_stay_rotations():
    pose = jnp.asarray(IDENTITY_POSE, jnp.float32)[None]
    for _ in range(50):
        pose = moved_pose(pose, jnp.full((1, 6), 0.08))
    columns = np.asarray(pose[0, :6]).reshape(2, 3)
    np.testing.assert_allclose(columns @ columns.T, np.eye(2), atol=1e-4)

"""Coordinates, poses, warps and sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typecheck import unchecked

from vasa_jax.conventions import IDENTITY_POSE
from vasa_jax.models import geometry

IDENTITY = jnp.asarray([IDENTITY_POSE])
trilinear_sample = jax.jit(geometry.trilinear_sample, static_argnames="padding")
bilinear_sample = jax.jit(geometry.bilinear_sample, static_argnames="padding")
cubic_sample = jax.jit(geometry.cubic_sample)


def make_pose(axis: str = "y", angle: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)):
    c, s = np.cos(angle), np.sin(angle)
    rotation = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }[axis]
    rotation = np.asarray(rotation)
    return jnp.asarray([[*rotation[:, 0], *rotation[:, 1], np.log(scale), *shift]], jnp.float32)


def random_volume(*shape: int):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_pixel_grid_holds_pixel_centres_x_first():
    grid = geometry.pixel_grid(2, 4, 8)
    assert grid.shape == (2, 4, 8, 3)
    np.testing.assert_array_equal(grid[1, 2, 3], [-1 / 8, 1 / 4, 1 / 2])


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_identity_warp_returns_its_input(padding):
    volume = random_volume(2, 8, 16, 32, 5)
    np.testing.assert_array_equal(trilinear_sample(volume, geometry.pixel_grid(8, 16, 32)[None], padding), volume)
    image = random_volume(2, 64, 128, 3)
    np.testing.assert_array_equal(bilinear_sample(image, geometry.pixel_grid(64, 128)[None], padding), image)
    odd = random_volume(1, 5, 7, 12, 3)
    np.testing.assert_allclose(trilinear_sample(odd, geometry.pixel_grid(5, 7, 12)[None], padding), odd, atol=1e-5)


def test_rotation_has_the_given_columns():
    rotation = geometry.rotation_from_6d(jnp.asarray([0.0, 2.0, 0.0, -3.0, 1.0, 0.0]))
    np.testing.assert_allclose(rotation[:, 0], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(rotation[:, 1], [-1, 0, 0], atol=1e-6)
    rotations = geometry.rotation_from_6d(random_volume(50, 6))
    products = jnp.einsum("bij,bik->bjk", rotations, rotations)
    np.testing.assert_allclose(products, np.tile(np.eye(3), (50, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.det(rotations), 1.0, atol=1e-5)


def test_image_from_canonical_is_scale_rotate_shift():
    pose = make_pose("z", np.pi / 2, scale=0.5, shift=(0.1, 0.2))
    point = geometry.image_from_canonical(jnp.asarray([[[1.0, 0.0, 0.4]]]), pose)
    np.testing.assert_allclose(point, [[[0.1, 0.7, 0.2]]], atol=1e-6)
    pose, points = random_volume(6, 9), random_volume(6, 4, 5, 3)
    there_and_back = geometry.canonical_from_image(geometry.image_from_canonical(points, pose), pose)
    np.testing.assert_allclose(there_and_back, points, atol=1e-4)


@pytest.mark.parametrize("axis,axes", [("x", (1, 0)), ("y", (0, 2)), ("z", (2, 1))])
def test_quarter_turn_of_a_volume(axis, axes):
    """A quarter turn takes voxels to voxels: y to z about x, z to x about y, x to y about z (axes count D, H, W)."""
    volume = random_volume(1, 8, 8, 8, 2)
    points = geometry.canonical_from_image(geometry.pixel_grid(8, 8, 8)[None], make_pose(axis, np.pi / 2))
    turned = trilinear_sample(volume, points, "border")
    np.testing.assert_allclose(turned[0], np.rot90(np.asarray(volume[0]), 1, axes=axes), atol=1e-5)
    if axis == "z":  # the canonical +x end appears at the image's +y end, below
        np.testing.assert_allclose(turned[0, :, -1, :, :].mean(), volume[0, :, :, -1, :].mean(), atol=1e-5)


def test_zeros_padding_fades_and_border_padding_holds():
    ones = jnp.ones((1, 4, 4, 4, 1))
    x = jnp.asarray([0.75, 1.0, 1.25, 1.5, 1e9, -1e9])  # voxel centre, edge, one voxel out, further
    grid = jnp.stack([x, jnp.full(6, 0.25), jnp.full(6, 0.25)], -1)[None]
    np.testing.assert_allclose(trilinear_sample(ones, grid)[0, :, 0], [1, 0.5, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(trilinear_sample(ones, grid, "border")[0, :, 0], 1.0, atol=1e-6)


def test_cubics_return_their_input_and_are_exact_for_parabolas():
    image = random_volume(2, 64, 128, 3)
    np.testing.assert_array_equal(cubic_sample(image, geometry.pixel_grid(64, 128)[None]), image)

    def parabola(p):
        return 0.3 + p[..., :1] - 2.0 * p[..., 1:] + 1.5 * p[..., :1] ** 2 - p[..., :1] * p[..., 1:] + p[..., 1:] ** 2

    inside = jax.random.uniform(jax.random.key(0), (1, 200, 2), minval=-0.8, maxval=0.8)  # two pixels from the edge
    sampled = cubic_sample(parabola(geometry.pixel_grid(16, 24))[None], inside)
    np.testing.assert_allclose(sampled, parabola(inside), atol=2e-5)


def test_cubics_repeat_the_edge():
    ramp = jnp.arange(5.0)[None, None, :, None] * jnp.ones((1, 5, 1, 1))
    x = jnp.asarray([-1e9, -1.0, 1.0, 1e9])
    sampled = cubic_sample(ramp, jnp.stack([x, jnp.zeros(4)], -1)[None])
    np.testing.assert_allclose(sampled[0, :, 0], [0, 0, 4, 4], atol=1e-5)


def test_gradient_of_cubics_against_differences():
    image, weights = random_volume(1, 6, 7, 2), random_volume(1, 4, 2)
    cells = jnp.asarray([[2.3, 1.6], [3.4, 2.7], [0.4, 4.3], [5.6, 1.4]])
    grid = ((2 * cells + 1) / jnp.asarray([7.0, 6.0]) - 1)[None]

    @jax.jit
    def total(image, grid):
        return (weights * cubic_sample(image, grid)).sum()

    by_image, by_grid = jax.grad(total, argnums=(0, 1))(image, grid)
    for i in range(4):
        for axis in range(2):
            move = jnp.zeros_like(grid).at[0, i, axis].set(4e-3)
            difference = (total(image, grid + move) - total(image, grid - move)) / 8e-3
            np.testing.assert_allclose(by_grid[0, i, axis], difference, atol=2e-2)
    direction = random_volume(*image.shape) * 0.5
    difference = (total(image + direction, grid) - total(image - direction, grid)) / 2
    np.testing.assert_allclose((by_image * direction).sum(), difference, atol=1e-4)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_sampling_gradient_against_differences(padding):
    """Inside, on the rim and outside; within a cell the interpolant is linear per axis, so differences are exact."""
    volume = random_volume(1, 4, 5, 6, 2)
    cells = jnp.asarray([[2.3, 1.6, 1.2], [-0.4, 2.7, 1.3], [5.4, 4.3, 3.4], [7.6, 1.4, 1.4], [0.6, -2.5, 2.4]])
    grid = ((2 * cells + 1) / jnp.asarray([6.0, 5.0, 4.0]) - 1)[None]
    weights = random_volume(1, 5, 2)

    @jax.jit
    def total(volume, grid):
        return (weights * trilinear_sample(volume, grid, padding)).sum()

    by_volume, by_grid = jax.grad(total, argnums=(0, 1))(volume, grid)
    step = 0.02
    for i in range(5):
        for axis in range(3):
            move = jnp.zeros_like(grid).at[0, i, axis].set(step)
            difference = (total(volume, grid + move) - total(volume, grid - move)) / (2 * step)
            assert abs(difference - by_grid[0, i, axis]) < 1e-3
    assert jnp.abs(by_grid[0, 1]).min() > 0 or padding == "border"  # a point on the rim still feels the volume
    if padding == "zeros":
        assert jnp.abs(by_grid[0, 3:]).max() == 0
    direction = random_volume(*volume.shape) * 0.5
    difference = (total(volume + direction, grid) - total(volume - direction, grid)) / 2
    np.testing.assert_allclose((by_volume * direction).sum(), difference, atol=1e-4)


def test_one_volume_serves_a_batch_of_grids():
    volume, grid = random_volume(1, 4, 6, 8, 3), random_volume(5, 7, 3) * 0.7
    expected = trilinear_sample(jnp.repeat(volume, 5, 0), grid)
    np.testing.assert_allclose(trilinear_sample(volume, grid), expected, atol=1e-6)
    volumes = random_volume(5, 4, 6, 8, 3)
    batched = trilinear_sample(volumes, grid)
    mapped = jax.jit(jax.vmap(lambda v, g: trilinear_sample(v[None], g[None])[0]))(volumes, grid)
    for i in range(5):
        single = trilinear_sample(volumes[i : i + 1], grid[i : i + 1])[0]
        np.testing.assert_allclose(batched[i], single, atol=1e-6)
        np.testing.assert_allclose(mapped[i], single, atol=1e-6)
    assert trilinear_sample(volumes.astype(jnp.bfloat16), grid).dtype == jnp.bfloat16


def test_each_of_several_volumes_serves_neighbouring_grids():
    volumes, grid = random_volume(2, 4, 6, 8, 3), random_volume(6, 7, 3) * 0.7
    weights = random_volume(6, 7, 3)

    def of_shared(volumes, grid):
        return trilinear_sample(volumes, grid)

    def of_copies(volumes, grid):
        return trilinear_sample(geometry.rows_for(volumes, 6), grid)

    values, gradients = [], []
    for sample in (of_shared, of_copies):
        values.append(sample(volumes, grid))
        gradients.append(jax.grad(lambda *x, sample=sample: (weights * sample(*x)).sum(), (0, 1))(volumes, grid))
    np.testing.assert_allclose(*values, atol=1e-6)
    for shared, copied in zip(*gradients):
        np.testing.assert_allclose(shared, copied, atol=1e-5)


def test_composed_warp_equals_two_steps():
    """Warp, then rotate, against one lookup of the composition: only the blur of the second resampling is between."""
    points = geometry.pixel_grid(16, 32, 32)
    volume = jnp.sin(points @ jnp.asarray([[2.0, -1.0], [1.0, 2.0], [0.5, 1.5]]))[None]
    delta = 0.1 * jnp.sin(2.0 * points[..., ::-1] + 0.3)[None]
    pose = make_pose("y", 0.3, scale=1.1, shift=(0.05, -0.1))
    rigid = geometry.canonical_from_image(points[None], pose)
    warped = trilinear_sample(volume, points[None] + delta, "border")
    two_steps = trilinear_sample(warped, rigid, "border")
    one_step = trilinear_sample(volume, geometry.compose(delta, rigid), "border")
    inner = (slice(None), slice(4, 12), slice(8, 24), slice(8, 24))
    assert jnp.abs(two_steps - one_step)[inner].max() < 0.015
    # The other order is another warp.
    wrong = trilinear_sample(volume, geometry.canonical_from_image(points[None] + delta, pose), "border")
    assert jnp.abs(two_steps - wrong)[inner].max() > 0.05


def test_aligned_crop_does_not_depend_on_the_pose():
    """A pattern painted on the crop's plane of the canonical frame looks the same from every pose."""
    centre = (0.05, 0.1, -0.3)

    def paint(pose, size=128):
        rotation, scale, shift = (np.asarray(part[0]) for part in geometry.pose_matrix(pose))
        pixels = np.asarray(geometry.pixel_grid(size, size)).reshape(-1, 2)
        plane = pixels - shift[:2] - scale * rotation[:2, 2] * centre[2]
        canonical = np.linalg.solve(scale * rotation[:2, :2], plane.T).T.reshape(size, size, 2)
        return jnp.asarray(np.sin(canonical @ np.array([[6.0, -3.0], [2.0, 7.0]])), jnp.float32)[None]

    crop = geometry.align_crop(paint(IDENTITY), IDENTITY, 32, 2.0, centre)
    assert crop.shape == (1, 32, 32, 2)
    poses = [make_pose("y", 0.5, shift=(0.1, 0.0)), make_pose("x", -0.3, 0.9), make_pose("z", 0.4, 1.2, (0.0, -0.1))]
    for pose in poses:
        assert jnp.abs(geometry.align_crop(paint(pose), pose, 32, 2.0, centre) - crop).max() < 0.02
        assert jnp.abs(geometry.align_crop(paint(pose), IDENTITY, 32, 2.0, centre) - crop).max() > 0.2


@pytest.mark.parametrize(
    "shapes,padding", [(((1, 4, 4, 4, 2), (1, 5, 2)), "zeros"), (((2, 4, 4, 4, 2), (3, 5, 3)), "zeros"),
                       (((1, 4, 4, 4, 2), (1, 5, 3)), "mirror")]
)  # fmt: skip
def test_sampling_refuses_what_does_not_fit(shapes, padding):
    with pytest.raises(ValueError, match=r"coordinates|batch|padding"):
        unchecked(geometry.trilinear_sample)(jnp.zeros(shapes[0]), jnp.zeros(shapes[1]), padding)


def test_gradient_of_a_bfloat16_volume_is_summed_in_float32():
    """1000 points at the centre of one voxel: summed in bfloat16, their gradient would stop growing at 256."""
    volume = jnp.ones((1, 2, 2, 2, 1), jnp.bfloat16)
    centre = jnp.full((1, 1000, 3), -0.5)
    gradient = jax.grad(lambda v: trilinear_sample(v, centre).astype(jnp.float32).sum())(volume)
    assert gradient.dtype == jnp.bfloat16
    assert float(gradient[0, 0, 0, 0, 0]) == 1000.0
    assert float(jnp.abs(gradient.astype(jnp.float32)).sum()) == 1000.0

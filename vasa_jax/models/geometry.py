"""Rotations, coordinate grids, warp composition and sampling.

Coordinates run over [-1, 1]: x right, y down, z into the scene; the centre of pixel i of N lies at (2i + 1)/N - 1, so
that sampling an image or a volume at `pixel_grid` returns it unchanged. A head pose maps canonical to image
coordinates (rotations by two columns: Zhou et al. 2019),

    p_image = s R p_canonical + t,    pose = (R[:, 0], R[:, 1], log s, t_x, t_y),

with t_z = 0, which an orthographic camera cannot see. Coordinates are float32 throughout: bfloat16 resolves an eighth
of a voxel at 64 voxels, and the steps of a warp add up.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def pixel_grid(*sizes: int) -> Float[Array, "... axes"]:
    """Returns pixel-centre coordinates for these axis sizes, e.g. (D, H, W) -> (D, H, W, 3) holding x, y, z."""
    axes = [(2.0 * jnp.arange(size, dtype=jnp.float32) + 1.0) / size - 1.0 for size in sizes]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij")[::-1], axis=-1)


def rotation_from_6d(columns: Float[Array, "... 6"]) -> Float[Array, "... 3 3"]:
    """Builds rotation matrices from their first two columns by Gram-Schmidt (Zhou et al. 2019)."""
    columns = columns.astype(jnp.float32)
    first = _unit(columns[..., :3])
    second = columns[..., 3:]
    second = _unit(second - jnp.sum(first * second, axis=-1, keepdims=True) * first)
    return jnp.stack([first, second, jnp.cross(first, second)], axis=-1)


def pose_matrix(
    pose: Float[Array, "*batch 9"],
) -> tuple[Float[Array, "*batch 3 3"], Float[Array, "*batch"], Float[Array, "*batch 3"]]:
    """Splits pose vectors into (rotation R, scale s, translation t)."""
    pose = pose.astype(jnp.float32)
    translation = jnp.concatenate([pose[..., 7:9], jnp.zeros_like(pose[..., :1])], axis=-1)
    return rotation_from_6d(pose[..., :6]), jnp.exp(pose[..., 6]), translation


def image_from_canonical(points: Float[Array, "#B ... 3"], pose: Float[Array, "#B 9"]) -> Float[Array, "B ... 3"]:
    """Returns s R p + t for every point of every batch item."""
    rotation, scale, translation = pose_matrix(pose)
    return _rotate(points, rotation * scale[:, None, None]) + _spread(translation, points)


def canonical_from_image(points: Float[Array, "#B ... 3"], pose: Float[Array, "#B 9"]) -> Float[Array, "B ... 3"]:
    """Returns R^T (p - t) / s for every point of every batch item: the inverse of `image_from_canonical`."""
    rotation, scale, translation = pose_matrix(pose)
    inverse = jnp.swapaxes(rotation, -1, -2) / scale[:, None, None]
    return _rotate(points - _spread(translation, points), inverse)


def rows_for(x: Float[Array, "V ..."], count: int) -> Float[Array, "#B ..."]:
    """Repeats what each of V examples shares with its neighbours, up to `count` rows; leaves a single row alone."""
    return x if x.shape[0] == 1 else jnp.repeat(x, count // x.shape[0], 0)


def compose(delta: Float[Array, "V D H W 3"], points: Float[Array, "#B ... 3"]) -> Float[Array, "B ... 3"]:
    """Evaluates the warp `identity + delta`, given on a grid, at any points: p + delta(p).

    The displacement is sampled rather than the absolute map, so outside of its grid the warp is the identity.
    """
    return points + trilinear_sample(delta, points)


def trilinear_sample(
    volume: Float[Array, "V D H W C"], grid: Float[Array, "#B ... 3"], padding: str = "zeros"
) -> Float[Array, "B ... C"]:
    """Samples a volume at points (x, y, z), interpolated between its 8 neighbours.

    `padding`: "zeros" (neighbours outside of the volume count as 0) or "border" (points are moved to the nearest voxel
    centre). Fewer volumes than grids are read each by as many neighbouring grids, without being copied; a single grid
    serves all volumes.
    Weights are float32, the result has the volume's dtype. Differentiable in both arguments, in reverse mode. The
    corners are gathered again in the backward pass: kept, they would take 8 times the memory of the result.
    """
    return _sample(volume, grid, padding)


def bilinear_sample(
    image: Float[Array, "V H W C"], grid: Float[Array, "#B ... 2"], padding: str = "zeros"
) -> Float[Array, "B ... C"]:
    """Samples an image at points (x, y), interpolated between its 4 neighbours; otherwise like `trilinear_sample`."""
    return _sample(image, grid, padding)


def cubic_sample(image: Float[Array, "V H W C"], grid: Float[Array, "#B ... 2"]) -> Float[Array, "B ... C"]:
    """Samples an image at points (x, y) by the cubic through their 16 neighbours (Keys 1981, a = -1/2).

    It keeps fine texture that `bilinear_sample` blurs, and may overshoot beside edges. The image's edge is repeated.
    """
    return _sample(image, grid, "cubic")


def align_crop(
    image: Float[Array, "B H W C"],
    pose: Float[Array, "B 9"],
    size: int,
    zoom: float,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Float[Array, "B size size C"]:
    """Cuts out the face with its pose taken out: the image seen on a plane of the canonical frame.

    Crop coordinate c shows the canonical point centre + (c_x, c_y, 0) / zoom. With `centre` on the front of the face
    (z < 0) the crop stays on the face when the head turns. Only the relief of the face and its expression are left in
    it. Images finer than the crop are averaged first, so that it does not alias.
    """
    factor = max(1, int(image.shape[1] / (size * zoom)))
    while image.shape[1] % factor or image.shape[2] % factor:
        factor -= 1
    if factor > 1:
        batch, height, width, channels = image.shape
        image = image.reshape(batch, height // factor, factor, width // factor, factor, channels).mean((2, 4))
    plane = pixel_grid(size, size) / zoom
    points = jnp.concatenate([plane, jnp.zeros_like(plane[..., :1])], axis=-1) + jnp.asarray(centre, jnp.float32)
    return bilinear_sample(image, image_from_canonical(points[None], pose)[..., :2], "border")


def _unit(vector: Array) -> Array:
    return vector * jax.lax.rsqrt(jnp.maximum(jnp.sum(vector * vector, axis=-1, keepdims=True), 1e-12))


def _rotate(points: Array, matrices: Array) -> Array:
    """Matrix-vector products, written out: by default an einsum rounds to bfloat16 or TF32 on accelerators."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    rows = []
    for i in range(3):
        a, b, c = (_spread(matrices[:, i, j], x) for j in range(3))
        rows.append(a * x + b * y + c * z)
    return jnp.stack(rows, axis=-1)


def _spread(values: Array, like: Array) -> Array:
    """(B, ...) -> (B, 1, ..., 1, ...) with the number of axes of `like`."""
    return values.reshape(values.shape[:1] + (1,) * (like.ndim - values.ndim) + values.shape[1:])


def _sample(values: Array, grid: Array, padding: str) -> Array:
    axes = values.ndim - 2
    if grid.shape[-1] != axes:
        raise ValueError(f"grid of {grid.shape[-1]} coordinates for an array with {axes} spatial axes")
    if padding not in ("zeros", "border", "cubic"):
        raise ValueError(f"padding {padding!r}: expected zeros or border")
    count, batch = values.shape[0], max(values.shape[0], grid.shape[0])
    if batch % count or grid.shape[0] not in (1, batch):
        raise ValueError(f"batch sizes {count} (values) and {grid.shape[0]} (grid) do not broadcast")
    grid = jnp.broadcast_to(grid, (batch, *grid.shape[1:])).astype(jnp.float32)
    if count == batch:
        return _interpolate(values, grid, padding)
    result = _interpolate(values, grid.reshape(count, batch // count, *grid.shape[1:]), padding)
    return result.reshape(batch, *result.shape[2:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _interpolate(values: Array, grid: Array, padding: str) -> Array:
    """Sum over the 2^n corners of weight times one row of each example's flattened array."""
    table = _table(values)
    result = jnp.zeros((*grid.shape[:-1], values.shape[-1]), jnp.float32)
    for row, weight in _corners(values.shape, grid, padding):
        result = result + weight[..., None] * _take(table, row).astype(jnp.float32)
    return result.astype(values.dtype)


def _interpolate_forward(values: Array, grid: Array, padding: str) -> tuple[Array, tuple[Array, Array]]:
    return _interpolate(values, grid, padding), (values, grid)


def _interpolate_backward(padding: str, kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """All corners add to one float32 array: thousands of points may share a voxel, too many for a bfloat16 sum, which
    accelerators also have no fast atomic addition for."""
    values, grid = kept
    cotangent = cotangent.astype(jnp.float32)
    table = _table(values)
    corners, pull = jax.vjp(lambda grid: _corners(values.shape, grid, padding), grid)
    result, weights = jnp.zeros(table.shape, jnp.float32), []
    for row, weight in corners:
        result = _add(result, row, weight[..., None] * cotangent)
        rows = _take(table, row).astype(jnp.float32)
        weights.append((np.zeros(row.shape, jax.dtypes.float0), (rows * cotangent).sum(-1)))
    return result.reshape(values.shape).astype(values.dtype), pull(weights)[0]


_interpolate.defvjp(_interpolate_forward, _interpolate_backward)


def _table(values: Array) -> Array:
    """(B, spatial sizes, C) as (B, rows, C)."""
    return values.reshape(values.shape[0], -1, values.shape[-1])


# Reading and adding are mapped over the examples rather than done in one table of them all: so XLA sees that examples
# do not meet, and a batch that is spread over devices stays where it is.
_take = jax.vmap(lambda table, row: table.at[row].get(mode="promise_in_bounds"))
_add = jax.vmap(lambda table, row, values: table.at[row].add(values, mode="promise_in_bounds"))


def _corners(shape: tuple[int, ...], grid: Array, padding: str) -> list[tuple[Array, Array]]:
    """(row of the example's flattened array, weight) of each of the 2^n (cubic: 4^n) neighbours of every point; rows
    are always valid.
    """
    sizes = shape[1:-1]

    # Per axis (x first): the neighbours as (offset into the table, weight).
    neighbours = []
    stride = 1
    for axis, size in enumerate(reversed(sizes)):
        position = ((grid[..., axis] + 1.0) * size - 1.0) / 2.0
        # The clip keeps the integers exact for any input; a cell further out has weight zero already.
        position = jnp.clip(position, -2.0, size + 1.0) if padding == "zeros" else jnp.clip(position, 0.0, size - 1.0)
        lower = jnp.floor(position)
        fraction = position - lower
        found = []
        for index, weight in _cubic(lower, fraction) if padding == "cubic" else _linear(lower, fraction):
            offset = jnp.clip(index, 0, size - 1).astype(jnp.int32) * stride
            if padding != "cubic":  # whose weights beyond the edge are those of the edge, repeated
                weight = jnp.where((index >= 0) & (index <= size - 1), weight, 0.0)
            found.append((offset, weight))
        neighbours.append(found)
        stride *= size

    corners = [(0, 1.0)]
    for found in neighbours:
        corners = [
            (base + offset, product * weight)
            for base, product in corners
            for offset, weight in found
        ]
    return corners


def _linear(lower: Array, fraction: Array) -> list[tuple[Array, Array]]:
    """(index, weight) of the two neighbours along an axis."""
    return [(lower, 1.0 - fraction), (lower + 1.0, fraction)]


def _cubic(lower: Array, fraction: Array) -> list[tuple[Array, Array]]:
    """(index, weight) of the four neighbours along an axis: the cubic convolution kernel of Keys 1981, a = -1/2."""
    f = fraction
    return [
        (lower - 1.0, f * (f * (1.0 - 0.5 * f) - 0.5)),
        (lower, f * f * (1.5 * f - 2.5) + 1.0),
        (lower + 1.0, f * (f * (2.0 - 1.5 * f) + 0.5)),
        (lower + 2.0, f * f * (0.5 * f - 0.5)),
    ]

"""A z-buffer of triangles on a grid of tiles, in JAX: one program for any device, static shapes, for jit and vmap."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

FAR = 1e9  # depth of nothing


class Raster(NamedTuple):
    """What is nearest at every pixel's centre."""

    triangle: Int[Array, "n n"]  # number of the triangle, -1: none
    values: Float[Array, "n n A"]  # the vertices' values, interpolated
    busiest: Int[Array, ""]  # triangles that touch one tile at most; those beyond `slots` are not drawn


def rasterise(
    points: Float[Array, "V 2"],
    depth: Float[Array, "V"],
    values: Float[Array, "V A"],
    triangles: Int[Array, "T 3"],
    size: int,
    tile: int = 16,
    slots: int = 80,
    behind: Bool[Array, "T"] | None = None,
    window: Bool[Array, "n n"] | None = None,
) -> Raster:
    """Draws triangles on a picture of `size` pixels a side; `points` in pixels, smaller `depth` is nearer.

    A tile of `tile` pixels a side draws the first `slots` triangles that touch it. The triangles `behind` are seen
    through the pixels of `window` only; both are given or none.
    """
    corners = points[triangles]
    bary, sound = _barycentric(corners)
    planes = jnp.concatenate([depth[:, None], values], 1)[triangles]
    planes = jnp.sum(bary[:, :, :, None] * planes[:, :, None, :], 1)  # T (1, x, y) (depth, values)
    count = size // tile
    touch = _touched(corners, bary, count, tile) & sound
    order = jnp.cumsum(touch, 1)
    found = jax.vmap(lambda row: jnp.searchsorted(row, jnp.arange(1, slots + 1)))(order)  # tiles slots
    valid = found < triangles.shape[0]
    which = jnp.minimum(found, triangles.shape[0] - 1)
    low, inside = jnp.arange(count) * float(tile), jnp.arange(tile) + 0.5
    x = low[None, :, None, None] + inside[None, None, None, :] + jnp.zeros((count, 1, tile, 1))
    y = low[:, None, None, None] + inside[None, None, :, None] + jnp.zeros((1, count, 1, tile))
    x, y = (v.reshape(count * count, tile * tile) for v in (x, y))
    if window is not None:
        window = window.reshape(count, tile, count, tile).transpose(0, 2, 1, 3).reshape(count * count, tile * tile)

    def nearest(best, slot):
        number, ok = slot
        edges, plane = bary[number], planes[number]  # tiles 3 3; tiles 3 (1 + A)

        def at(f):
            return f[:, 0, None] + f[:, 1, None] * x + f[:, 2, None] * y

        hit = ok[:, None]
        if window is not None:
            hit &= window | ~behind[number][:, None]
        for i in range(3):
            hit &= at(edges[:, i]) >= -1e-4
        z = at(plane[..., 0])
        nearer = hit & (z < best[0])
        seen = [jnp.where(nearer, at(plane[..., 1 + i]), old) for i, old in enumerate(best[2])]
        return (jnp.where(nearer, z, best[0]), jnp.where(nearer, number[:, None], best[1]), seen), None

    nothing = [jnp.zeros_like(x) for _ in range(values.shape[1])]
    start = jnp.full_like(x, FAR), jnp.full(x.shape, -1, jnp.int32), nothing
    (_, index, seen), _ = jax.lax.scan(nearest, start, (which.T, valid.T), unroll=8)

    def picture(v):
        return v.reshape(count, count, tile, tile).transpose(0, 2, 1, 3).reshape(size, size)

    return Raster(picture(index), jnp.stack([picture(v) for v in seen], -1), order[:, -1].max())


def _barycentric(corners: Float[Array, "T 3 2"]) -> tuple[Float[Array, "T 3 3"], Array]:
    """Barycentric coordinates as planes (constant, per x, per y) for each corner, and which triangles have an area."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    sound = jnp.abs(area) > 1e-4
    inverse = jnp.where(sound, 1.0 / jnp.where(sound, area, 1.0), 0.0)

    def opposite(p, q):
        dx, dy = -(q[:, 1] - p[:, 1]) * inverse, (q[:, 0] - p[:, 0]) * inverse
        return jnp.stack([-(dx * p[:, 0] + dy * p[:, 1]), dx, dy], -1)

    return jnp.stack([opposite(b, c), opposite(c, a), opposite(a, b)], 1), sound


def _touched(corners: Float[Array, "T 3 2"], bary: Float[Array, "T 3 3"], count: int, tile: int) -> Array:
    """(tiles, T): whether a triangle may cover a part of a tile: boxes meet, and no edge has the tile behind it."""
    low = jnp.arange(count) * float(tile)
    high = low + tile
    least, most = corners.min(1), corners.max(1)
    in_x = (most[:, 0] >= low[:, None]) & (least[:, 0] <= high[:, None])
    in_y = (most[:, 1] >= low[:, None]) & (least[:, 1] <= high[:, None])
    touch = in_y[:, None] & in_x[None, :]  # rows columns T
    for i in range(3):
        edge = bary[:, i]
        across = jnp.maximum(edge[:, 1] * low[:, None], edge[:, 1] * high[:, None])[None]
        down = jnp.maximum(edge[:, 2] * low[:, None], edge[:, 2] * high[:, None])[:, None]
        touch &= edge[:, 0] + across + down >= 0.0
    return touch.reshape(count * count, -1)

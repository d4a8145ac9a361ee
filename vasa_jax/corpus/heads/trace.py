"""Where each ray meets the head, the surface's normal there, and how much light reaches it.

Sphere tracing from coarse to fine (cone marching): a coarse ray advances until its cone might touch the surface, and
the finer rays inside that cone start from there. The few rays that have not converged after the common steps (they
graze an edge) are gathered into a short list and marched further.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from vasa_jax.corpus.heads.camera import DISTANCE, FOCAL, along_rays
from vasa_jax.corpus.heads.field import NOTHING, distance, material_distances
from vasa_jax.corpus.heads.sdf import mix, smoothstep

NEAR, FAR = 1.3, 1.3  # the head lies between these distances before and behind the world's origin
CONE_LEVELS = ((16, 18), (4, 10), (2, 5))  # (samples per cone side, steps)
COMMON_STEPS = 4
STRAGGLER_SHARE, STRAGGLER_ROUNDS, STRAGGLER_STEPS = 0.05, 8, 9
OCCLUSION_REACH = (0.02, 0.095, 0.22, 0.37, 0.55)
SHADOW_REACH = (0.05, 0.09, 0.14, 0.20, 0.28, 0.37, 0.48, 0.60, 0.75, 0.95)
_TETRAHEDRON = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)


def _refine(travel, coarse: int, fine: int):
    """Copies a coarse grid's values onto the finer grid (flat arrays)."""
    factor = fine // coarse
    grid = travel.reshape(coarse, 1, coarse, 1)
    return jnp.broadcast_to(grid, (coarse, factor, coarse, factor)).reshape(-1)


def _tail_march(a, origin, rays, travel, gap, steps: int, limit):
    def step(_, state):
        travel, gap = state
        travel = jnp.minimum(travel + gap, limit + 0.01)
        return travel, distance(a, along_rays(origin, rays, travel))

    return lax.fori_loop(0, steps, step, (travel, gap))


def trace(a, size: int):
    """Returns the distance along each of size^2 rays to the surface; rays that miss end past the far limit.

    `size` must be a multiple of 16.
    """
    origin = a.camera.origin
    limit = origin[2] + FAR
    travel, coarse = None, 0
    for block, steps in CONE_LEVELS:
        level = size // block
        rays = a.camera.rays(level)
        spread = 1.45 / (level * a.camera.focal)  # a cone's half width per unit of travel, its corners included
        if travel is None:
            travel = jnp.broadcast_to(origin[2] - NEAR, (level * level,))
        else:
            travel = _refine(travel, coarse, level)

        def cone_step(_, travel, rays=rays, spread=spread):
            gap = distance(a, along_rays(origin, rays, travel)) - spread * travel
            return jnp.minimum(travel + 0.98 * jnp.maximum(gap, 0.0), limit)

        travel = lax.fori_loop(0, steps, cone_step, travel)
        coarse = level
    rays = a.camera.rays(size)
    travel = _refine(travel, coarse, size)
    travel, gap = _tail_march(a, origin, rays, travel, jnp.zeros_like(travel), COMMON_STEPS, limit)
    count = max(64, int(size * size * STRAGGLER_SHARE))
    converged = 0.4 * 2.0 / (size * a.camera.focal)  # of a pixel's width

    def straggler_round(_, state):
        travel, gap = state
        late = (gap > converged * travel) & (travel < limit)
        index = _first_places(late, count)
        some_rays = tuple(r[index] for r in rays)
        t, g = _tail_march(a, origin, some_rays, travel[index], gap[index], STRAGGLER_STEPS, limit)
        return travel.at[index].set(t), gap.at[index].set(g)

    return lax.fori_loop(0, STRAGGLER_ROUNDS, straggler_round, (travel, gap))[0]


def _first_places(mask, count: int):
    """Places of the first `count` true entries of a vector, the last place of all where there are fewer.

    As `jnp.nonzero`, whose histogram of running sums is slow on an accelerator: whole runs of entries meet in one bin.
    """
    places = jnp.searchsorted(jnp.cumsum(mask.astype(jnp.int32)), jnp.arange(1, count + 1), method="scan_unrolled")
    return jnp.minimum(places, mask.size - 1)


def hit_points(a, travel, size: int):
    """Returns world points at the rays' ends."""
    return along_rays(a.camera.origin, a.camera.rays(size), travel)


def hit_material(a, travel, size: int):
    """Returns the index into MATERIALS per ray, NOTHING where it missed (int32)."""
    distances = material_distances(a, hit_points(a, travel, size))
    nearest, material = distances[0], jnp.zeros_like(travel, jnp.int32)
    for k, d in enumerate(distances[1:], 1):
        material = jnp.where(d < nearest, k, material)
        nearest = jnp.minimum(nearest, d)
    hit = (nearest < 0.02) & (travel < a.camera.origin[2] + FAR)
    return jnp.where(hit, material, NOTHING)


def normal_probes(a, travel, size: int):
    """Returns the field at four tetrahedron corners about each hit, (4, size^2); `unit_normal` turns them into a
    normal."""
    reach = _TETRAHEDRON[:, :, None] * np.float32(1.2 * DISTANCE / (size * FOCAL) + 0.002)
    p = hit_points(a, travel, size)
    return distance(a, tuple(p[i][None] + reach[:, i] for i in range(3)))


def unit_normal(probes):
    """Returns the normal from `normal_probes`, in world space."""
    a, b, c, d = (probes[i] for i in range(4))
    x, y, z = a - b - c + d, -a - b + c + d, -a + b - c + d
    inverse = lax.rsqrt(x * x + y * y + z * z + 1e-12)
    return x * inverse, y * inverse, z * inverse


def light_stride(size: int, supersample: int) -> int:
    """Returns how many samples per side share a light probe: a pixel, and from 128 pixels on two by two of them."""
    return supersample * (2 if size >= 128 else 1)


def light_sites(a, travel, probes, size: int, stride: int):
    """Returns every stride-th of size^2 samples by row and column: hit points, normals and travels, flat arrays."""
    count, first = size // stride, (stride - 1) // 2

    def pick(values):
        return values.reshape(count, stride, count, stride)[:, first, :, first].reshape(-1)

    points = tuple(pick(v) for v in hit_points(a, travel, size))
    return points, tuple(pick(v) for v in unit_normal(probes)), pick(travel)


def light_probes(a, points, normals):
    """Returns the field along the normal (occlusion) and towards the key light (shadow): (15, N). Glasses cast none."""
    along_normal = np.array(OCCLUSION_REACH + (0.02,) * len(SHADOW_REACH), np.float32)[:, None]
    along_light = np.array((0.0,) * len(OCCLUSION_REACH) + SHADOW_REACH, np.float32)[:, None]
    places = tuple(
        points[i][None] + normals[i][None] * along_normal + a.key_light[i] * along_light for i in range(3)
    )
    return distance(a, places, glasses=False)


def ambient_and_shadow(probes, site_travel, travel, size: int, stride: int):
    """Returns ambient access and key light access in [0, 1] for each of size^2 samples, from the probes at light_sites.
    """
    # Sums and minima are written out: XLA on CPU has got reductions over stacked operands wrong under vmap.
    blocked = 0.0
    for i, reach in enumerate(OCCLUSION_REACH):
        blocked = blocked + jnp.maximum(reach - probes[i], 0.0) * (0.62**i / (reach + 0.12))
    ambient = jnp.clip(1.0 - 0.75 * blocked, 0.0, 1.0)
    clearance = probes[len(OCCLUSION_REACH)] * (4.5 / SHADOW_REACH[0])
    for i, reach in enumerate(SHADOW_REACH[1:], len(OCCLUSION_REACH) + 1):
        clearance = jnp.minimum(clearance, probes[i] * (4.5 / reach))
    lit = mix(0.30, 1.0, smoothstep(-0.25, 1.0, jnp.clip(clearance, -0.25, 1.0)))
    return _spread(ambient, lit, site_travel, travel, size, stride)


def _spread(ambient, lit, site_travel, travel, size: int, stride: int):
    """Bilinear interpolation from the sites to all samples that does not cross steps in depth."""
    count = size // stride
    place = (np.arange(size) - (stride - 1) // 2) / stride
    low = np.floor(place).astype(np.int32)
    share = (place - low).astype(np.float32)
    neighbours = [(np.clip(low, 0, count - 1), 1.0 - share), (np.clip(low + 1, 0, count - 1), share)]
    travel = travel.reshape(size, size)
    ambient, lit, site_travel = (v.reshape(count, count) for v in (ambient, lit, site_travel))
    total = ambient_sum = lit_sum = 0.0
    for rows, row_share in neighbours:
        for columns, column_share in neighbours:
            index = rows[:, None], columns[None, :]
            step = jnp.abs(site_travel[index] - travel)
            weight = row_share[:, None] * column_share[None, :] * (jnp.exp(-30.0 * step) + 1e-4)
            total = total + weight
            ambient_sum = ambient_sum + weight * ambient[index]
            lit_sum = lit_sum + weight * lit[index]
    return (ambient_sum / total).reshape(-1), (lit_sum / total).reshape(-1)

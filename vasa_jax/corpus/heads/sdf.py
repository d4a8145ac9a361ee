"""Signed distance primitives and the few smooth functions the heads are built from.

A point is a tuple (x, y, z) of arrays of one shape, never a stacked array: every operation stays element-wise, so a
whole field compiles to one vectorised loop. Distances are negative inside. Ellipsoids return a first-order distance
(Quilez, "Distance functions", iquilezles.org), exact on the surface and slightly short away from it.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

Vec = tuple  # (x, y, z), each an array or a float


def smooth_min(a, b, radius):
    """Joins two distances with a blend of the given radius (quadratic polynomial blend)."""
    overlap = jnp.maximum(radius - jnp.abs(a - b), 0.0)
    return jnp.minimum(a, b) - overlap * overlap * (0.25 / radius)


def smooth_max(a, b, radius):
    """Intersects two distances with a blend of the given radius."""
    return -smooth_min(-a, -b, radius)


def ellipsoid(p: Vec, centre: Vec, radii: Vec):
    """Returns the first-order distance to an axis-aligned ellipsoid."""
    # Reciprocals of the (per-frame) radii, so that no division is left per point.
    ix, iy, iz = (1.0 / r for r in radii)
    x, y, z = (p[0] - centre[0]) * ix, (p[1] - centre[1]) * iy, (p[2] - centre[2]) * iz
    squared = x * x + y * y + z * z
    x, y, z = x * ix, y * iy, z * iz
    return (squared - jnp.sqrt(squared + 1e-12)) * lax.rsqrt(x * x + y * y + z * z + 1e-9)


def sphere(p: Vec, centre: Vec, radius):
    """Returns the distance to a sphere."""
    x, y, z = p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]
    return jnp.sqrt(x * x + y * y + z * z + 1e-12) - radius


def capsule(p: Vec, start: Vec, end: Vec, start_radius, end_radius):
    """Returns the distance to a segment with a radius that changes linearly from start to end."""
    bx, by, bz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    x, y, z = p[0] - start[0], p[1] - start[1], p[2] - start[2]
    inverse = 1.0 / (bx * bx + by * by + bz * bz)
    along = jnp.clip((x * bx + y * by + z * bz) * inverse, 0.0, 1.0)
    x, y, z = x - along * bx, y - along * by, z - along * bz
    return jnp.sqrt(x * x + y * y + z * z + 1e-12) - (start_radius + along * (end_radius - start_radius))


def smoothstep(low, high, x):
    """Returns 0 below `low`, 1 above `high`, cubic between; `low` > `high` falls instead of rising."""
    t = jnp.clip((x - low) * (1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(a, b, t):
    """Interpolates linearly from `a` at t = 0 to `b` at t = 1."""
    return a + (b - a) * t


def mix3(a: Vec, b: Vec, t) -> Vec:
    """Interpolates vectors linearly from `a` at t = 0 to `b` at t = 1."""
    return tuple(u + (v - u) * t for u, v in zip(a, b))


def gauss(x, width):
    """Returns a bell of height 1 about 0: exp(-(x / width)^2)."""
    return jnp.exp(-jnp.square(x * (1.0 / width)))


def wave(x):
    """Returns a sine of 2 pi x made of parabolas: the same look without a transcendental per point."""
    phase = x - jnp.floor(x) - 0.5
    return 16.0 * phase * (jnp.abs(phase) - 0.5)


def smooth_noise(x, y, z):
    """Returns smooth noise in about [-1, 1] from waves bent by waves."""
    a = wave(x * 0.7 + 0.4 * wave(y * 0.9))
    b = wave(y * 0.8 + 0.4 * wave(z * 0.7 + 0.3))
    c = wave(z * 0.6 + 0.4 * wave(x * 0.8 + 0.1))
    return (a + b + c) * (1.0 / 3.0)


def dot(a: Vec, b: Vec):
    """Returns the scalar product of two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def normalize(a: Vec) -> Vec:
    """Scales a vector to length 1."""
    inverse = lax.rsqrt(dot(a, a) + 1e-12)
    return tuple(v * inverse for v in a)


def rotation(yaw, pitch, roll) -> tuple[Vec, Vec, Vec]:
    """Returns rows of Ry(yaw) Rx(pitch) Rz(roll), angles in radians, written out element by element."""
    cy, sy = jnp.cos(yaw), jnp.sin(yaw)
    cx, sx = jnp.cos(pitch), jnp.sin(pitch)
    cz, sz = jnp.cos(roll), jnp.sin(roll)
    return (
        (cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx),
        (cx * sz, cx * cz, -sx),
        (cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx),
    )


def rotate(rows, p: Vec) -> Vec:
    """Applies a rotation given by its rows."""
    return tuple(dot(row, p) for row in rows)


def rotate_back(rows, p: Vec) -> Vec:
    """Applies the inverse rotation: the transpose of `rows` times p."""
    return tuple(rows[0][i] * p[0] + rows[1][i] * p[1] + rows[2][i] * p[2] for i in range(3))

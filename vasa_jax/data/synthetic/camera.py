"""The pinhole camera: it looks along -z of world space from a fixed height, at a distance that the motion sets."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

FOCAL = 4.75  # in half image widths
DISTANCE = 7.0  # of a camera at dist = 1 from the world's origin, in head units
HEIGHT = -0.12


def camera_origin(motion: dict) -> tuple:
    return 0.0, HEIGHT, DISTANCE * motion["dist"]


def camera_rays(size: int) -> tuple:
    """Unit directions (x, y, z), each (size * size,), of the rays through the pixel centres, row by row."""
    centre = (jnp.arange(size, dtype=jnp.float32) * 2.0 + 1.0) / size - 1.0
    x = jnp.broadcast_to(centre[None, :], (size, size)).reshape(-1)
    y = jnp.broadcast_to(-centre[:, None], (size, size)).reshape(-1)
    inverse = lax.rsqrt(x * x + y * y + FOCAL * FOCAL)
    return x * inverse, y * inverse, -FOCAL * inverse


def along_rays(origin: tuple, rays: tuple, travel) -> tuple:
    return tuple(o + r * travel for o, r in zip(origin, rays))


def project(motion: dict, p: tuple) -> tuple:
    """World points to image coordinates: x, y in [-1, 1] with y down, and depth along the optical axis."""
    origin = camera_origin(motion)
    depth = origin[2] - p[2]
    scale = FOCAL / depth
    return p[0] * scale, -(p[1] - origin[1]) * scale, depth

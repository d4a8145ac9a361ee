"""The pinhole camera: it looks along -z of world space from a fixed height."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

FOCAL = 4.75  # at lens 1, in half image widths
DISTANCE = 7.0  # from the world's origin at motion `dist` = 1 and lens 1, in head units (10 cm)
HEIGHT = -0.12  # over the world's origin, in head units


class Camera(NamedTuple):
    """Where the camera is and what its lens is like. Sizes in the picture go with focal / depth."""

    focal: jax.Array  # in half image widths
    z: jax.Array  # in world space, head units

    @classmethod
    def through(cls, lens: jax.Array, dist: jax.Array, centre: jax.Array) -> Camera:
        """The camera of a lens `lens` times as long as the usual one, as many times as far from the head's centre, at
        depth `centre` of world space: the head has the same place and size in the picture, with less perspective above
        1 and more below. `dist` is the motion's distance."""
        return cls(FOCAL * lens, centre + lens * (DISTANCE * dist - centre))

    @property
    def origin(self) -> tuple:
        return 0.0, HEIGHT, self.z

    def project(self, p: tuple) -> tuple:
        """World points to image coordinates: x, y in [-1, 1] with y down, and depth along the optical axis."""
        depth = self.z - p[2]
        scale = self.focal / depth
        return p[0] * scale, -(p[1] - HEIGHT) * scale, depth

    def rays(self, size: int) -> tuple:
        """Unit directions (x, y, z), each (size * size,), of the rays through the pixel centres, row by row."""
        centre = (jnp.arange(size, dtype=jnp.float32) * 2.0 + 1.0) / size - 1.0
        x = jnp.broadcast_to(centre[None, :], (size, size)).reshape(-1)
        y = jnp.broadcast_to(-centre[:, None], (size, size)).reshape(-1)
        inverse = lax.rsqrt(x * x + y * y + self.focal * self.focal)
        return x * inverse, y * inverse, -self.focal * inverse


def along_rays(origin: tuple, rays: tuple, travel) -> tuple:
    return tuple(o + r * travel for o, r in zip(origin, rays))

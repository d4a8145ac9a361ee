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
    """Where the camera is and what its lens is like. Sizes in the image go with focal / depth."""

    focal: jax.Array  # in half image widths
    z: jax.Array  # in world space, head units

    @classmethod
    def through(cls, lens: jax.Array, dist: jax.Array, centre: jax.Array) -> Camera:
        """Returns the camera of a lens `lens` times as long as the usual one, and as many times as far away.

        The head, with its centre at depth `centre` of world space, keeps its place and size in the image. Perspective
        is less above 1 and more below. `dist` is the motion's distance.
        """
        return cls(FOCAL * lens, centre + lens * (DISTANCE * dist - centre))

    @property
    def origin(self) -> tuple:
        """The camera's place in world space."""
        return 0.0, HEIGHT, self.z

    def project(self, p: tuple) -> tuple:
        """Projects world points to image coordinates: x, y in [-1, 1] with y down, and depth along the optical axis."""
        depth = self.z - p[2]
        scale = self.focal / depth
        return p[0] * scale, -(p[1] - HEIGHT) * scale, depth

    def rays(self, size: int) -> tuple:
        """Returns the unit directions (x, y, z), each (size^2,), of the rays through the pixel centres, row by row."""
        centre = (jnp.arange(size, dtype=jnp.float32) * 2.0 + 1.0) / size - 1.0
        x = jnp.broadcast_to(centre[None, :], (size, size)).reshape(-1)
        y = jnp.broadcast_to(-centre[:, None], (size, size)).reshape(-1)
        inverse = lax.rsqrt(x * x + y * y + self.focal * self.focal)
        return x * inverse, y * inverse, -self.focal * inverse


def along_rays(origin: tuple, rays: tuple, travel) -> tuple:
    """Returns the points that lie `travel` along rays from one origin."""
    return tuple(o + r * travel for o, r in zip(origin, rays))

"""The pinhole camera: it looks along -z of world space from a fixed height, at a distance that the motion sets."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax


class Camera(NamedTuple):
    """Where the camera is and what its lens is like. Head sizes in the picture go with focal / distance."""

    focal: float = 4.75  # in half image widths
    distance: float = 7.0  # from the world's origin at motion `dist` = 1, in head units (10 cm)
    height: float = -0.12  # over the world's origin, in head units

    def longer(self, factor: float) -> Camera:
        """The same picture size of a head by a lens `factor` times as long, from as many times as far: flatter for a
        factor above 1, with more perspective below."""
        return self._replace(focal=self.focal * factor, distance=self.distance * factor)

    def origin(self, motion: dict) -> tuple:
        return 0.0, self.height, self.distance * motion["dist"]

    def rays(self, size: int) -> tuple:
        """Unit directions (x, y, z), each (size * size,), of the rays through the pixel centres, row by row."""
        centre = (jnp.arange(size, dtype=jnp.float32) * 2.0 + 1.0) / size - 1.0
        x = jnp.broadcast_to(centre[None, :], (size, size)).reshape(-1)
        y = jnp.broadcast_to(-centre[:, None], (size, size)).reshape(-1)
        inverse = lax.rsqrt(x * x + y * y + self.focal * self.focal)
        return x * inverse, y * inverse, -self.focal * inverse

    def project(self, motion: dict, p: tuple) -> tuple:
        """World points to image coordinates: x, y in [-1, 1] with y down, and depth along the optical axis."""
        origin = self.origin(motion)
        depth = origin[2] - p[2]
        scale = self.focal / depth
        return p[0] * scale, -(p[1] - origin[1]) * scale, depth


CAMERA = Camera()  # of the corpus


def along_rays(origin: tuple, rays: tuple, travel) -> tuple:
    return tuple(o + r * travel for o, r in zip(origin, rays))

"""Images moved, scaled and turned in their plane, and head poses brought back from them: a reader sees heads anywhere.

A point p of the image's coordinates (`models.geometry`) goes to k Q p + u, with Q a turn of the plane. An orthographic
camera makes that exact: the pose (R, log s, t) becomes (Q R, log s + log k, k Q t + u).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.geometry import bilinear_sample, pixel_grid, rotation_from_6d

MOVE, FURTHEST = 0.2, 0.5  # of half a side: standard deviation and limit of each coordinate
SCALE, LARGEST = 0.12, 0.3  # the same of log k
TURN, STEEPEST = 0.12, 0.35  # the same of the turn, radians


class Placement(NamedTuple):
    """Similarities of the plane, one for each image."""

    turn: Float[Array, "B 2 2"]  # Q
    scale: Float[Array, "B"]  # k
    move: Float[Array, "B 2"]  # u


def sample_placement(key: jax.Array, count: int, share: float) -> Placement:
    """Draws `count` similarities; a share of 1 - `share` are the identity."""
    keys = jax.random.split(key, 4)
    on = (jax.random.uniform(keys[0], (count,)) < share).astype(jnp.float32)

    def normal(key, shape, spread, limit):
        return jnp.clip(spread * jax.random.normal(key, (count, *shape)), -limit, limit)

    angle = on * normal(keys[1], (), TURN, STEEPEST)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
    return Placement(
        turn, jnp.exp(on * normal(keys[2], (), SCALE, LARGEST)), on[:, None] * normal(keys[3], (2,), MOVE, FURTHEST)
    )


def placed(image: Float[Array, "B h w 3"], placement: Placement) -> Float[Array, "B h w 3"]:
    """Returns the images moved; beyond an edge its pixels go on."""
    grid = pixel_grid(*image.shape[1:3])[None] - placement.move[:, None, None]
    inverse = jnp.swapaxes(placement.turn, 1, 2) / placement.scale[:, None, None]
    return bilinear_sample(image, _turned(inverse[:, None, None], grid), "border")


def put_back(pose: Float[Array, "B 9"], placement: Placement) -> Float[Array, "B 9"]:
    """Returns the poses, read in moved images, as they are in those before."""
    inverse = jnp.swapaxes(placement.turn, 1, 2)
    rotation = rotation_from_6d(pose[:, :6])
    plane = jnp.swapaxes(_turned(inverse[:, None], jnp.swapaxes(rotation[:, :2], 1, 2)), 1, 2)
    rotation = jnp.concatenate([plane, rotation[:, 2:]], 1)
    move = _turned(inverse, pose[:, 7:9] - placement.move) / placement.scale[:, None]
    scale = pose[:, 6:7] - jnp.log(placement.scale)[:, None]
    return jnp.concatenate([rotation[..., 0], rotation[..., 1], scale, move], -1)


def _turned(matrix: Float[Array, "... 2 2"], points: Float[Array, "... 2"]) -> Float[Array, "... 2"]:
    """Matrix times point, written out: an accelerator rounds products of matrices."""
    x, y = points[..., 0], points[..., 1]
    return jnp.stack([matrix[..., i, 0] * x + matrix[..., i, 1] * y for i in range(2)], -1)

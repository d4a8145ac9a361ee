"""Colour transforms that make a model see more cameras and lights than its data has."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.geometry import bilinear_sample, pixel_grid


def sample_colour_transform(key: jax.Array, count: int, share: float) -> dict[str, jax.Array]:
    """Draws parameters of `count` random colour transforms; a share of 1 - `share` are the identity."""
    keys = jax.random.split(key, 6)
    on = (jax.random.uniform(keys[0], (count,)) < share).astype(jnp.float32)

    def around_one(key, shape, spread):
        value = jnp.exp(spread * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))
        return 1.0 + (value - 1.0) * on.reshape(-1, *[1] * (len(shape) - 1))

    return {
        "gamma": around_one(keys[1], (count,), 0.35),
        "contrast": around_one(keys[2], (count,), 0.3),
        "saturation": around_one(keys[3], (count,), 0.6),
        "channels": around_one(keys[4], (count, 3), 0.15),
        "brightness": 0.12 * on * jax.random.uniform(keys[5], (count,), minval=-1.0, maxval=1.0),
    }


def apply_colour_transform(image: Float[Array, "b h w 3"], transform: dict[str, jax.Array]) -> Float[Array, "b h w 3"]:
    """Applies the transform of each example to its image in [0, 1]."""

    def per_example(value):
        return value[:, None, None, None]

    image = jnp.maximum(image, 1e-4) ** per_example(transform["gamma"])
    image = (image - 0.5) * per_example(transform["contrast"]) + 0.5 + per_example(transform["brightness"])
    gray = image.mean(-1, keepdims=True)
    image = gray + (image - gray) * per_example(transform["saturation"])
    return jnp.clip(image * transform["channels"][:, None, None, :], 0.0, 1.0)


def random_warp(image: Float[Array, "b h w 3"], key: jax.Array, strength: float, cells: int = 8) -> Array:
    """Bends each image by a smooth random warp of its own: the shape of a face changes, its expression stays readable.

    A grid of (cells + 1)^2 nodes is displaced and interpolated by cubic splines. Displacements are normal with a
    standard deviation of `strength` cells (0.1 in MegaPortraits' code), zero on the border.
    """
    batch, height, width = image.shape[:3]
    nodes = strength * 2.0 / cells * jax.random.normal(key, (batch, cells - 1, cells - 1, 2))
    nodes = jnp.pad(nodes, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shift = jax.image.resize(nodes, (batch, height, width, 2), "cubic")
    return bilinear_sample(image, pixel_grid(height, width)[None] + shift, "border")

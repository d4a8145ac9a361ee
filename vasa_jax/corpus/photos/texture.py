"""Reading pictures at places, and soft steps; for jit and vmap."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num


def bilinear(image: Num[Array, "h w c"], x: Array, y: Array) -> Float[Array, "... c"]:
    """Samples an image at pixel positions (centres at integers), float32; the image's edge is repeated."""
    height, width = image.shape[:2]
    x, y = jnp.clip(x, 0.0, width - 1.0), jnp.clip(y, 0.0, height - 1.0)
    x0, y0 = jnp.minimum(jnp.floor(x), width - 2.0), jnp.minimum(jnp.floor(y), height - 2.0)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    base = (y0 * width + x0).astype(jnp.int32)
    table = image.reshape(height * width, -1)
    a, b, c, d = (table[base + offset].astype(jnp.float32) for offset in (0, 1, width, width + 1))
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy


def step(low: float, high: float, x: Array) -> Array:
    """Rises smoothly from 0 at `low` to 1 at `high`."""
    t = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)

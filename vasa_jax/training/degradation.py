"""Frames as a decoder, a codec or a poor camera might leave them; their labels stay exact."""

import jax
import jax.numpy as jnp
import numpy as np


def degrade(image_BHWC: jax.Array, key: jax.Array, share: float) -> jax.Array:
    """Gives a random `share` of frames in [0, 1] a blur, JPEG-like blocks, noise and exposure, each its own.

    The other frames pass unchanged.
    """
    batch, size = image_BHWC.shape[:2]
    keys = iter(jax.random.split(key, 10))

    def uniform(low, high, *shape):
        return jax.random.uniform(next(keys), (batch, *(shape or (1, 1, 1))), minval=low, maxval=high)

    x = image_BHWC
    # Blur as a pair of matrices: up to 2.2 pixels wide, and none for about a third.
    sigma = jnp.maximum(uniform(-1.1, 2.2), 0.05)
    distance = jnp.arange(size)[:, None] - jnp.arange(size)[None]
    kernel = jnp.exp(-0.5 * jnp.square(distance[None] / sigma[..., 0]))
    kernel = kernel / kernel.sum(-1, keepdims=True)
    x = jnp.einsum("bij,bjwc->biwc", kernel, x)
    x = jnp.einsum("bij,bhjc->bhic", kernel, x)
    x = _blocks(x, jnp.maximum(uniform(-0.06, 0.06), 1e-4))
    x = x + jnp.maximum(uniform(-0.03, 0.04), 0.0) * jax.random.normal(next(keys), x.shape)
    # Exposure, colour, contrast, gamma.
    gray = x.mean(-1, keepdims=True)
    x = gray + uniform(0.6, 1.3) * (x - gray)
    x = 0.5 + uniform(0.75, 1.25) * (x * uniform(0.9, 1.1, 1, 1, 3) - 0.5) + uniform(-0.1, 0.1)
    x = jnp.clip(x, 1e-3, 1.0) ** uniform(0.8, 1.25)
    return jnp.where(jax.random.uniform(next(keys), (batch, 1, 1, 1)) < share, x, image_BHWC)


def _blocks(image_BHWC: jax.Array, step_B111: jax.Array) -> jax.Array:
    """Rounds the cosine coefficients of 8 x 8 blocks as JPEG does: by `step` the lowest, finer ones more coarsely."""
    batch, height, width, channels = image_BHWC.shape
    n = np.arange(8)
    basis = np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / 16) * np.sqrt(np.where(n == 0, 1, 2) / 8)[:, None]
    blocks = image_BHWC.reshape(batch, height // 8, 8, width // 8, 8, channels)
    coefficients = jnp.einsum("bhywxc,iy,jx->bhiwjc", blocks, basis, basis)
    step = step_B111[..., None, None] * (1.0 + n[:, None, None, None] + n[None, None, :, None])
    coefficients = jnp.round(coefficients / step) * step
    return jnp.einsum("bhiwjc,iy,jx->bhywxc", coefficients, basis, basis).reshape(image_BHWC.shape)

"""Pictures to mark."""

import jax
import jax.numpy as jnp
import numpy as np


def smooth_pictures(count, size, seed=0):
    """Returns coloured clouds with a little texture, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(seed)
    coarse = jnp.asarray(rng.uniform(30, 220, (count, 8, 8, 3)), jnp.float32)
    picture = np.asarray(jax.image.resize(coarse, (count, size, size, 3), "cubic"))
    return np.clip(picture + rng.normal(size=picture.shape) * 2, 0, 255).astype(np.uint8)

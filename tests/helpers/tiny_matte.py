"""A portrait matte of tiny size with random parameters, as generation expects it beside a tiny model."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.models.portrait_matte import PortraitMatte
from vasa_jax.models.variants import MATTE_VARIANTS
from vasa_jax.weights.safetensors_io import save_params

FIELDS = MATTE_VARIANTS["matte_tiny"]


def tiny_matte(seed=0):
    """Random parameters, and metadata."""
    params = PortraitMatte(**FIELDS).init(jax.random.key(seed), jnp.zeros((1, 16, 16, 3)))["params"]
    return jax.tree.map(np.asarray, params), {"fields": FIELDS}


def save_tiny_matte(directory: Path, seed=0) -> Path:
    save_params(directory / "matte.safetensors", *tiny_matte(seed), jnp.float32)
    return directory

"""A lip reader of tiny size with random parameters, as generation expects it beside a tiny model."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from random_params import random_params

from vasa_jax.conventions import DYNAMICS_DIM
from vasa_jax.models.lip_reader import PARTS, LipReader
from vasa_jax.models.variants import LIPS_VARIANTS
from vasa_jax.weights.safetensors_io import save_params


def tiny_lips(seed=0, width=DYNAMICS_DIM):
    """Parameters and metadata; the mouth opens in every dimension of the dynamics."""
    fields, rng = LIPS_VARIANTS["lips_tiny"], np.random.default_rng(seed)
    network = LipReader(**fields)
    heard = jnp.zeros((1, network.before + 1 + network.after, PARTS * network.mels))
    read = rng.standard_normal(width) / width
    move = rng.uniform(0.5, 2.0, width) * read
    direction = {"read": read, "move": move / (read @ move), "offset": [0.02], "mean": [0.1], "deviation": [0.08]}
    content = {
        "reader": random_params(network.init, heard)["params"],
        "spectrum": 0.1 * rng.standard_normal(network.mels),
        "direction": {name: np.asarray(value, np.float32) for name, value in direction.items()},
    }
    return content, {"fields": fields, "dynamics": width}


def save_tiny_lips(directory: Path, **given) -> Path:
    content, metadata = tiny_lips(**given)
    save_params(directory / "lips.safetensors", content, metadata, jnp.float32)
    return directory

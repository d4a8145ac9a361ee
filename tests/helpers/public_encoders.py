"""Small audio encoders at random weights, and their tensors as public files name them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from random_params import random_params

from vasa_jax.models.audio import AudioEncoder

SMALL = {"conv_width": 8, "width": 64, "layers": 2, "heads": 1, "ff_width": 24, "pos_kernel": 6, "pos_groups": 4}
LAYOUTS = {
    "base": SMALL | {"conv_norm": "group", "conv_bias": False, "pre_norm": False},
    "large": SMALL | {"conv_norm": "layer", "conv_bias": True, "pre_norm": True},
}
SPELLINGS = {
    "weight_g": ("weight_g", "weight_v"),
    "parametrizations": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
}
POSITIONS = "encoder.pos_conv_embed.conv"


def random_encoder(layout):
    params = random_params(AudioEncoder(**LAYOUTS[layout]).init, jnp.zeros((1, 4000)))["params"]
    return jax.tree.map(np.float32, params)


def public_state(params, spelling="weight_g", prefix=""):
    """The tensors of a public file with these parameters, renamed without the table under test."""
    state = {}
    for path, value in traverse_util.flatten_dict(params, sep=".").items():
        name = re.sub(r"layers_(\d+)", r"layers.\1", path)
        name = re.sub(r"(kernel|scale)$", "weight", name)
        state[prefix + name] = np.ascontiguousarray(np.transpose(value) if path.endswith("kernel") else value)
    weight = state.pop(f"{prefix}{POSITIONS}.weight")
    gain, direction = SPELLINGS[spelling]
    state[f"{prefix}{POSITIONS}.{gain}"] = np.sqrt(np.square(weight).sum((0, 1), keepdims=True))
    taps = np.random.default_rng(1).uniform(0.2, 3.0, weight.shape[2]).astype(np.float32)
    state[f"{prefix}{POSITIONS}.{direction}"] = weight * taps  # the length of a direction means nothing
    return state | {f"{prefix}masked_spec_embed": np.zeros(64, np.float32)}

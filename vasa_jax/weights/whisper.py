"""Whisper's encoder from the files that Hugging Face has: model.safetensors or pytorch_model.bin.

openai/whisper-tiny, -tiny.en, -base, -small and larger ones of 80 mels; MIT (Apache-2.0 by some mirrors).
"""

from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from vasa_jax.errors import InputError
from vasa_jax.models.whisper import HEAD_WIDTH, WhisperEncoder, initial
from vasa_jax.weights.wav2vec2 import key_table

MOST_WIDTH, MOST_LAYERS = 1280, 32  # of the large ones
_PREFIXES = ("model.encoder.", "encoder.")
_POSITIONS = "embed_positions.weight"
_WANTED = "give model.safetensors of a Whisper with 80 mels, in the naming of Hugging Face"


def is_whisper(state: dict[str, Any]) -> bool:
    """Says whether tensors by name are those of a Whisper."""
    return any(f"{prefix}{_POSITIONS}" in state for prefix in _PREFIXES)


def load_whisper(state: dict[str, Any], path: Path) -> tuple[WhisperEncoder, dict[str, Any]]:
    """Returns the encoder that tensors by name describe, and its parameters, float32; InputError names the fault."""
    prefix = next(prefix for prefix in _PREFIXES if f"{prefix}{_POSITIONS}" in state)
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    width = (0, *state[_POSITIONS].shape)[-1]
    count = len({name.split(".")[1] for name in state if name.startswith("layers.")})
    if width % HEAD_WIDTH or not 0 < width <= MOST_WIDTH or not 0 < count <= MOST_LAYERS:
        raise InputError(f"{path}: {count} layers of width {width}, no Whisper has these; {_WANTED}")
    encoder = WhisperEncoder(width, count)
    shapes = initial(encoder)
    expected, params = traverse_util.flatten_dict(shapes), {}
    positions = {_POSITIONS: ((_POSITIONS.split(".")[0],), False)}
    layers = key_table({name: value for name, value in shapes.items() if (name,) not in expected})
    for name, (target, turned) in (positions | layers).items():
        shape = expected[target].shape
        if name.endswith("k_proj.bias"):  # Whisper's keys have none
            params[target] = np.zeros(shape, np.float32)
            continue
        if name not in state:
            raise InputError(f"{path}: no tensor '{prefix}{name}'; {_WANTED}")
        value = np.asarray(state[name], np.float32)
        value = value.T if turned else value
        if value.shape != shape or not np.isfinite(value).all():
            raise InputError(f"{path}: '{prefix}{name}' is no finite {shape}; {_WANTED}")
        params[target] = np.ascontiguousarray(value)
    return encoder, traverse_util.unflatten_dict(params)

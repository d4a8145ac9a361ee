"""Parameter trees as safetensors files, readable without this package."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.errors import InputError
from vasa_jax.files import replacing


def save_params(path: str | Path, params: dict[str, Any], metadata: dict[str, Any], dtype=jnp.bfloat16) -> None:
    """Writes a nested dict of arrays under dotted names; float arrays are stored as `dtype`, vectors as float32.

    bfloat16 ships weights in half the bytes and keeps 8 bits of their mantissa. float32 keeps every bit: use it for
    weights that are trained further. Vectors (biases, norm scales, statistics) are a small share of the bytes and the
    most sensitive to rounding. `metadata` values are stored as JSON. The file appears whole or not at all.
    """
    from safetensors.numpy import save_file

    tensors = {}
    for key, value in traverse_util.flatten_dict(params, sep=".").items():
        value = np.asarray(value)
        if np.issubdtype(value.dtype, np.floating):
            value = value.astype(dtype if value.ndim > 1 else np.float32)
        tensors[key] = np.ascontiguousarray(value)
    with replacing(path) as part:
        save_file(tensors, part, metadata={key: json.dumps(value) for key, value in metadata.items()})


def load_params(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file of `save_params`: (nested dict of float32 arrays, metadata).

    Raises InputError when it is missing or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; train it or point config.checkpoint at a directory that has it")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); export it again") from error
    flat = {key: value.astype(np.float32) if value.dtype.kind in "fV" else value for key, value in flat.items()}
    return traverse_util.unflatten_dict(flat, sep="."), metadata

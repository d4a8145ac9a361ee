"""Parameter trees as safetensors files, readable without this package."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.errors import InputError
from vasa_jax.files import open_regular, parse_json, replacing

FLOATS = ("F64", "F32", "F16", "BF16")
DTYPES = (*FLOATS, "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
LARGEST_WEIGHT = 1e6  # of a network made here; products of larger ones overflow
LARGEST_HEADER = 16 * 2**20  # bytes
MOST_TENSORS, LONGEST_NAME = 50_000, 300
SCALE = "@scale"  # what the scales of an int8 tensor have behind its name
_REMEDY = "export it again"


def save_params(path: str | Path, params: dict[str, Any], metadata: dict[str, Any], dtype=jnp.bfloat16) -> None:
    """Writes a nested dict of arrays under dotted names; float arrays are stored as `dtype`, vectors as float32.

    bfloat16 ships weights in half the bytes and keeps 8 bits of their mantissa. int8 takes a quarter: each output
    channel (last axis) is stored as whole numbers up to 127 times a float32 of its own. float32 keeps every bit: use it
    for weights that are trained further. Vectors (biases, norm scales, statistics) are a small share of the bytes and
    the most sensitive to rounding. `metadata` values are stored as JSON. The file appears whole or not at all.
    """
    from safetensors.numpy import save_file

    tensors = {}
    for key, value in traverse_util.flatten_dict(params, sep=".").items():
        value = np.asarray(value)
        if np.issubdtype(value.dtype, np.floating):
            if value.ndim > 1 and jnp.dtype(dtype) == jnp.int8:
                value, tensors[key + SCALE] = _whole_numbers(value)
            else:
                value = value.astype(dtype if value.ndim > 1 else np.float32)
        tensors[key] = np.ascontiguousarray(value)
    with replacing(path) as part:
        save_file(tensors, part, metadata={key: json.dumps(value) for key, value in metadata.items()})


def load_params(
    path: str | Path, check: Callable[[dict[str, tuple[int, ...]], dict[str, Any]], None] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file of `save_params`: (nested dict of float32 arrays, metadata).

    `check` sees the shapes by name, and the metadata, before any tensor is read; then all have to be floats. Raises
    InputError for a path that is no regular file, a file that is damaged, and names, types and numbers that no network
    can use.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file; train it or point config.checkpoint at a directory that has it")
    check_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            stored = file.metadata() or {}
            metadata = {key: parse_json(value, f"{path}: metadata {key}", _REMEDY) for key, value in stored.items()}
            _check_names(path, names)
            slices = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
            types = {name: tensor.get_dtype() for name, tensor in slices.items()}
            scales = [name for name in names if name.endswith(SCALE)]
            for name in scales:
                whole, axis = name.removesuffix(SCALE), shapes.pop(name)
                fits = types.get(whole) == "I8" and types[name] in FLOATS
                if not fits or not axis or axis != shapes.get(whole, ())[-1:]:
                    raise InputError(f"{path}: '{name}' are not the scales of an int8 tensor's last axis; {_REMEDY}")
            for name in shapes:
                if types[name] not in (DTYPES if check is None else FLOATS) and name + SCALE not in scales:
                    raise InputError(f"{path}: '{name}' is {types[name]}; save it as float32, bfloat16 or int8")
            if check is not None:
                check(shapes, metadata)
            largest = np.inf if check is None else LARGEST_WEIGHT
            flat = {name: _read_tensor(path, name, file, largest) for name in shapes}
            for name in scales:
                whole = name.removesuffix(SCALE)
                flat[whole] = flat[whole] * _read_tensor(path, name, file, largest / 128)
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        fault = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a readable safetensors file ({fault}); {_REMEDY}") from error
    return traverse_util.unflatten_dict(flat, sep="."), metadata


def _whole_numbers(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns int8 and the float32 of each entry of the last axis by which it is multiplied."""
    scale = np.abs(value).max(tuple(range(value.ndim - 1))).astype(np.float32) / 127.0
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return np.round(value / scale).astype(np.int8), scale


def check_header(path: Path, remedy: str = _REMEDY) -> None:
    """Raises InputError, which ends with `remedy`, for a safetensors file whose header is cut or large.

    The library allows headers of 100 MB, which take ten times as much memory.
    """
    with open_regular(path, remedy) as file:
        start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(LARGEST_HEADER, path.stat().st_size - 8):
        raise InputError(f"{path}: not a readable safetensors file (its header is cut or too large); {remedy}")


def _check_names(path: Path, names: list[str]) -> None:
    """Dotted names become a tree: none may be empty, or lie within another."""
    known = set(names)
    if len(names) > MOST_TENSORS:
        raise InputError(f"{path}: {len(names)} tensors, more than any network here has; {_REMEDY}")
    for name in names:
        parts = name.split(".")
        if not all(parts) or len(name) > LONGEST_NAME:
            raise InputError(f"{path}: '{name[:60]}' is no name of a tensor; {_REMEDY}")
        within = next((outer for n in range(1, len(parts)) if (outer := ".".join(parts[:n])) in known), None)
        if within is not None:
            raise InputError(f"{path}: '{within}' and '{name}' are both tensors; {_REMEDY}")


def _read_tensor(path: Path, name: str, file: Any, largest: float) -> np.ndarray:
    value = file.get_tensor(name)
    if value.dtype.kind not in "fV":  # V: bfloat16
        return value
    with np.errstate(over="ignore"):
        value = value.astype(np.float32)
    if not np.isfinite(value).all():
        raise InputError(f"{path}: '{name}' is not finite; {_REMEDY}")
    if value.size and max(value.max(), -value.min()) > largest:
        raise InputError(f"{path}: '{name}' holds numbers beyond {largest:g}; {_REMEDY}")
    return value

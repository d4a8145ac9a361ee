"""Parameters of published networks of evaluation, from their own files or from those of job `import_weights`.

| network | file of its publisher | file of `import_weights` |
|---|---|---|
| SyncNet | syncnet_v2.model | syncnet.safetensors |
| I3D | i3d_pretrained_400.pt | i3d.safetensors |

Batch norms are folded into the layers before them, in float64.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.models.i3d import BLOCKS
from vasa_jax.weights.published_tables import Table, difference, i3d_table, syncnet_table
from vasa_jax.weights.tensor_files import flat_state, read_tensors

State = Mapping[str, np.ndarray]
FILES = {"syncnet": ("syncnet_v2.model", "syncnet.safetensors"), "i3d": ("i3d_pretrained_400.pt", "i3d.safetensors")}
_EPSILON = 1e-5  # of both networks' batch norms
_CONVOLUTIONS = (0, 4, 8, 11, 14, 18)  # their places in netcnnaud and netcnnlip


def find_published(folder: str | os.PathLike, network: str) -> Path | None:
    """Returns the file of a network, a name of FILES, in a folder; None where it is not there."""
    return next((path for name in FILES[network] if (path := Path(folder) / name).is_file()), None)


def load_syncnet(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the parameters of `SyncNet`; InputError for another file, or one with numbers that are not finite."""
    return _loaded(path, syncnet_table(), syncnet_params)


def load_i3d(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the parameters of `I3D`; InputError for another file, or one with numbers that are not finite."""
    return _loaded(path, i3d_table(), i3d_params)


def syncnet_params(state: State) -> dict[str, Any]:
    """Makes the parameters of `SyncNet` of tensors under their published names."""
    params: dict[str, Any] = {}
    for branch in ("lip", "aud"):
        layers = {}
        for place in _CONVOLUTIONS:
            kernel, bias = _folded(state, f"netcnn{branch}.{place}", f"netcnn{branch}.{place + 1}")
            if branch == "lip":  # (out, in, frames, h, w): frames and channels become one axis
                kernel = kernel.transpose(3, 4, 2, 1, 0)
                kernel = kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1])
            else:
                kernel = kernel.transpose(2, 3, 1, 0)
            layers[f"conv{place}"] = _layer(kernel, bias)
        kernel, bias = _folded(state, f"netfc{branch}.0", f"netfc{branch}.1")
        layers["fc0"] = _layer(kernel.T, bias)
        layers["fc3"] = _layer(state[f"netfc{branch}.3.weight"].T, state[f"netfc{branch}.3.bias"])
        params[f"{branch}_encoder"] = layers
    return params


def i3d_params(state: State) -> dict[str, Any]:
    """Makes the parameters of `I3D` of tensors under their published names."""

    def unit(name: str) -> dict[str, Any]:
        kernel, bias = _folded(state, f"{name}.conv3d", f"{name}.bn")
        return {"conv3d": _layer(kernel.transpose(2, 3, 4, 1, 0), bias)}

    params: dict[str, Any] = {name: unit(name) for name in ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")}
    for block in BLOCKS:
        branches = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
        params[f"Mixed_{block}"] = {branch: unit(f"Mixed_{block}.{branch}") for branch in branches}
    kernel = state["logits.conv3d.weight"][:, :, 0, 0, 0].T
    return params | {"logits": _layer(kernel, state["logits.conv3d.bias"])}


def _folded(state: State, layer: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias (float64, PyTorch's order) of a layer with the batch norm after it."""
    of_norm = {kind: np.asarray(state[f"{norm}.{kind}"], np.float64)
               for kind in ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
    scale = of_norm["weight"] / np.sqrt(of_norm["running_var"] + _EPSILON)
    kernel = np.asarray(state[f"{layer}.weight"], np.float64)
    own = np.asarray(state.get(f"{layer}.bias", 0.0), np.float64)
    bias = (own - of_norm["running_mean"]) * scale + of_norm["bias"]
    return kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)), bias


def _layer(kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    return {"kernel": np.ascontiguousarray(kernel, np.float32), "bias": np.asarray(bias, np.float32)}


def _loaded(path: str | os.PathLike, table: Table, convert: Callable[[State], dict[str, Any]]) -> dict[str, Any]:
    remedy = "download it again from its publisher"
    state = flat_state(read_tensors(path))
    if fault := difference(state, table):
        raise InputError(f"{path}: {fault}; {remedy}")
    for name, value in state.items():
        if not np.isfinite(value).all() or (name.endswith("running_var") and value.min() < 0):
            raise InputError(f"{path}: '{name}' holds numbers that no network can use; {remedy}")
    return convert(state)

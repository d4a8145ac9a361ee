"""Parameters of published networks of evaluation, from their own files or from those of job `import_weights`.

| network | file of its publisher | file of `import_weights` |
|---|---|---|
| SyncNet | syncnet_v2.model | syncnet.safetensors |
| I3D | i3d_pretrained_400.pt | i3d.safetensors |
| Inception of FID | pt_inception-2015-12-05-6726825d.pth | inception.safetensors |
| Deep3DFaceRecon's network | epoch_20.pth | face_model.safetensors |

Batch norms are folded into the layers before them, in float64.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.models import face_model
from vasa_jax.models.i3d import BLOCKS
from vasa_jax.weights.published_tables import (
    Table,
    difference,
    face_model_table,
    i3d_table,
    inception_table,
    syncnet_table,
)
from vasa_jax.weights.tensor_files import flat_state, read_tensors

State = Mapping[str, np.ndarray]
RECONSTRUCTION = "net_recon"  # the network in a checkpoint of Deep3DFaceRecon's training
_EPSILON = 1e-5  # of the batch norms
_INCEPTION_EPSILON = 1e-3
_CONVOLUTIONS = (0, 4, 8, 11, 14, 18)  # their places in netcnnaud and netcnnlip


class Published(NamedTuple):
    """A network and its files.

    files: its publisher's, then that of `import_weights`. part: takes the network out of what its file holds.
    """

    files: tuple[str, str]
    table: Callable[[], Table]
    convert: Callable[[State], dict[str, Any]]
    part: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict


def find_published(folder: str | os.PathLike, network: str) -> Path | None:
    """Returns the file of a network, a name of NETWORKS, in a folder; None where it is not there."""
    return next((path for name in NETWORKS[network].files if (path := Path(folder) / name).is_file()), None)


def load_published(path: str | os.PathLike, network: str) -> dict[str, Any]:
    """Reads the parameters of a network of NETWORKS; InputError for another file, or numbers that are not finite."""
    of = NETWORKS[network]
    remedy = "download it again from its publisher"
    state = flat_state(of.part(read_tensors(path)))
    if fault := difference(state, of.table()):
        raise InputError(f"{path}: {fault}; {remedy}")
    for name, value in state.items():
        if not np.isfinite(value).all() or (name.endswith("running_var") and value.min() < 0):
            raise InputError(f"{path}: '{name}' holds numbers that no network can use; {remedy}")
    return of.convert(state)


def of_reconstruction(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the network of a checkpoint of Deep3DFaceRecon's training, whose other contents do not count."""
    return content.get(RECONSTRUCTION, content)


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


def inception_params(state: State) -> dict[str, Any]:
    """Makes the parameters of `Inception` of tensors under their published names; the last layer is not used."""
    params: dict[str, Any] = {}
    for name in state:
        if name.endswith(".conv.weight"):
            *block, unit = name.removesuffix(".conv.weight").split(".")
            kernel, bias = _folded(state, ".".join([*block, unit, "conv"]), ".".join([*block, unit, "bn"]),
                                   _INCEPTION_EPSILON)  # fmt: skip
            place = params.setdefault(block[0], {}) if block else params
            place[unit] = {"conv": _layer(kernel.transpose(2, 3, 1, 0), bias)}
    return params


def face_model_params(state: State) -> dict[str, Any]:
    """Makes the parameters of `FaceModelNetwork` of tensors under their published names."""

    def convolution(name: str, norm: str) -> dict[str, np.ndarray]:
        kernel, bias = _folded(state, f"backbone.{name}", f"backbone.{norm}")
        return _layer(kernel.transpose(2, 3, 1, 0), bias)

    params: dict[str, Any] = {"conv1": convolution("conv1", "bn1")}
    for stage, depth in enumerate(face_model.DEPTHS, start=1):
        for i in range(depth):
            at = f"layer{stage}.{i}"
            block = {f"conv{number}": convolution(f"{at}.conv{number}", f"{at}.bn{number}") for number in (1, 2, 3)}
            if i == 0:
                block["skip"] = convolution(f"{at}.downsample.0", f"{at}.downsample.1")
            params[f"layer{stage}_{i}"] = block
    for number, name in enumerate(face_model.GROUPS):
        kernel = state[f"final_layers.{number}.weight"][:, :, 0, 0].T
        params[name] = _layer(kernel, state[f"final_layers.{number}.bias"])
    return params


def _folded(state: State, layer: str, norm: str, epsilon: float = _EPSILON) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias (float64, PyTorch's order) of a layer with the batch norm after it."""
    of_norm = {kind: np.asarray(state[f"{norm}.{kind}"], np.float64)
               for kind in ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
    scale = of_norm["weight"] / np.sqrt(of_norm["running_var"] + epsilon)
    kernel = np.asarray(state[f"{layer}.weight"], np.float64)
    own = np.asarray(state.get(f"{layer}.bias", 0.0), np.float64)
    bias = (own - of_norm["running_mean"]) * scale + of_norm["bias"]
    return kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)), bias


def _layer(kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    return {"kernel": np.ascontiguousarray(kernel, np.float32), "bias": np.asarray(bias, np.float32)}


NETWORKS = {
    "syncnet": Published(("syncnet_v2.model", "syncnet.safetensors"), syncnet_table, syncnet_params),
    "i3d": Published(("i3d_pretrained_400.pt", "i3d.safetensors"), i3d_table, i3d_params),
    "inception": Published(
        ("pt_inception-2015-12-05-6726825d.pth", "inception.safetensors"), inception_table, inception_params
    ),
    "face_model": Published(
        ("epoch_20.pth", "face_model.safetensors"), face_model_table, face_model_params, of_reconstruction
    ),
}

"""Networks of LPIPS (Zhang et al. 2018, arXiv 1801.03924) from files that the user has.

| network | its own file, of torchvision | LPIPS' linear weights for it, version 0.1 |
|---|---|---|
| vgg16 | vgg16-397923af.pth, or vgg16.safetensors | vgg.pth |
| alexnet | alexnet-owt-7be5be79.pth, or alexnet.safetensors | alex.pth |

The linear weights lie in `lpips/weights/v0.1` of the Python package `lpips`. Others under the same names, those of
version 0.0 for instance, would give figures that are not LPIPS: numbers other than the published ones are refused.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.models.backbones import ALEXNET_WIDTHS, VGG, VGG16, VGG_WIDTHS, AlexNet
from vasa_jax.weights.loss_networks import Flat, conv_params, converted, torchvision_vgg_params
from vasa_jax.weights.tensor_files import flat_state, read_tensors


class Trunk(NamedTuple):
    """A network whose features LPIPS compares, and the files that hold it and its linear weights."""

    network: Callable[[], nn.Module]
    read: Callable[[Flat], dict[str, Any]]
    widths: tuple[int, ...]
    files: tuple[str, ...]
    linear: str
    digest: str  # SHA-256 of the linear weights' numbers, float32, layer after layer


def alexnet_params(flat: Flat) -> dict[str, Any]:
    """Returns parameters of `AlexNet` from torchvision's names."""
    return {f"conv{i}": conv_params(flat, f"features.{place}") for i, place in enumerate((0, 3, 6, 8, 10), start=1)}


TRUNKS = {
    "vgg16": Trunk(
        lambda: VGG(VGG16), lambda flat: torchvision_vgg_params(flat, VGG16), VGG_WIDTHS,
        ("vgg16-397923af.pth", "vgg16.safetensors"), "vgg.pth",
        "9153a2043dccf3b525d4f13db916e93ef040548ea923b6f2100de5ebac141a78",
    ),
    "alexnet": Trunk(
        AlexNet, alexnet_params, ALEXNET_WIDTHS,
        ("alexnet-owt-7be5be79.pth", "alexnet.safetensors"), "alex.pth",
        "718a8b40b0d22f96192d34ab93c0db5c7943558ff6c2407f44812dce2f29b5f4",
    ),
}  # fmt: skip


def find_lpips(directory: str | Path) -> dict[str, Path]:
    """Returns the files of a folder that belong to LPIPS, by names that end in `_linear` for linear weights.

    InputError for linear weights without the network that they weigh.
    """
    folder, found = Path(directory), {}
    for name, trunk in TRUNKS.items():
        own = next((folder / file for file in trunk.files if (folder / file).is_file()), None)
        if own is not None:
            found[name] = own
        if (folder / trunk.linear).is_file():
            if own is None:
                raise InputError(
                    f"{folder / trunk.linear}: weighs the features of a network that is not there; put "
                    f"{trunk.files[0]} of torchvision beside it"
                )
            found[f"{name}_linear"] = folder / trunk.linear
    return found


def load_trunk(path: Path, name: str) -> dict[str, Any]:
    """Reads the parameters of a network of TRUNKS; InputError for another file."""
    trunk = TRUNKS[name]
    return converted(path, trunk.read, lambda _: trunk.network())


def load_linear(path: Path, name: str) -> list[np.ndarray]:
    """Reads LPIPS' weight of each channel, (C,) for each layer; InputError for other numbers than the published."""
    trunk, state = TRUNKS[name], flat_state(read_tensors(path))
    weights = [state.get(f"lin{i}.model.1.weight") for i in range(len(trunk.widths))]
    shapes = [None if weight is None else weight.shape for weight in weights]
    if len(state) != len(weights) or shapes != [(1, width, 1, 1) for width in trunk.widths]:
        raise InputError(
            f"{path}: not the linear weights of LPIPS for {name}; give {trunk.linear} of lpips/weights/v0.1"
        )
    weights = [np.ascontiguousarray(weight.reshape(-1), np.float32) for weight in weights]
    if digest(weights) != trunk.digest:
        raise InputError(f"{path}: its numbers are not those of version 0.1; give {trunk.linear} of lpips/weights/v0.1")
    return weights


def digest(weights: list[np.ndarray]) -> str:
    """Returns the SHA-256 of linear weights, by which the published ones are known."""
    return hashlib.sha256(b"".join(weight.astype("<f4").tobytes() for weight in weights)).hexdigest()

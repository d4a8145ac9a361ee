"""Files of tensors in the layouts that others publish, read into plain dicts of arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.files import open_regular
from vasa_jax.weights.pickle_reader import read_pickle
from vasa_jax.weights.safetensors_io import check_header

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".model", ".pkl", ".pickle", ".tar")
READ = (".safetensors", *PICKLED)
# How a file starts that is not what its name says -> what it is, what to do.
_STAND_INS = {
    b"version https://git-lfs": (
        "git-lfs's pointer to the file", "run git lfs pull where it was cloned, or download the file itself",
    ),
    b"<!doctype html": ("a web page", "download the file itself, not the page about it"),
    b"<html": ("a web page", "download the file itself, not the page about it"),
}  # fmt: skip
_REMEDY = "download it again"


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Reads a safetensors or pickled file: {name: array}, or what else a pickle holds under its names.

    InputError when it cannot be read or holds no names.
    """
    path = Path(path)
    if path.is_file():
        refuse_stand_in(path)
    if path.suffix.lower() != ".safetensors":
        content = read_pickle(path)
        if not isinstance(content, Mapping):
            raise InputError(f"{path}: holds a {type(content).__name__}, not named tensors; give a state dict")
        return {str(name): value for name, value in content.items()}
    from safetensors import SafetensorError, safe_open

    check_header(path, _REMEDY)
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); {_REMEDY}") from error


def refuse_stand_in(path: Path) -> None:
    """Raises InputError for what a failed download leaves: an empty file, git-lfs's pointer, a web page."""
    with open_regular(path, _REMEDY) as file:
        start = file.read(256).lstrip().lower()
    if not path.stat().st_size:
        raise InputError(f"{path}: is empty; {_REMEDY}")
    for sign, (what, remedy) in _STAND_INS.items():
        if start.startswith(sign):
            raise InputError(f"{path}: is {what}; {remedy}")


def flat_state(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Flattens nested dicts to dotted names; `module.`, counts of batches and what is no array are dropped.

    Floats become float32.
    """
    state = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            state |= {f"{name}.{inner}": tensor for inner, tensor in flat_state(value).items()}
        elif isinstance(value, np.ndarray) and not name.endswith("num_batches_tracked"):
            # "V": bfloat16, which NumPy knows by its bytes only
            state[name] = value.astype(np.float32) if value.dtype.kind in "fV" else value
    return {_without_module(name): value for name, value in state.items()}


def _without_module(name: str) -> str:
    """Takes away the `module.` that DataParallel puts in front of a network's own names."""
    return ".".join(part for part in name.split(".") if part != "module")

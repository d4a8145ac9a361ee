"""Where trained parts are found: a directory with <part>.safetensors, or the one that ships with the package."""

from pathlib import Path
from typing import Any

import vasa_jax
from vasa_jax.errors import InputError
from vasa_jax.weights.safetensors_io import load_params

SHIPPED = Path(vasa_jax.__file__).parent / "pretrained"


def load_part(directory: str | Path, part: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, metadata) of `part` (face, audio, motion, instrument); an empty directory means the shipped one."""
    folder = Path(directory) if directory else SHIPPED
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; give one that holds {part}.safetensors")
    return load_params(folder / f"{part}.safetensors")

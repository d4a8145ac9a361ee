"""Where trained parts are found: a directory with <part>.safetensors, or the one that ships with the package.

The audio encoder may also be a public wav2vec 2.0 or HuBERT file (weights/wav2vec2.py).
"""

from pathlib import Path
from typing import Any

import vasa_jax
from vasa_jax.errors import InputError
from vasa_jax.weights.safetensors_io import load_params
from vasa_jax.weights.wav2vec2 import is_public_file, load_wav2vec2

NETWORKS = {"face": "codec", "audio": "audio encoder", "motion": "motion transformer"}  # built from their fields
SHIPPED = Path(vasa_jax.__file__).parent / "pretrained"


def load_part(directory: str | Path, part: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, metadata) of `part` (face, audio, motion, instrument); an empty directory means the shipped one.

    For the audio encoder `directory` may also be a weight file. InputError when there is nothing to read, and for a
    network whose file does not tell the fields to build it from.
    """
    folder = Path(directory) if directory else SHIPPED
    if part == "audio" and folder.is_file():
        return load_wav2vec2(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; give one that holds {part}.safetensors")
    path = folder / f"{part}.safetensors"
    if part == "audio" and is_public_file(path):
        return load_wav2vec2(path)
    params, metadata = load_params(path)
    if part in NETWORKS and "fields" not in metadata:
        raise InputError(f"{path}: not a {NETWORKS[part]} (no fields); export it again")
    return params, metadata

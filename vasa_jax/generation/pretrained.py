"""Where trained parts are found: a directory with <part>.safetensors, or the one that ships with the package.

The audio encoder may also be a public wav2vec 2.0 or HuBERT file (weights/wav2vec2.py).
"""

from pathlib import Path
from typing import Any

import vasa_jax
from vasa_jax.errors import InputError
from vasa_jax.weights.safetensors_io import load_params
from vasa_jax.weights.wav2vec2 import is_public_file, load_wav2vec2

SHIPPED = Path(vasa_jax.__file__).parent / "pretrained"


def load_part(directory: str | Path, part: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, metadata) of `part` (face, audio, motion, instrument); an empty directory means the shipped one.

    For the audio encoder `directory` may also be a weight file. InputError when there is nothing to read.
    """
    folder = Path(directory) if directory else SHIPPED
    if part == "audio" and folder.is_file():
        return load_wav2vec2(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; give one that holds {part}.safetensors")
    path = folder / f"{part}.safetensors"
    return load_wav2vec2(path) if part == "audio" and is_public_file(path) else load_params(path)


def load_codec(directory: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, metadata) of the face codec; InputError also where the file tells no fields to build it from."""
    params, metadata = load_part(directory, "face")
    if "fields" not in metadata:
        raise InputError(f"{Path(directory) / 'face.safetensors'}: not a codec (no fields); export it again")
    return params, metadata

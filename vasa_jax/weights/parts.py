"""Where trained parts are found: a directory with <part>.safetensors, or the one that ships with the package.

The audio encoder may also be a public wav2vec 2.0 or HuBERT file (weights/wav2vec2.py).
"""

import functools
import os
from pathlib import Path
from typing import Any

import vasa_jax
from vasa_jax.errors import InputError
from vasa_jax.files import open_regular
from vasa_jax.weights.networks import check_model, check_part
from vasa_jax.weights.safetensors_io import load_params
from vasa_jax.weights.wav2vec2 import is_public_file, load_wav2vec2

NETWORKS = {"face": "codec", "audio": "audio encoder", "motion": "motion transformer"}  # built from their fields
MODEL = ("face", "audio", "motion")
SHIPPED = Path(vasa_jax.__file__).parent / "pretrained"
VARIANTS = ("photos",)  # folders of SHIPPED with the parts in which a variant of the shipped model differs


def load_part(directory: str | Path, part: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Loads (parameters, metadata) of `part` (face, audio, motion, instrument); an empty directory means the shipped.

    `photos` means the shipped model whose codec has also learnt from photographs of people.
    For the audio encoder `directory` may also be a weight file. InputError when there is nothing to read, and for a
    network whose file does not tell the fields to build it from.
    """
    folder = folder_of(directory, part)
    if part == "audio" and os.path.isfile(folder):
        return load_wav2vec2(folder)
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such directory; give one that holds {part}.safetensors")
    path = folder / f"{part}.safetensors"
    if os.path.exists(path):
        open_regular(path, f"give a directory that holds {part}.safetensors").close()  # never waits for a FIFO
    if part == "audio" and is_public_file(path):
        return load_wav2vec2(path)
    return load_params(path, functools.partial(_check, part, path))


def folder_of(directory: str | Path, part: str) -> Path:
    """Returns where `part` of a model is looked for: a user's directory, or a folder of the shipped weights."""
    if not directory:
        return SHIPPED
    if str(directory) in VARIANTS and not os.path.isdir(directory):
        variant = SHIPPED / str(directory)
        return variant if (variant / f"{part}.safetensors").is_file() else SHIPPED
    return Path(directory)


def load_model(directory: str | Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Returns face, audio and motion, each as `load_part`; InputError also where they are not of one model."""
    parts = {part: load_part(directory, part) for part in MODEL}
    check_model(parts, str(directory or SHIPPED))
    return parts


def _check(part: str, path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, Any]) -> None:
    if part in NETWORKS and "fields" not in metadata:
        raise InputError(f"{path}: not a {NETWORKS[part]} (no fields); export it again")
    check_part(part, str(path), shapes, metadata)

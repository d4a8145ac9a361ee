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
from vasa_jax.weights.motion_generators import FILES, find_generator, load_ditto, load_joyvasa
from vasa_jax.weights.networks import check_lips, check_model, check_moved, check_part
from vasa_jax.weights.safetensors_io import load_params
from vasa_jax.weights.wav2vec2 import is_public_file, load_wav2vec2

NETWORKS = {"face": "codec", "audio": "audio encoder", "motion": "motion transformer"}  # built from their fields
MODEL = ("face", "audio", "motion")
LIPS = "lips"  # a part that a model may have: lips that follow the voice, generation/lip_guide.py
MATTE = "matte"  # another: what of a portrait is its person, generation/cut_out.py
JOYVASA_AUDIO_FILE = "joyvasa_audio.safetensors"
_AGAIN = "import both from one download (configs/import_weights.py)"
SHIPPED = Path(vasa_jax.__file__).parent / "pretrained"


def load_part(directory: str | Path, part: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Loads (parameters, metadata) of `part` (face, audio, motion, lips, instrument); no directory means the shipped.

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


def makes_motion(directory: str | Path) -> bool:
    """Returns whether a folder holds what makes motion of speech: a transformer, JoyVASA or Ditto."""
    return (Path(directory) / "motion.safetensors").exists() or bool(find_generator(directory))


def load_if_there(directory: str | Path, part: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Returns `load_part` of a part that a model may have, None where its folder lacks the file."""
    return load_part(directory, part) if (folder_of(directory, part) / f"{part}.safetensors").exists() else None


def folder_of(directory: str | Path, part: str) -> Path:
    """Returns where `part` of a model is looked for: a user's directory, or a folder of the shipped weights."""
    return Path(directory) if directory else SHIPPED


def load_model(directory: str | Path, generator: str = "") -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Returns face, audio and motion, and lips and matte where there are some, each as `load_part`.

    InputError also where they are not of one model.

    generator: "joyvasa" or "ditto" for open weights (see `motion_generators.py`), whose name then stands in the place
    of motion; empty: what the folder has, first of all motion.safetensors.
    """
    if not generator and os.path.isdir(directory) and not (Path(directory) / "motion.safetensors").exists():
        generator = find_generator(directory)
    if generator:
        return _open_model(Path(directory), generator) | _matte_of(directory)
    parts = {part: load_part(directory, part) for part in MODEL}
    where = str(directory or SHIPPED)
    check_model(parts, where)
    if lips := load_if_there(directory, LIPS):
        parts[LIPS] = lips
        check_lips(lips, parts["motion"], where)
    return parts | _matte_of(directory)


def _matte_of(directory: str | Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    matte = load_if_there(directory, MATTE)
    return {} if matte is None else {MATTE: matte}


def _open_model(folder: Path, generator: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    if not (folder / FILES[generator]).is_file():
        raise InputError(f"{folder}: no {FILES[generator]}; import it (configs/import_weights.py), see docs/weights.md")
    face = load_part(folder, "face")
    check_moved(face, str(folder))
    if generator == "ditto":
        return {"face": face, "ditto": load_ditto(folder)}
    audio = load_params(folder / JOYVASA_AUDIO_FILE, functools.partial(_check, "audio", folder / JOYVASA_AUDIO_FILE))
    motion = load_joyvasa(folder)
    heard, wanted = audio[0]["encoder"]["layer_norm"]["bias"].shape[0], motion[1]["fields"]["audio_dim"]
    if heard != wanted:
        raise InputError(f"{folder}: joyvasa_motion hears {wanted} features, joyvasa_audio gives {heard}; {_AGAIN}")
    return {"face": face, "joyvasa": motion, "audio": audio}


def _check(part: str, path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, Any]) -> None:
    if part in NETWORKS and "fields" not in metadata:
        raise InputError(f"{path}: not a {NETWORKS[part]} (no fields); export it again")
    check_part(part, str(path), shapes, metadata)

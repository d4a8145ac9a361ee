"""Job import_weights: a folder of downloaded open weights as this project's files, with a bill of materials.

| in | out |
|---|---|
| LivePortrait, or Ditto's copy of it | face.safetensors: the keypoint codec; animals/face.safetensors |
| a checkpoint of face-vid2vid | that codec's motion extractor: its two detectors |
| JoyVASA | joyvasa_motion.safetensors, joyvasa_audio.safetensors (its HuBERT), joyvasa_template.safetensors |
| Ditto | ditto_motion.safetensors, ditto_config/*.safetensors, its HuBERT (.onnx), as it is |
| wav2vec 2.0, HuBERT | audio.safetensors |
| SyncNet, I3D, FID's Inception, Deep3DFaceRecon | syncnet, i3d, inception, face_model .safetensors |
| landmark.onnx | landmark.onnx, as it is |

Where a network of this package reads it, a file holds that network's parameters; else the published names and layouts.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import LIVE_PORTRAIT
from vasa_jax.errors import InputError
from vasa_jax.files import replacing, sha256, write_json
from vasa_jax.weights.liveportrait import PARTS, live_portrait_params, named_state
from vasa_jax.weights.motion_generators import DITTO_CONFIG
from vasa_jax.weights.open_files import DITTO_AUDIO, KNOWN, LANDMARKS, SOURCES, Found, look_through
from vasa_jax.weights.pickle_reader import PickledObject
from vasa_jax.weights.published_networks import NETWORKS
from vasa_jax.weights.published_tables import (
    DITTO_ROTARY,
    JOYVASA_AUDIO,
    Table,
    difference,
    ditto_table,
    joyvasa_table,
)
from vasa_jax.weights.safetensors_io import save_params
from vasa_jax.weights.tensor_files import flat_state
from vasa_jax.weights.wav2vec2 import encoder_params

BILL = "bill_of_materials.json"
NEWER_ANIMALS = "base_models_v1.1"  # of the two versions in one download
_STATISTICS = tuple(f"{kind}_exp" for kind in ("mean", "std")) + tuple(
    f"{kind}_{name}" for kind in ("min", "max") for name in ("scale", "t", "pitch", "yaw", "roll")
)
_RAW_SOUND = 1.0  # JoyVASA's encoder hears sound in [-1, 1] as it is


class Part(NamedTuple):
    """One file to write: `params` as safetensors with `metadata`, or a copy of the first of `files`."""

    name: str
    files: list[Found]
    params: dict[str, Any] | None
    metadata: dict[str, Any]


def import_weights_job(config: VASAConfig, workdir: Path) -> list[dict[str, Any]]:
    """Does the job `import_weights`: `config.files` to `config.output`; returns the bill of materials."""
    del workdir
    return import_weights(config.files, config.output, config.joyvasa_positions)


def import_weights(files: str | Path, output: str | Path, positions: str = "constant") -> list[dict[str, Any]]:
    """Reads the folder `files`, writes the folder `output` and returns the bill of materials, which it also prints.

    Everything is read and checked before anything is written. InputError names the file and its first fault.
    positions: of JoyVASA's denoiser, see `JoyVASATransformer`.
    """
    if not str(files):
        raise InputError("config.files: is empty; give the folder that holds the downloaded files")
    if not str(output):
        raise InputError("config.output: is empty; give the folder to write to")
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"config.output: {output} is a file; give a folder")
    if output.resolve() == Path(files).resolve():
        raise InputError(f"config.output: {output} is config.files; give another folder")
    found, left = look_through(files)
    parts = list(_parts(found, positions))
    bill = [_entry(part) for part in parts]
    for part, entry in zip(parts, bill, strict=True):
        _write(output / part.name, part, entry)
    write_json(output / BILL, {"parts": bill, "left": {str(path): why for path, why in left.items()}})
    for line in _table(bill):
        print(line)
    for path, why in left.items():
        print(f"left aside: {path} ({why})")
    return bill


def _parts(found: list[Found], positions: str) -> Iterable[Part]:
    """Yields what becomes of the files, in a fixed order."""
    yield from _codec(found, "liveportrait", "face.safetensors")
    yield from _codec(found, "animals", "animals/face.safetensors")
    for file in _single(found, "joyvasa"):
        yield from _joyvasa(file, positions)
    for part, read in (("joyvasa_template", _joyvasa_template), ("ditto", _ditto)):
        for file in _single(found, part):
            yield read(file)
    configs = [file for file in found if file.part == "ditto_config"]
    for name in dict.fromkeys(file.path.stem for file in configs):
        (file,) = _single([file for file in configs if file.path.stem == name], "ditto_config")
        yield _ditto_config(file)
    for file in _single(found, "audio"):
        params, metadata = encoder_params(file.content, file.path)
        yield Part("audio.safetensors", [file], params, {"fields": metadata["fields"]})
    for part, network in NETWORKS.items():
        for file in _single(found, part):
            content = _as_published(file, network.part(file.content), network.table())
            yield Part(f"{part}.safetensors", [file], content, {})
    landmarks = [file for file in found if file.part == "landmarks"]
    first = min((file.path.name for file in landmarks), key=LANDMARKS.index, default="")
    for file in _single([file for file in landmarks if file.path.name == first], "landmarks"):
        yield Part("landmark.onnx", [file], None, {})
    for file in _single(found, "ditto_audio"):
        yield Part(DITTO_AUDIO, [file], None, {})


def _single(found: list[Found], part: str) -> list[Found]:
    """Returns the one file of a kind, or none. Copies count as one, in whatever format: another publisher's too."""
    files = [file for file in found if file.part == part]
    for file in files[1:]:
        if not _same(files[0], file):
            raise InputError(f"{file.path}: {files[0].path} is of the same kind; leave one of them in the folder")
    return files[:1]


def _same(one: Found, other: Found) -> bool:
    """Tells whether two files of a part are equal, or hold equal tensors."""
    if sha256(one.path) == sha256(other.path):
        return True
    states = [
        named_state(file.content, file.part, file.path) if file.part in PARTS else flat_state(file.content)
        for file in (one, other)
    ]
    return bool(states[0]) and states[0].keys() == states[1].keys() and all(
        np.array_equal(value, states[1][name]) for name, value in states[0].items()
    )


def _codec(found: list[Found], source: str, name: str) -> Iterable[Part]:
    sources = ("liveportrait", "face_vid2vid") if source == "liveportrait" else (source,)
    files = [file for file in found if file.source in sources]
    if source == "animals":
        newer = [file for file in files if NEWER_ANIMALS in file.path.parts]
        files = newer or files
    if not files:
        return
    chosen = {file.part: file for part in PARTS for file in _single(files, part)}
    contents = {part: file.content for part, file in chosen.items()}
    params, fields = live_portrait_params(contents, {part: file.path for part, file in chosen.items()})
    yield Part(name, list(chosen.values()), params, {"fields": fields, "framing": LIVE_PORTRAIT})


def _joyvasa(file: Found, positions: str) -> Iterable[Part]:
    state = flat_state(_inner(file, "model"))
    encoder = {name: value for name, value in state.items() if name.startswith(JOYVASA_AUDIO)}
    motion = {name: value for name, value in state.items() if name not in encoder}
    try:
        table = joyvasa_table(motion)
    except KeyError as error:
        raise InputError(f"{file.path}: no tensor {error}; download it again from its publisher") from error
    settings = file.content.get("args")
    metadata = {
        "positions": positions,
        "settings": _plain(settings.fields) if isinstance(settings, PickledObject) else {},
        "fields": {
            "motion": table["start_motion_feat"][2],
            "width": table["null_audio_feat"][2],
            "window": table["denoising_net.alignment_mask"][0] - table["start_motion_feat"][1],
            "previous": table["start_motion_feat"][1],
            "steps": table["diffusion_sched.betas"][0] - 1,
        },
    }
    yield Part("joyvasa_motion.safetensors", [file], _as_published(file, motion, table), metadata)
    params, audio = encoder_params(encoder, file.path, _RAW_SOUND)
    yield Part("joyvasa_audio.safetensors", [file], params, {"fields": audio["fields"]})


def _inner(file: Found, name: str) -> Mapping[str, Any]:
    """Returns the tensors of a training checkpoint, which has them under a name, or of a bare state."""
    inner = file.content.get(name, file.content)
    if not isinstance(inner, Mapping):
        raise InputError(f"{file.path}: '{name}' holds no named tensors; download it again from its publisher")
    return inner


def _joyvasa_template(file: Found) -> Part:
    numbers = (np.ndarray, np.generic, int, float)
    arrays = {name: np.asarray(value) for name, value in file.content.items() if isinstance(value, numbers)}
    missing = [name for name in _STATISTICS if name not in arrays]
    if missing:
        raise InputError(f"{file.path}: no statistic '{missing[0]}'; download it again from its publisher")
    return Part("joyvasa_template.safetensors", [file], arrays, {})


def _ditto(file: Found) -> Part:
    state = flat_state(_inner(file, "model_state_dict"))
    fault = difference({name: value for name, value in state.items() if name in DITTO_ROTARY}, DITTO_ROTARY)
    if not fault and any(not np.array_equal(state[name], state["rotary.freqs"]) for name in DITTO_ROTARY):
        fault = "tables of rotary frequencies differ"
    if fault:
        raise InputError(f"{file.path}: {fault}; download it again from its publisher")
    rotary = {"rotary.freqs": state["rotary.freqs"]}
    state = {name: value for name, value in state.items() if name not in DITTO_ROTARY}
    return Part("ditto_motion.safetensors", [file], _as_published(file, state, ditto_table()) | rotary, {})


def _ditto_config(file: Found) -> Part:
    arrays, values = _split(file.content)
    return Part(f"{DITTO_CONFIG}/{file.path.stem}.safetensors", [file], arrays, {"settings": values})


def _as_published(file: Found, content: Mapping[str, Any], table: Table) -> dict[str, np.ndarray]:
    state = flat_state(content)
    fault = difference(state, table)
    if fault:
        raise InputError(f"{file.path}: {fault}; download it again from its publisher")
    return state


def _split(content: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Splits nested dicts: (arrays under dotted names, the rest as JSON takes it)."""
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            inner, values[str(key)] = _split(value, f"{prefix}{key}.")
            arrays |= inner
        elif isinstance(value, np.ndarray):
            arrays[f"{prefix}{key}"] = value
        else:
            values[str(key)] = _plain(value)
    return arrays, values


def _plain(value: Any) -> Any:
    """Returns a value as JSON takes it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _entry(part: Part) -> dict[str, Any]:
    """Returns a line of the bill of materials."""
    sources = [SOURCES[name] for name in dict.fromkeys(file.source for file in part.files)]
    files = [{"name": file.path.name, "sha256": sha256(file.path)} for file in part.files]
    return {
        "file": part.name,
        "title": _joined(source.title for source in sources),
        "repository": _joined(source.repository for source in sources),
        "licence": _joined(source.licence for source in sources),
        "commercial": next((source.commercial for source in sources if source.commercial != "yes"), "yes"),
        "use": sources[0].use,
        "made_from": [entry | {"published_as": KNOWN.get(entry["sha256"], "")} for entry in files],
    }


def _joined(words: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(words))


def _write(path: Path, part: Part, entry: Mapping[str, Any]) -> None:
    if part.params is not None:
        params = traverse_util.unflatten_dict(traverse_util.flatten_dict(part.params, sep="."), sep=".")
        save_params(path, params, part.metadata | {"origin": dict(entry)}, jnp.float32)
        return
    with replacing(path) as copy:
        shutil.copyfile(part.files[0].path, copy)


def _table(bill: list[dict[str, Any]]) -> Iterable[str]:
    """Yields the bill as lines of text, columns aligned, and what follows for commercial use."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "written": lambda entry: entry["file"],
        "what": lambda entry: entry["title"],
        "licence": lambda entry: entry["licence"],
        "commercial use": lambda entry: entry["commercial"],
        "published file": lambda entry: "yes" if all(f["published_as"] for f in entry["made_from"]) else "unknown",
    }
    rows = [list(columns), *([read(entry) for read in columns.values()] for entry in bill)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    unfree = [entry["file"] for entry in bill if entry["commercial"] != "yes"]
    yield f"not cleared for commercial use: {', '.join(unfree) or 'nothing'}"

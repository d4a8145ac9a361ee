"""Shards of spoken passages: sound as Opus, the phoneme and stress of every 20 ms, and who says it.

A shard is an `.npz` file without pickles: `sound` (bytes of Ogg Opus, one after another), `phonemes` and `stress`
(uint8, 50 Hz, one after another) and `index`, JSON with one entry a passage. A folder of them is one speech corpus.
"""

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.corpus.speech.phonemes import PHONEME_CLASSES
from vasa_jax.errors import InputError
from vasa_jax.files import parse_json, read_arrays, replacing, sha256
from vasa_jax.schema import Each, Text, Whole, check

UNKNOWN_STRESS = 2  # of a source that does not tell it
PATTERN = "speech-*.npz"
REMEDY = "give a folder that job speech_corpus wrote"
LONGEST = 1500  # video frames of a passage: a minute, where job speech_corpus makes 8 s
_SPLITS = ("train", "heldout")
_PASSAGE = {
    "bytes": Whole(1, 2**31), "frames": Whole(1, LONGEST),
    **dict.fromkeys(("source", "person", "language"), Text()), "split": Text(choices=_SPLITS), "text": Text(0, 10**6),
}  # fmt: skip
_LOWEST, _HIGHEST = 6.0, 256.0  # kbit/s of libsndfile's compression levels 1 and 0, mono


class Passage(NamedTuple):
    """Holds T video frames of one person's speech, with silence before, between and after sentences."""

    samples: np.ndarray  # f32 (640 T,) at 16 kHz
    phonemes: np.ndarray  # uint8 (2 T,), classes of PHONEME_CLASSES
    stress: np.ndarray  # uint8 (2 T,): 0, 1 or UNKNOWN_STRESS
    source: str  # a synthesiser's name, or grid
    person: str
    language: str
    split: str  # train or heldout
    text: str


def write_shard(path: str | Path, passages: Sequence[Passage], bit_rate: float, key: Any) -> None:
    """Writes a shard; `bit_rate` in kbit/s. `key`, JSON that decides the passages, is kept for `shard_key`."""
    sound = [_opus(passage.samples, bit_rate) for passage in passages]
    entries = [
        {
            "bytes": len(coded), "frames": len(passage.phonemes) // 2,
            **{name: getattr(passage, name) for name in ("source", "person", "language", "split", "text")},
        }
        for coded, passage in zip(sound, passages)
    ]  # fmt: skip
    index = json.dumps({"key": key, "passages": entries}, ensure_ascii=False).encode()
    content = {
        "sound": np.frombuffer(b"".join(sound), np.uint8),
        "phonemes": np.concatenate([passage.phonemes for passage in passages] or [[]]).astype(np.uint8),
        "stress": np.concatenate([passage.stress for passage in passages] or [[]]).astype(np.uint8),
        "index": np.frombuffer(index, np.uint8),
    }
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, **content)


def read_shard(path: str | Path, wanted: Callable[[dict[str, Any]], bool] = lambda entry: True) -> list[Passage]:
    """Returns the passages of a shard whose entry in the index (source, person, language, split) is wanted.

    InputError for a file that is no shard, and for damaged sound among them; the others' sound is not decoded.
    """
    content, entries = _opened(path)
    sound, passages = content["sound"].tobytes(), []
    byte = label = 0
    for number, entry in enumerate(entries):
        coded = sound[byte : byte + entry["bytes"]]
        count = 2 * entry["frames"]
        span = slice(label, label + count)
        byte, label = byte + entry["bytes"], label + count
        if not wanted(entry):
            continue
        try:
            samples = _decoded(coded, entry["frames"] * SAMPLES_PER_FRAME)
        except Exception as error:  # libsndfile's errors are its own
            raise InputError(f"{path}: the sound of passage {number} is damaged; {REMEDY}") from error
        passages.append(
            Passage(
                samples, content["phonemes"][span], content["stress"][span],
                *(entry[name] for name in ("source", "person", "language", "split", "text")),
            )
        )  # fmt: skip
    return passages


def read_passages(folder: str | Path, split: str) -> list[Passage]:
    """Returns the passages of a split; InputError where the folder holds none."""
    found = _found(folder, lambda entry: entry["split"] == split)
    if not found:
        raise InputError(f"{folder}: holds no speech of the split {split}; run job speech_corpus with more minutes")
    return found


def natural_passages(folder: str | Path) -> list[Passage]:
    """Returns the training passages that eSpeak does not speak; InputError where there is none."""
    found = _found(folder, lambda entry: entry["split"] == "train" and entry["source"] != "espeak")
    if not found:
        raise InputError(f"{folder}: only eSpeak speaks in it; run job speech_corpus with minutes of other sources")
    return found


def _found(folder: str | Path, wanted: Callable[[dict[str, Any]], bool]) -> list[Passage]:
    return [passage for path in find_shards(folder) for passage in read_shard(path, wanted)]


def passages_key(folder: str | Path) -> str:
    """Returns what tells folders of other passages apart."""
    return "-".join(sha256(path)[:8] for path in find_shards(folder))


def shard_key(path: str | Path) -> Any:
    """Returns the key that `write_shard` was given."""
    return _read_index(path, read_arrays(path, REMEDY))["key"]


def find_shards(folder: str | Path) -> list[Path]:
    """Returns the shards of a folder by name; InputError where there is none."""
    found = sorted(Path(folder).glob(PATTERN)) if os.path.isdir(folder) else []
    if not found:
        raise InputError(f"{folder}: holds no {PATTERN}; {REMEDY}")
    return found


def _opened(path: str | Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    content = read_arrays(path, REMEDY)
    entries = check(_read_index(path, content)["passages"], Each(_PASSAGE), f"{path}: passages", REMEDY)
    lengths = {"sound": sum(entry["bytes"] for entry in entries)}
    lengths["phonemes"] = lengths["stress"] = 2 * sum(entry["frames"] for entry in entries)
    for name, length in lengths.items():
        array = content.get(name)
        if array is None or array.dtype != np.uint8 or array.shape != (length,):
            raise InputError(f"{path}: its {name} is none of {length} bytes, which its index tells; {REMEDY}")
    for name, count in (("phonemes", len(PHONEME_CLASSES)), ("stress", UNKNOWN_STRESS + 1)):
        if content[name].max(initial=0) >= count:
            raise InputError(f"{path}: its {name} has classes from {count} on, which there are not; {REMEDY}")
    return content, entries


def _read_index(path: str | Path, content: dict[str, np.ndarray]) -> dict[str, Any]:
    index = content.get("index")
    if index is None or index.dtype != np.uint8:
        raise InputError(f"{path}: is no shard of speech; {REMEDY}")
    parsed = parse_json(index.tobytes(), str(path), REMEDY)
    if not isinstance(parsed, dict) or not {"key", "passages"} <= parsed.keys():
        raise InputError(f"{path}: is no shard of speech; {REMEDY}")
    return parsed


def _opus(samples: np.ndarray, bit_rate: float) -> bytes:
    import soundfile

    memory = io.BytesIO()
    level = float(np.clip((_HIGHEST - bit_rate) / (_HIGHEST - _LOWEST), 0.0, 1.0))
    sound = np.asarray(samples, np.float32)
    soundfile.write(memory, sound, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=level)
    return memory.getvalue()


def _decoded(coded: bytes, length: int) -> np.ndarray:
    """Returns the first `length` samples; ValueError for sound of another kind, and where there are fewer."""
    import soundfile

    with soundfile.SoundFile(io.BytesIO(coded)) as file:
        kind = (file.format, file.subtype, file.samplerate, file.channels)
        if kind != ("OGG", "OPUS", SAMPLE_RATE, 1):
            raise ValueError(f"{kind} is no Opus of {SAMPLE_RATE} Hz in one channel")
        samples = file.read(length, dtype="float32")
    # Labels may not claim sound that is not there: it would be made up, and take its memory.
    if len(samples) < length or not np.isfinite(samples).all():
        raise ValueError(f"{len(samples)} of {length} samples")
    return samples

"""Records as a TensorFlow Datasets data set, without TensorFlow:

    from vasa_jax.corpus.vasa_corpus.vasa_corpus_dataset_builder import build
    build("runs/synthesize", "tfds")                                  # shards written by configs/synthesize.py
    tfds.builder_from_directory("tfds/vasa_corpus/1.0.0").as_data_source("train")

Features are those of `vasa_jax.data.records`, with the same names; a label that a clip lacks is empty (zero for labels
of fixed length) and its `valid/NAME` is 0.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vasa_jax.data.records import LABELS, OPTIONAL, SCHEMA_VERSION, Record
from vasa_jax.data.shards import FORMATS, ShardReader, read_manifest
from vasa_jax.errors import InputError

_TEXTS = ("clip_id", "person_id", "split", "source", "landmark_set")


class Builder(tfds.core.GeneratorBasedBuilder):
    """Talking-head clips from shards; point `manual_dir` at the directory with their manifest.json."""

    name = "vasa_corpus"
    VERSION = tfds.core.Version(f"{SCHEMA_VERSION}.0.0")
    RELEASE_NOTES = {"1.0.0": "Schema version 1."}  # noqa: RUF012 (the name and type are TFDS's)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Write shards first: python -m vasa_jax.main --config configs/synthesize.py"

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Talking-head clips with their sound and labels, in the record schema of vasa_jax.",
            features=record_features(),
            license="As the source of the clips.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        manifest = read_manifest(dl_manager.manual_dir)
        splits = sorted({shard.split for shard in manifest.shards})
        return {split: self._generate_examples(manifest, split) for split in splits}

    def _generate_examples(self, manifest, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for shard in manifest.split(split):
            reader = ShardReader(manifest, shard, next(name for name in FORMATS if name in shard.files))
            for index in range(len(reader)):
                record = reader[index]
                yield record.clip_id, example_of(record)


def record_features() -> tfds.features.FeaturesDict:
    """Features of a record as TFDS stores it."""
    # Pictures stay encoded (bytes): TFDS decodes and encodes images with TensorFlow only.
    features: dict[str, Any] = {name: tfds.features.Text() for name in _TEXTS}
    features["schema_version"] = np.int64
    features["fps"] = np.float32
    features["frames"] = tfds.features.Tensor(shape=(None,), dtype=np.bytes_)
    features["matte"] = tfds.features.Tensor(shape=(None,), dtype=np.bytes_)
    features["audio"] = tfds.features.Tensor(shape=(), dtype=np.bytes_)
    for name, shape in LABELS.items():
        if name == "landmarks":  # one unknown dimension per feature: (T, N, 3) is kept flat
            shape = (None,)
        shape = tuple(None if n == "T" else n for n in shape)
        features[name] = tfds.features.Tensor(shape=shape, dtype=np.float32)
    for name in OPTIONAL:
        features[f"valid_{name}"] = np.int64
    return tfds.features.FeaturesDict(features)


def example_of(record: Record) -> dict[str, Any]:
    """A record as TFDS takes it."""
    example: dict[str, Any] = {name: getattr(record, name) for name in _TEXTS}
    example["schema_version"], example["fps"] = SCHEMA_VERSION, record.fps
    example["frames"] = np.array(record.frames, object)
    example["matte"] = np.array(record.matte or (), object)
    example["audio"] = b"" if record.audio is None else record.audio.astype("<i2").tobytes()
    for name, shape in LABELS.items():
        value = getattr(record, name)
        if value is None:
            value = np.zeros(tuple(0 if n in ("T", "N") else n for n in shape), np.float32)
        example[name] = value.reshape(-1) if name == "landmarks" else value
    for name, valid in record.valid.items():
        example[f"valid_{name}"] = int(valid)
    return example


def record_of(example: dict[str, Any]) -> Record:
    """The record of an example that TFDS reads; InputError if it breaks the schema."""
    features: dict[str, Any] = {name: [_as_bytes(example[name])] for name in _TEXTS}
    features["schema_version"] = [int(example["schema_version"])]
    features["fps"] = [float(example["fps"])]
    features["frames"], features["matte"] = list(example["frames"]), list(example["matte"])
    features["audio"] = [_as_bytes(example["audio"])]
    for name in OPTIONAL:
        features[f"valid/{name}"] = [bool(example[f"valid_{name}"])]
    features.update({name: example[name] for name in LABELS})
    return Record.from_features(features)


def build(shards: str | Path, data_dir: str | Path) -> Path:
    """Builds the TFDS data set of a directory of shards under `data_dir`, in array_record format; its directory."""
    if not Path(shards).is_dir():
        raise InputError(f"{shards}: no such directory; write the shards first, see configs/synthesize.py")
    builder = Builder(data_dir=str(data_dir), file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=str(shards), register_checksums=False)
    builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


def _as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)

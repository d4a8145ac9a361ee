"""Records in the features of TensorFlow Datasets: `vasa_jax.data.records` with the same names.

A label that a clip lacks is empty (zero for labels of fixed length) and its `valid_NAME` is 0.
"""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vasa_jax.data.records import LABELS, OPTIONAL, SCHEMA_VERSION, Record

_TEXTS = ("clip_id", "person_id", "split", "source", "landmark_set")


def record_features() -> tfds.features.FeaturesDict:
    """Returns the features of a record as TFDS stores it."""
    # Images stay encoded (bytes): TFDS decodes and encodes images with TensorFlow only.
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
    """Returns a record as TFDS takes it."""
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
    """Returns the record of an example that TFDS reads; InputError if it breaks the schema."""
    features: dict[str, Any] = {name: [_as_bytes(example[name])] for name in _TEXTS}
    features["schema_version"] = np.array([example["schema_version"]], np.int64)
    features["fps"] = np.array([example["fps"]], np.float32)
    features["frames"], features["matte"] = list(example["frames"]), list(example["matte"])
    features["audio"] = [_as_bytes(example["audio"])]
    for name in OPTIONAL:
        features[f"valid/{name}"] = np.array([example[f"valid_{name}"]], np.int64)
    features.update({name: np.asarray(example[name], np.float32) for name in LABELS})
    return Record.from_features(features)


def _as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)

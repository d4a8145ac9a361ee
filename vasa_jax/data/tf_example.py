"""`tf.train.Example` in bytes, without TensorFlow: the encoding of a record in every container.

The wire format is that of tensorflow/core/example/example.proto: a map from names to lists of bytes, of float32 or of
int64 (numeric lists packed). Any reader of that message reads it: TensorFlow, tf.data, TFDS, protobuf.
"""

import dataclasses
import struct
from collections.abc import Mapping, Sequence

import numpy as np

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # field numbers of Feature
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types
Feature = list[bytes] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a feature holds: bytes, or numbers of `dtype`; `count` of them, or any number where it is None."""

    dtype: type | None = None  # np.float32 or np.int64; None = bytes
    count: int | None = None


def encode_example(features: Mapping[str, Sequence[bytes] | np.ndarray]) -> bytes:
    """Serialises lists of bytes, float32 arrays and int64 arrays (flattened, any shape), names in sorted order.

    Raises TypeError for any other type.
    """
    entries = [
        _field(1, _field(1, name.encode()) + _field(2, _feature(name, features[name]))) for name in sorted(features)
    ]
    return _field(1, b"".join(entries))


def decode_example(data: bytes) -> dict[str, Feature]:
    """Reads the lists by name: list of bytes, float32 (N,) or int64 (N,). Raises ValueError for bytes that are no
    Example."""
    result: dict[str, Feature] = {}
    try:
        for number, features in _fields(memoryview(data)):
            if number != 1:
                continue
            for _, entry in _fields(features):
                parts = dict(_fields(entry))
                result[_bytes(parts[1]).decode()] = _values(parts[2])
    except (IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"not a tf.train.Example ({error})") from error
    return result


def checked_feature(features: Mapping[str, Feature], name: str, kind: Kind) -> Feature:
    """Returns the feature of this name. Raises ValueError where it is missing, or of another kind or length."""
    if name not in features:
        raise ValueError(f"no feature '{name}'")
    value = features[name]
    numbers = isinstance(value, np.ndarray)
    if numbers != (kind.dtype is not None) or (numbers and value.dtype != kind.dtype):
        found = value.dtype if numbers else "bytes"
        raise ValueError(f"'{name}' is {found}, not {'bytes' if kind.dtype is None else np.dtype(kind.dtype)}")
    if kind.count is not None and len(value) != kind.count:
        raise ValueError(f"'{name}' has {len(value)} values, not {kind.count}")
    return value


def _feature(name: str, values: Sequence[bytes] | np.ndarray) -> bytes:
    if isinstance(values, np.ndarray):
        if values.dtype == np.float32:
            return _field(_FLOATS, _field(1, np.ascontiguousarray(values, "<f4").tobytes()))
        if values.dtype == np.int64:
            return _field(_INTEGERS, _field(1, b"".join(_varint(int(v) % 2**64) for v in values.ravel())))
        raise TypeError(f"{name}: arrays of {values.dtype} have no place in tf.train.Example; use float32 or int64")
    if all(isinstance(value, bytes) for value in values):
        return _field(_BYTES, b"".join(_field(1, value) for value in values))
    raise TypeError(f"{name}: not a list of bytes")


def _values(feature: memoryview) -> Feature:
    """The one list of a Feature; packed and single numbers may be mixed, as protobuf allows."""
    for kind, values in _fields(feature):
        if kind == _BYTES:
            return [_bytes(value) for _, value in _fields(values)]
        parts = [value for _, value in _fields(values)]
        if kind == _FLOATS:
            raw = b"".join(_bytes(part) for part in parts)
            return np.frombuffer(raw, "<f4").astype(np.float32)
        if kind == _INTEGERS:
            numbers = [n for part in parts for n in ([part] if isinstance(part, int) else _varints(part))]
            return np.array([n - 2**64 if n >= 2**63 else n for n in numbers], np.int64)
    return []


def _bytes(value: memoryview | int) -> bytes:
    """The bytes of a field; of a number, `bytes` would make as many zeros as it says."""
    if isinstance(value, int):
        raise TypeError("a number where bytes belong")
    return bytes(value)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("a number is too long")


def _varints(data: memoryview):
    at = 0
    while at < len(data):
        value, at = _read_varint(data, at)
        yield value


def _fields(data: memoryview):
    """(field number, payload) of each field of a message; the payload of a varint is an int."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _read_varint(data, at)
        else:
            if wire == _LENGTH:
                length, at = _read_varint(data, at)
            elif wire in (_FIXED32, _FIXED64):
                length = 4 if wire == _FIXED32 else 8
            else:
                raise IndexError(f"wire type {wire}")
            if at + length > len(data):
                raise IndexError("cut off")
            value, at = data[at : at + length], at + length
        yield number, value

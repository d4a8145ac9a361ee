"""Damaged and hostile files for tests: seeded mutants of good bytes, and safetensors of any header."""

import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from vasa_jax.errors import InputError


def refused(call, *words):
    """Asserts one line with a remedy that has the words."""
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and ";" in text and len(text) < 1000, text
    for word in words:
        assert word in text, text


def mutants(data: bytes, seed: int, count: int, header: int = 512) -> Iterator[bytes]:
    """Yields copies of `data` with flipped bits, extreme bytes and numbers, and cut, repeated or swapped pieces.

    Two in three changes are among the first `header` bytes, where sizes and types stand.
    """
    rng = np.random.default_rng(seed)
    size = len(data)

    def place():
        return int(rng.integers(min(header, size) if rng.random() < 0.67 else size))

    for _ in range(count):
        out, way, at = bytearray(data), int(rng.integers(7)), place()
        if way == 0:
            for _ in range(int(rng.integers(1, 9))):
                out[place()] ^= 1 << int(rng.integers(8))
        elif way == 1:
            out[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif way == 2:
            number = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**24]))
            out[at : at + 4] = struct.pack(str(rng.choice(["<I", ">I"])), number)
        elif way == 3:
            del out[at:]
        elif way == 4:
            del out[at : at + int(rng.integers(1, 200))]
        elif way == 5:
            out[at:at] = out[at : at + int(rng.integers(1, 400))]
        else:
            other, length = place(), int(rng.integers(1, 32))
            out[at : at + length], out[other : other + length] = out[other : other + length], out[at : at + length]
        yield bytes(out)


def split_safetensors(data: bytes) -> tuple[dict, bytes]:
    """Returns (header, body) of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def without_tensor(header: dict, body: bytes, name: str) -> bytes:
    """Returns a sound safetensors file that lacks one tensor."""
    start, stop = header[name]["data_offsets"]
    kept = {}
    for key, entry in header.items():
        if key == name:
            continue
        if key != "__metadata__" and entry["data_offsets"][0] >= stop:
            entry = {**entry, "data_offsets": [place - stop + start for place in entry["data_offsets"]]}
        kept[key] = entry
    return join_safetensors(kept, body[:start] + body[stop:])


def join_safetensors(header: dict | bytes, body: bytes) -> bytes:
    """Returns a safetensors file of this header, which may be anything."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body

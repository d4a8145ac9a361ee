"""Tags of pictures, read without unpacking them: which way is up, and headers that claim more than a file holds."""

import contextlib
import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

ORIENTATION = 0x0112  # TIFF 6.0, tag 274
_UNITS = (1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)  # bytes of a value of each TIFF type, type 0 first
_HEADERS = re.compile(rb"II\*\0|MM\0\*")
_SEGMENT = re.compile(rb"\xff\xe1..Exif\0\0", re.DOTALL)  # a JPEG's EXIF may be cut into segments of 64 kB
_MOST_DIRECTORIES = 64
_CLAIMS = 64 * 2**20  # bytes; below, claims cost little
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def orientation(info: Mapping[str, Any]) -> int:
    """Returns how Pillow's `image.info` says the picture is stored, 1 to 8 (TIFF 6.0, tag 274); 1 without such a tag.

    Only this tag is looked at: Pillow unpacks all of them, and there may be millions.
    """
    block = info.get("exif") or b""
    if not block and isinstance(info.get("Raw profile type exif"), str):  # PNG, as ImageMagick writes it
        with contextlib.suppress(ValueError):
            block = bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
    if isinstance(block, bytes):
        for tag, kind, count, value, order in _entries(block.removeprefix(b"Exif\0\0")):
            if tag == ORIENTATION and count == 1:
                found = struct.unpack(order + ("H" if kind == 3 else "I"), value[: 2 if kind == 3 else 4])[0]
                return found if 1 <= found <= 8 else 1
    for name in ("XML:com.adobe.xmp", "xmp"):
        text = info.get(name) or b""
        text = text.encode(errors="ignore") if isinstance(text, str) else text
        if isinstance(text, bytes) and (match := _XMP.search(text)):
            return int(match.group(1))
    return 1


def upright(pixels: np.ndarray, tag: int) -> np.ndarray:
    """Returns a view of (H, W, C) as it is to be seen, given its orientation, 1 to 8."""
    if tag in (2, 7):
        pixels = pixels[:, ::-1]
    elif tag in (4, 5):
        pixels = pixels[::-1]
    return np.rot90(pixels, {3: 2, 5: -1, 6: -1, 7: -1, 8: 1}.get(tag, 0))


def claims_too_much(data: bytes) -> bool:
    """Tells whether the tags of a picture file share data so that unpacking them takes many times the file's size."""
    pieces = _SEGMENT.split(data)
    return _claims(data) or (len(pieces) > 2 and _claims(b"".join(pieces[1:])))


def _claims(data: bytes) -> bool:
    for number, match in enumerate(_HEADERS.finditer(data)):
        if number == _MOST_DIRECTORIES:
            return False
        rest = len(data) - match.start()
        sizes = (
            count * _UNITS[kind] for _, kind, count, _, _ in _entries(data, match.start()) if kind < len(_UNITS)
        )
        if sum(size for size in sizes if size <= rest) > max(_CLAIMS, 4 * len(data)):
            return True
    return False


def _entries(data: bytes, start: int = 0):
    """Yields (tag, type, count, four bytes of the value or its place, byte order) of the first directory of a TIFF."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[start : start + 4])
    if order is None or len(data) < start + 8:
        return
    first = start + struct.unpack_from(order + "I", data, start + 4)[0]
    if first + 2 > len(data):
        return
    count = struct.unpack_from(order + "H", data, first)[0]
    for place in range(first + 2, min(first + 2 + 12 * count, len(data) - 11), 12):
        yield *struct.unpack_from(order + "HHI4s", data, place), order

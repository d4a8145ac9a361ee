"""JPEG and PNG pictures of records without their tags: a header is read first, and only what decodes is handed on.

Decoders unpack tags of any size, print warnings of odd ones, and take memory by what a header claims.
"""

import struct
import zlib
from typing import NamedTuple

from vasa_jax.data.picture_tags import orientation

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # markers of a JPEG's size
_HUFFMAN, _ARITHMETIC, _SCAN, _QUANTA, _RESTART, _JFIF, _EXIF, _ADOBE = 0xC4, 0xCC, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE
_JPEG_PARTS = _START_OF_FRAME | {_HUFFMAN, _ARITHMETIC, _QUANTA, _RESTART, _JFIF, _ADOBE}
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_PARTS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


class Bare(NamedTuple):
    """A picture's bytes without tags, its height and width as the header states them, and how it is stored."""

    data: bytes
    size: tuple[int, int]
    orientation: int  # 1 to 8 (TIFF 6.0, tag 274)


def bare_jpeg(data: bytes) -> Bare | None:
    """Reads the header of a JPEG (ITU T.81, annex B); None for bytes that are no JPEG or end in the header."""
    parts, size, stored, at = [data[:2]], None, 1, 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        part = data[at : at + 2 + length]
        if marker == _SCAN:
            return Bare(b"".join([*parts, data[at:]]), size, stored) if size else None
        if marker in _START_OF_FRAME:
            if size or len(part) < 9:
                return None
            size = struct.unpack(">HH", part[5:9])
        elif marker == _EXIF and stored == 1:
            stored = orientation({"exif": part[4:]})
        if marker in _JPEG_PARTS:
            parts.append(part)
        at += 2 + length
    return None


def bare_png(data: bytes) -> Bare | None:
    """Reads the chunks of a PNG (ISO 15948); None for bytes that are no PNG, are cut short or fail a checksum."""
    parts, size, stored, at = [data[:8]], None, 1, 8
    while data[:8] == _PNG_START and at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        part = data[at : at + 12 + length]
        if len(part) < 12 + length or zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:], "big"):
            return None
        if (kind == b"IHDR") != (size is None) or (kind == b"IHDR" and length != 13):
            return None
        if kind == b"IHDR":
            size = struct.unpack_from(">II", part, 8)[::-1]
        elif kind == b"eXIf":
            stored = orientation({"exif": part[8:-4]})
        if kind in _PNG_PARTS:
            parts.append(part)
        if kind == b"IEND":
            return Bare(b"".join(parts), size, stored)
        at += 12 + length
    return None

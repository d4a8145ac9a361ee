"""Pictures within records: whole ones as OpenCV reads them, cut and damaged ones refused, and nothing is printed."""

import dataclasses
import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hostile import mutants, refused
from PIL import Image
from tiny_records import tiny_record

from vasa_jax.data.dataset import VASADataset
from vasa_jax.data.records import decode_jpeg, decode_matte, encode_jpeg, encode_matte
from vasa_jax.data.shards import Shard, write_manifest, write_shard
from vasa_jax.errors import InputError

RNG = np.random.default_rng(0)
COLOUR = cv2.resize(RNG.integers(0, 255, (9, 9, 3)).astype(np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
GREY = COLOUR[..., 0]


def saved(pixels, form: str, **options) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, form, **options)
        return file.getvalue()


def turned(tag: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = tag
    return tags


WHOLE = {
    "ours": (decode_jpeg, encode_jpeg(COLOUR)),
    "progressive": (decode_jpeg, saved(COLOUR, "JPEG", progressive=True)),
    "halved colour": (decode_jpeg, saved(COLOUR, "JPEG", subsampling=2)),
    "grey": (decode_jpeg, saved(GREY, "JPEG")),
    **{f"turned {tag}": (decode_jpeg, saved(COLOUR, "JPEG", exif=turned(tag))) for tag in range(1, 9)},
    "profile": (decode_jpeg, saved(COLOUR, "JPEG", icc_profile=b"no profile", dpi=(72, 72), comment=b"x")),
    "our matte": (decode_matte, encode_matte(GREY / 255)),
    "matte of 16 bits": (decode_matte, saved(GREY.astype(np.uint16) * 257, "PNG")),
    "matte of 1 bit": (decode_matte, saved(GREY > 99, "PNG")),
    **{f"matte turned {tag}": (decode_matte, saved(GREY, "PNG", exif=turned(tag))) for tag in range(1, 9)},
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pictures_are_those_of_opencv(name):
    decode, data = WHOLE[name]
    if decode is decode_jpeg:
        wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    else:
        wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    found = decode(data)
    assert found.dtype == np.uint8 and found.flags.writeable
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", WHOLE)
def test_cut_pictures_are_refused_in_silence(name, capfd):
    decode, data = WHOLE[name]
    assert decode(data).shape[:2] == (96, 96)
    for size in {*np.linspace(0, len(data) - 1, 20).astype(int), len(data) - 2}:
        refused(
            lambda size=size: decode(data[:size]), "cut short" if size > 2 else "is not a", "write the records anew"
        )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["ours", "progressive", "turned 6", "our matte", "matte turned 6"])
def test_damaged_pictures_are_pictures_or_one_line_and_nothing_is_printed(name, capfd):
    decode, data = WHOLE[name]
    read = 0
    for mutant in mutants(data, seed=1, count=600, header=len(data)):
        try:
            image = decode(mutant)
        except InputError as error:
            assert "\n" not in str(error) and ";" in str(error)
        else:
            read += 1
            assert image.dtype == np.uint8 and image.shape[0] == image.shape[1] <= 2048
    assert read < 600
    assert capfd.readouterr() == ("", "")


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_tags_are_not_unpacked(capfd):
    """Pillow itself warns of each of these, or unpacks a bomb."""
    jpeg, png = WHOLE["ours"][1], WHOLE["our matte"][1]
    directory = b"II*\0\x08\0\0\0\xff\xff"
    for content in (b"Exif\0\0" + directory, b"Exif\0\0junk", b"MPF\0" + directory, b"ICC_PROFILE\0\x09"):
        tagged = jpeg[:2] + b"".join(segment(marker, content) for marker in (0xE1, 0xE2, 0xED, 0xFE)) + jpeg[2:]
        np.testing.assert_array_equal(decode_jpeg(tagged), decode_jpeg(jpeg))
    bomb = zlib.compress(bytes(2**26))
    text = b"a\0\0" + bomb
    for kind, content in ((b"acTL", bytes(8)), (b"zTXt", text), (b"iCCP", text), (b"eXIf", directory)):
        tagged = png[:33] + chunk(kind, content) * 2 + png[33:]
        np.testing.assert_array_equal(decode_matte(tagged), decode_matte(png))
    assert capfd.readouterr() == ("", "")


def test_a_second_header_is_refused():
    """Pillow takes memory by the last one."""
    jpeg, png = WHOLE["ours"][1], WHOLE["our matte"][1]
    at = jpeg.index(b"\xff\xc0")
    header = jpeg[at : at + 19]
    giant = header[:5] + struct.pack(">HH", 65_000, 65_000) + header[9:]
    refused(lambda: decode_jpeg(jpeg[:at] + header + giant + jpeg[at + 19 :]), "is not a JPEG")
    giant = chunk(b"IHDR", struct.pack(">II", 65_000, 65_000) + png[24:29])
    refused(lambda: decode_matte(png[:33] + giant + png[33:]), "is not a PNG")
    flipped = bytearray(png)
    flipped[60] ^= 1
    refused(lambda: decode_matte(bytes(flipped)), "is not a PNG")


@pytest.mark.parametrize("name", ["array_record", "tfrecord"])
@pytest.mark.parametrize("view", ["clips", "pairs"])
@pytest.mark.parametrize("field", ["frames", "matte"])
def test_a_data_set_names_the_shard_and_the_record(name, view, field, tmp_path, capfd):
    cut = [tiny_record(n) for n in range(4)]
    pictures = [data[: len(data) * 2 // 3] for data in getattr(cut[3], field)]
    cut[3] = dataclasses.replace(cut[3], **{field: tuple(pictures)})
    for index in range(2):
        write_shard(tmp_path, Shard("train", index, 2), cut[2 * index : 2 * index + 2], (name,))
    write_manifest(tmp_path)
    dataset = VASADataset(tmp_path, view=view, batch_size=2, frames=3, matte=True, epochs=1, shuffle=False, format=name)
    file = os.path.join(tmp_path, f"train-00001-of-00002.{name}")
    refused(lambda: list(dataset), f"{file}: record 1, clip 'clip-3': a ", "cut short", "; write the records anew")
    assert capfd.readouterr() == ("", "")

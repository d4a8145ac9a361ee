"""Manifests and records that lie, with valid checksums: one line, and no memory but for what is there."""

import copy
import json
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hostile import refused
from tiny_records import FRAMES, tiny_record, write_tiny

from vasa_jax.data.bare_pictures import bare_jpeg, bare_png
from vasa_jax.data.dataset import VASADataset
from vasa_jax.data.records import Record, decode_jpeg, decode_matte, encode_jpeg, encode_matte
from vasa_jax.data.shards import TFRecordWriter, read_manifest, write_manifest
from vasa_jax.data.tf_example import _field, _varint, encode_example
from vasa_jax.errors import InputError


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    write_tiny(folder, 4, 2)
    return folder


def with_value(manifest, path, value):
    """A copy of a manifest with another value at a path of keys."""
    changed = copy.deepcopy(manifest)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


SHARD = ("shards", 0)
FILE = (*SHARD, "files", "tfrecord")
CLIP = (*SHARD, "clips", 0)
BAD = (None, 5.5, -1, "", [], {}, [5], [None], True, 10**30, float("nan"), "\ud800")
PATHS = (
    ("schema_version",), ("settings",), ("shards",), ("shards", 0), *((*SHARD, name) for name in ("split", "index",
    "count", "clips", "files")), FILE, *((*FILE, name) for name in ("file", "bytes", "sha256")), CLIP,
    *((*CLIP, name) for name in ("clip_id", "person_id", "frames")),
)  # fmt: skip
SOUND = {("settings",): ({},), (*SHARD, "clips"): ([],)}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_every_type_and_range_of_a_manifest_is_checked(good, tmp_path, path):
    manifest = json.loads((good / "manifest.json").read_text())
    for value in BAD:
        if value in SOUND.get(path, ()):
            continue
        (tmp_path / "manifest.json").write_text(json.dumps(with_value(manifest, path, value)))
        refused(lambda: read_manifest(tmp_path), "manifest.json")
    at = manifest
    for key in path[:-1]:
        at = at[key]
    if isinstance(at, dict) and path != FILE:  # one format is enough
        del at[path[-1]]
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        refused(lambda: read_manifest(tmp_path), "manifest.json")


@pytest.mark.parametrize("name", ["..", ".", "../good/x", "/etc/passwd", "a/b", "a\\b", "c:x", "x\0y", "a" * 300])
def test_a_manifest_names_files_of_its_own_folder_only(good, tmp_path, name):
    manifest = json.loads((good / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(with_value(manifest, (*FILE, "file"), name)))
    refused(lambda: read_manifest(tmp_path), "the name of a file in this folder")


def test_manifests_that_are_no_json_too_deep_or_no_file(good, tmp_path):
    path = tmp_path / "manifest.json"
    text = (good / "manifest.json").read_text()
    deep = '{"a":' * 200 + "1" + "}" * 200
    assert '"settings": {}' in text
    for content in (
        "", "null", "[]", "[" * 100_000, text[:-2] + ', "x": ' + "[" * 500 + "]" * 500 + "}", "\xff",
        '{"schema_version": ' + "1" * 10_000 + "}", text.replace('"settings": {}', f'"settings": {deep}'),
    ):  # fmt: skip
        path.write_text(content, encoding="latin-1")
        refused(lambda: read_manifest(tmp_path), "manifest.json")
    path.unlink()
    os.mkfifo(path)
    refused(lambda: read_manifest(tmp_path), "is a FIFO")
    refused(lambda: VASADataset("a" * 300), "no such directory")


def test_shards_that_are_missing_or_double_are_found(good, tmp_path):
    manifest = json.loads((good / "manifest.json").read_text())
    for shards in (manifest["shards"][:1], manifest["shards"] * 2, manifest["shards"][:1] * 2):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "shards": shards}))
        refused(lambda: read_manifest(tmp_path), "not numbered in order")


def test_a_damaged_entry_of_a_shard_is_named(tmp_path):
    write_tiny(tmp_path, 2, 1)
    (tmp_path / "train-00000-of-00001.json").write_text("{")
    refused(lambda: write_manifest(tmp_path), "train-00000-of-00001.json", "delete it")


def dataset_of(folder, record: bytes, **changes):
    """Reads a data set whose records, with valid checksums, are these bytes."""
    write_tiny(folder, 2, 1, formats=("tfrecord",))
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["shards"][0]["files"]["tfrecord"]
    writer = TFRecordWriter(folder / entry["file"])
    for _ in range(2):
        writer.write(record)
    writer.close()
    entry["bytes"] = (folder / entry["file"]).stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    settings = {"batch_size": 2, "frames": 3, "size": 16, "epochs": 1, "matte": True, **changes}
    return list(VASADataset(folder, **settings))


def numbered(number: int) -> bytes:
    return _varint(1 << 3 | 0) + _varint(number)


@pytest.mark.parametrize("number", [10**6, 3 * 10**9, 2**62, 2**64 - 1])
def test_a_number_where_bytes_belong_takes_no_memory(number):
    tag = numbered(number)
    records = (
        _field(1, _field(1, tag + _field(2, _field(1, b"")))),
        _field(1, _field(1, _field(1, b"clip_id") + _field(2, _field(1, tag)))),
        _field(1, _field(1, _field(1, b"fps") + _field(2, _field(2, tag)))),
        _field(1, _field(1, _field(1, b"fps") + _varint(2 << 3) + _varint(number))),
        b"\x0a" + _varint(number),
    )
    tracemalloc.start()
    try:
        for record in records:
            refused(lambda record=record: Record.from_bytes(record))
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_every_feature_is_of_its_kind():
    """A value of another kind is refused; the right kind with odd content, too, or it is a record that `check` took."""
    features = tiny_record(0).to_features()
    wrong = ([], [b""], [b"x"], [b"\xff"], np.array([7, 8], np.int64), np.array([1.5], np.float32),
             np.array([np.nan], np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))  # fmt: skip
    for name in features:
        refused(lambda name=name: Record.from_bytes(encode_example({n: v for n, v in features.items() if n != name})))
        for value in wrong:
            data = encode_example({**features, name: value})
            try:
                record = Record.from_bytes(data)
            except InputError as error:
                assert "\n" not in str(error) and ";" in str(error), (name, value, error)
            else:
                assert record.check() is record
                assert isinstance(value, list) or name == "distance" or name.startswith("valid/"), (name, value)


@pytest.mark.parametrize("fps", [0.0, -25.0, np.nan, np.inf, 1e-30, 1e30])
def test_rates_out_of_range(fps):
    features = {**tiny_record(0).to_features(), "fps": np.array([fps], np.float32)}
    refused(lambda: Record.from_bytes(encode_example(features)), "per second")


def sized_jpeg(height: int, width: int) -> bytes:
    """A small JPEG whose header states another size."""
    data = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def sized_png(height: int, width: int) -> bytes:
    data = encode_matte(np.zeros((16, 16)))
    header = data[12:16] + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def test_headers_tell_the_size():
    image = np.zeros((24, 24, 3), np.uint8)
    assert bare_jpeg(encode_jpeg(image)).size == (24, 24) and bare_png(encode_matte(image[..., 0])).size == (24, 24)
    assert bare_jpeg(sized_jpeg(3, 70)).size == (3, 70) and bare_png(sized_png(3, 70)).size == (3, 70)
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", encode_matte(image[..., 0])):
        assert bare_jpeg(data) is None
    for data in (b"", b"\x89PNG\r\n\x1a\n", encode_jpeg(image)):
        assert bare_png(data) is None


@pytest.mark.parametrize("size", [(20_000, 20_000), (65_000, 65_000), (2049, 2049), (16, 32), (0, 0), (1, 65_000)])
def test_giant_and_oblong_pictures_are_refused_before_they_are_decoded(size):
    refused(lambda: decode_jpeg(sized_jpeg(*size)), "pixels")
    refused(lambda: decode_matte(sized_png(*size)), "pixels")
    refused(lambda: decode_jpeg(encode_matte(np.zeros((16, 16)))), "not a JPEG")
    refused(lambda: decode_matte(encode_jpeg(np.zeros((16, 16, 3), np.uint8))), "not a PNG")


def test_data_sets_of_such_pictures_name_the_record(tmp_path):
    features = tiny_record(0).to_features()
    giant = encode_example({**features, "frames": [sized_jpeg(20_000, 20_000)] * FRAMES})
    refused(lambda: dataset_of(tmp_path / "giant", giant), str(tmp_path / "giant"), "clip-0", "20000 x 20000")
    sizes = [encode_jpeg(np.zeros((16 + 2 * i, 16 + 2 * i, 3), np.uint8)) for i in range(FRAMES)]
    mixed = encode_example({**features, "frames": sizes})
    refused(lambda: dataset_of(tmp_path / "mixed", mixed, size=0), "differ in size")
    mattes = encode_example({**features, "matte": [sized_png(60_000, 60_000)] * FRAMES})
    refused(lambda: dataset_of(tmp_path / "mattes", mattes), "clip-0", "60000 x 60000")

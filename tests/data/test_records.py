"""Records and shards: the schema, both containers, interrupted writing, corrupt files."""

import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_records import assert_same, tiny_record, write_tiny

from vasa_jax.data import shards
from vasa_jax.data.records import LABELS, OPTIONAL, Record
from vasa_jax.data.shards import Shard, ShardReader, read_manifest, verify, write_manifest, write_shard
from vasa_jax.data.tf_example import decode_example, encode_example
from vasa_jax.errors import InputError


def read_tfrecord_file(path):
    """An independent reader: plain CRC-32C bit by bit, framing from the TFRecord page, protobuf's own parser."""
    from tensorflow_datasets.proto import tf_example_pb2

    def masked_crc(data):
        crc = 0xFFFFFFFF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
        crc ^= 0xFFFFFFFF
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32

    data, at = path.read_bytes(), 0
    while at < len(data):
        length, length_crc = struct.unpack_from("<QI", data, at)
        payload = data[at + 12 : at + 12 + length]
        assert length_crc == masked_crc(data[at : at + 8])
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked_crc(payload)
        yield tf_example_pb2.Example.FromString(payload)
        at += 16 + length


def test_a_record_comes_back_as_it_was():
    record = tiny_record(3)
    assert record.valid == dict.fromkeys(OPTIONAL, True)
    assert_same(Record.from_bytes(record.to_bytes()), record)


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_label_comes_back_missing(name):
    extra = {"landmark_set": ""} if name == "landmarks" else {}
    record = dataclasses.replace(tiny_record(0), **{name: None}, **extra)
    again = Record.from_bytes(record.to_bytes())
    assert_same(again, record)
    assert again.valid == {other: other != name for other in OPTIONAL}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"clip_id": ""}, "clip_id"),
        ({"split": "validation"}, "split"),
        ({"fps": 0.0}, "positive"),
        ({"frames": ()}, "positive"),
        ({"matte": (b"x",)}, "matte"),
        ({"audio": np.zeros(100, np.int16)}, "samples"),
        ({"audio": np.zeros(3200, np.float32)}, "audio"),
        ({"pose": np.zeros((4, 9), np.float32)}, "pose"),
        ({"mouth": np.zeros(5)}, "mouth"),
        ({"gaze": np.full((5, 2), np.nan, np.float32)}, "finite"),
        ({"emotion": np.zeros(7, np.float32)}, "emotion"),
        ({"landmark_set": ""}, "landmark_set"),
    ],
)
def test_a_record_that_breaks_the_schema_is_refused(change, word):
    with pytest.raises(InputError, match=word):
        dataclasses.replace(tiny_record(0), **change).to_bytes()


def test_another_schema_version_is_refused():
    features = tiny_record(0).to_features()
    features["schema_version"] = np.array([99], np.int64)
    with pytest.raises(InputError, match="schema_version 99"):
        Record.from_bytes(encode_example(features))
    with pytest.raises(InputError):
        Record.from_bytes(b"\x0a\xff\x01nonsense")


def test_examples_are_those_of_protobuf_both_ways():
    from tensorflow_datasets.proto import tf_example_pb2

    features = {
        "bytes": [b"", b"a" * 300],
        "floats": np.array([1.5, -0.0, np.inf], np.float32),
        "integers": np.array([0, 1, -1, 2**63 - 1, -(2**63), 300], np.int64),
        "none": [],
    }
    message = tf_example_pb2.Example.FromString(encode_example(features))
    found = message.features.feature
    assert list(found["bytes"].bytes_list.value) == features["bytes"]
    assert list(found["floats"].float_list.value) == features["floats"].tolist()
    assert list(found["integers"].int64_list.value) == features["integers"].tolist()
    again = decode_example(message.SerializeToString())
    assert again["bytes"] == features["bytes"] and len(again["none"]) == 0
    assert (again["floats"] == features["floats"]).all() and (again["integers"] == features["integers"]).all()
    with pytest.raises(TypeError, match="float64"):
        encode_example({"x": np.zeros(2)})


def test_shards_come_back_in_both_formats(tmp_path):
    manifest = write_tiny(tmp_path, clips=5, shards=2)
    assert [len(shard.clips) for shard in manifest.split("train")] == [3, 2]
    for name in shards.FORMATS:
        readers = [ShardReader(manifest, shard, name) for shard in manifest.split("train")]
        read = [reader[index] for reader in readers for index in range(len(reader))]
        for number, record in enumerate(read):
            assert_same(record, tiny_record(number))
    assert verify(manifest) == 4
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(InputError, match="heldout"):
        manifest.split("heldout")


def test_an_independent_reader_reads_the_tfrecord(tmp_path):
    manifest = write_tiny(tmp_path, clips=2, shards=1)
    examples = list(read_tfrecord_file(tmp_path / manifest.shards[0].files["tfrecord"]["file"]))
    assert len(examples) == 2
    for number, example in enumerate(examples):
        record, feature = tiny_record(number), example.features.feature
        assert feature["clip_id"].bytes_list.value[0].decode() == record.clip_id
        assert tuple(feature["frames"].bytes_list.value) == record.frames
        assert (np.frombuffer(feature["audio"].bytes_list.value[0], "<i2") == record.audio).all()
        for name in LABELS:
            assert np.array_equal(np.array(feature[name].float_list.value, np.float32), getattr(record, name).ravel())


def test_finished_shards_are_kept_and_unfinished_ones_written_anew(tmp_path):
    shard, settings = Shard("train", 0, 1), {"size": 8}
    assert write_shard(tmp_path, shard, [tiny_record(0)], settings=settings)

    def never():
        raise AssertionError("a finished shard was made again")
        yield

    assert not write_shard(tmp_path, shard, never(), settings=settings)
    with pytest.raises(InputError, match="size 8, now 9"):
        write_shard(tmp_path, shard, [tiny_record(0)], settings={"size": 9})
    path = tmp_path / f"{shard.name}.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])  # as a full disk leaves it
    assert write_shard(tmp_path, shard, [tiny_record(0)], settings=settings)
    assert path.read_bytes() == whole


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk")
@pytest.mark.parametrize("name", shards.FORMATS)
def test_a_full_disk_is_one_line(name):
    writer = shards._WRITERS[name]("/dev/full")
    with pytest.raises(InputError, match="/dev/full: cannot be written"):
        for _ in range(5):
            shards._attempt("/dev/full", writer.write, bytes(2_000_000))
        shards._attempt("/dev/full", writer.close)


def test_a_manifest_names_the_shard_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="no finished shard"):
        write_manifest(tmp_path)
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_manifest(tmp_path)
    write_shard(tmp_path, Shard("train", 1, 2), [tiny_record(0)])
    with pytest.raises(InputError, match="train-00000-of-00002"):
        write_manifest(tmp_path)


def test_a_record_that_breaks_the_schema_leaves_no_finished_shard(tmp_path):
    shard = Shard("train", 0, 1)
    with pytest.raises(InputError, match="split"):
        write_shard(tmp_path, shard, [tiny_record(0), dataclasses.replace(tiny_record(1), split="x")])
    assert not shards.is_finished(tmp_path, shard, shards.FORMATS, {})
    assert write_shard(tmp_path, shard, [tiny_record(0)])


def test_a_shard_that_goes_away_while_it_is_read_is_named(tmp_path):
    manifest = write_tiny(tmp_path, clips=4, shards=2)
    reader = ShardReader(manifest, manifest.shards[1], "tfrecord")
    assert_same(reader[0], tiny_record(2))
    path = tmp_path / manifest.shards[1].files["tfrecord"]["file"]
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}: is no longer there; put it back"):
        reader[1]


@pytest.mark.parametrize("name", shards.FORMATS)
def test_a_corrupt_shard_is_named_and_refused(tmp_path, name):
    manifest = write_tiny(tmp_path, clips=4, shards=2)
    shard = manifest.shards[1]
    path = tmp_path / shard.files[name]["file"]
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(tiny_record(3).frames[0]) + 30] ^= 4
    path.write_bytes(damaged)
    reader = ShardReader(manifest, shard, name)
    assert_same(reader[0], tiny_record(2))
    with pytest.raises(InputError, match=f"{path.name}: record 1 is corrupt"):
        reader[1]
    with pytest.raises(InputError, match=f"{path.name}: corrupt, its checksum"):
        verify(manifest)
    for wrong, word in ((whole[:-1], "corrupt"), (None, "missing")):
        path.unlink(missing_ok=True)
        if wrong is not None:
            path.write_bytes(wrong)
        with pytest.raises(InputError, match=f"{path.name}: {word}"):
            ShardReader(manifest, shard, name)
    path.write_bytes(b"\0" * len(whole))  # the right length, nothing inside
    with pytest.raises(InputError, match=path.name):
        ShardReader(manifest, shard, name)[0]


_KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from tiny_records import tiny_record
from vasa_jax.data.shards import Shard, write_shard

def records(shard):
    for index in range(2):
        yield tiny_record(2 * shard + index)
        if shard == 1:
            print("half way", flush=True)
            time.sleep(60)

for shard in range(3):
    write_shard({directory!r}, Shard("train", shard, 3), records(shard))
"""


def test_a_killed_writer_goes_on(tmp_path):
    tests = str(Path(__file__).parents[1] / "helpers")
    code = _KILLED.format(tests=tests, directory=str(tmp_path / "killed"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout.readline() == b"half way\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "killed").glob("*.part"))
    finished = tmp_path / "killed" / "train-00000-of-00003.array_record"
    before = finished.stat().st_mtime_ns
    time.sleep(0.01)
    write_tiny(tmp_path / "killed", clips=6, shards=3)
    write_tiny(tmp_path / "whole", clips=6, shards=3)
    assert finished.stat().st_mtime_ns == before
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "killed").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name


def test_the_manifest_lists_clips_people_and_checksums(tmp_path):
    write_tiny(tmp_path, clips=3, shards=1)
    content = json.loads((tmp_path / "manifest.json").read_text())
    shard = content["shards"][0]
    assert content["schema_version"] == 1 and shard["split"] == "train"
    assert shard["clips"][2] == {"clip_id": "clip-2", "person_id": "person-1", "frames": 5}
    assert len(shard["files"]["tfrecord"]["sha256"]) == 64

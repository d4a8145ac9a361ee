"""VASADataset: order, workers, position, hosts, views, and the three formats."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
from tiny_records import FRAMES, POINTS, SIZE, tiny_record, write_tiny

from vasa_jax.data.dataset import VASADataset
from vasa_jax.data.records import LABELS, decode_jpeg, decode_matte
from vasa_jax.data.shards import Shard, write_manifest, write_shard
from vasa_jax.errors import InputError

CLIPS = 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("records")
    write_tiny(path, clips=CLIPS, shards=4)
    return path


@pytest.fixture(scope="module")
def tfds_directory(directory, tmp_path_factory):
    from vasa_jax.corpus.vasa_corpus.vasa_corpus_dataset_builder import build

    return build(directory, tmp_path_factory.mktemp("tfds"))


def dataset(path, **settings):
    return VASADataset(path, **{"batch_size": 3, "frames": 4, **settings})


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        assert x.keys() == y.keys()
        for name in x:
            assert x[name].dtype == y[name].dtype and np.array_equal(x[name], y[name]), name


def numbers(batches):
    return np.concatenate([batch["record"] for batch in batches]).tolist()


def test_a_window_is_the_records_own(directory):
    data = dataset(directory, matte=True)
    starts = set()
    for batch in take(data, 8):
        assert batch["frames"].shape == (3, 4, SIZE, SIZE, 3) and batch["frames"].dtype == np.uint8
        assert batch["audio"].shape == (3, 4 * 640) and batch["audio"].dtype == np.int16
        assert batch["landmarks"].shape == (3, 4, POINTS, 3)
        for row, clip_id in enumerate(data.clip_ids(batch)):
            record = tiny_record(int(clip_id.split("-")[1]))
            start = next(s for s in range(2) if np.array_equal(record.pose[s : s + 4], batch["pose"][row]))
            starts.add(start)
            pictures = np.stack([decode_jpeg(data) for data in record.frames[start : start + 4]])
            assert np.array_equal(batch["frames"][row], pictures)
            assert np.array_equal(batch["matte"][row, 1], decode_matte(record.matte[start + 1]))
            assert np.array_equal(batch["audio"][row], record.audio[640 * start : 640 * (start + 4)])
            assert np.array_equal(batch["emotion"][row], record.emotion)
            assert batch["valid_pose"][row] and batch["valid_audio"][row] and batch["valid_matte"][row]
    assert starts == {0, 1}


def test_a_pair_is_of_one_clip_and_its_partner_of_somebody_else(directory):
    data = dataset(directory, view="pairs", batch_size=4, matte=True)
    for batch in take(data, 6):
        assert batch["source"].shape == (4, SIZE, SIZE, 3) and batch["source"].dtype == np.uint8
        records = [tiny_record(int(clip_id.split("-")[1])) for clip_id in data.clip_ids(batch)]
        for row, record in enumerate(records):
            places = []
            for name in ("source", "driver"):
                place = next(i for i in range(FRAMES) if np.array_equal(record.pose[i], batch[f"{name}_pose"][row]))
                assert np.array_equal(batch[name][row], decode_jpeg(record.frames[place]))
                assert np.array_equal(batch[f"{name}_matte"][row], decode_matte(record.matte[place]))
                assert np.array_equal(batch[f"{name}_landmarks"][row], record.landmarks[place])
                places.append(place)
            assert places[0] != places[1]
            partner = records[batch["partner"][row]]
            assert batch["valid_partner"][row] == (partner.person_id != record.person_id)
        several = len({record.person_id for record in records}) > 1
        assert batch["valid_partner"].all() == several


def test_every_epoch_shows_every_record_once_in_another_order(directory):
    order = numbers(take(dataset(directory), 8))
    assert sorted(order[:CLIPS]) == sorted(order[CLIPS:]) == list(range(CLIPS))
    assert order[:CLIPS] != order[CLIPS:] and order[:CLIPS] != list(range(CLIPS))
    assert numbers(take(dataset(directory, seed=1), 4)) != order[:CLIPS]
    once = list(dataset(directory, shuffle=False, epochs=1))
    assert numbers(once) == list(range(CLIPS))
    assert np.array_equal(once[0]["pose"][0], tiny_record(0).pose[:4])


@pytest.mark.parametrize("view", ["clips", "pairs"])
def test_worker_processes_change_nothing_and_a_position_is_restored(directory, tfds_directory, view):
    directory = {"clips": directory, "pairs": tfds_directory}[view]
    alone = take(dataset(directory, view=view), 7)
    iterator = iter(dataset(directory, view=view, workers=2))
    assert_equal(take(iterator, 5), alone[:5])
    state = iterator.state()
    assert state["step"] == 5 and all(isinstance(value, int) for value in state.values())
    iterator.close()
    again = iter(dataset(directory, view=view))
    next(again)
    again.restore(state)
    assert_equal(take(again, 2), alone[5:])
    if view == "clips":
        back = iter(dataset(directory, view=view, workers=1))
        back.restore(state | {"step": 6})
        assert_equal(take(back, 1), alone[6:])
        back.close()


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 2}, {"hosts": 2}, {"frames": 3}])
def test_a_position_of_another_run_is_refused_by_name(directory, change):
    state = iter(dataset(directory, **change)).state()
    with pytest.raises(InputError, match=f"saved position is of {next(iter(change))}"):
        iter(dataset(directory)).restore(state)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"split": "heldout"}, "another split, this run has train"),
        ({"view": "pairs"}, "another view, this run has clips"),
        ({"size": 4}, "size 4, this run has 0"),
        ({"matte": True}, "matte 1, this run has False"),
        ({"shuffle": False}, "shuffle 0, this run has True"),
        ({"flip": True}, "flip 1, this run has False"),
        ({"view": "pairs", "same_frame": 0.5}, "another (view|same_frame)"),
    ],
)
def test_a_position_knows_what_decides_the_data(directory, tmp_path, change, fault):
    for split in ("train", "heldout"):
        write_tiny(tmp_path, clips=CLIPS, shards=4, split=split)
    state = iter(dataset(tmp_path, **change)).state()
    with pytest.raises(InputError, match=f"saved position is of {fault}"):
        iter(dataset(tmp_path)).restore(state)


def test_a_position_belongs_to_its_records_and_not_to_their_folder(directory, tfds_directory, tmp_path):
    """Another set with as many records is refused; a copy elsewhere is not, nor a position of an earlier version."""
    state = iter(dataset(directory)).state()
    shutil.copytree(directory, tmp_path / "copy")
    iter(dataset(tmp_path / "copy")).restore(state)
    for index in range(4):  # as many clips, of other people
        records = (dataclasses.replace(tiny_record(3 * index + i), person_id="other") for i in range(3))
        write_shard(tmp_path / "other", Shard("train", index, 4), records)
    write_manifest(tmp_path / "other")
    old = {name: state[name] for name in ("step", "seed", "batch_size", "frames", "host", "hosts", "records")}
    for path in (tmp_path / "other", tfds_directory):
        with pytest.raises(InputError, match="saved position is of data_set"):
            iter(dataset(path)).restore(state)
        iter(dataset(path)).restore(old)


@pytest.mark.parametrize("name", ["array_record", "tfrecord", "tfds"])
@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_hosts_read_disjoint_parts(directory, tfds_directory, name, hosts):
    path = tfds_directory if name == "tfds" else directory
    parts = []
    for host in range(hosts):
        data = dataset(path, format=name, host=host, hosts=hosts, batch_size=1, epochs=1)
        clips = [clip for batch in data for clip in data.clip_ids(batch)]
        assert len(clips) == len(data)
        parts.append(set(clips))
    assert sum(map(len, parts)) == CLIPS and set.union(*parts) == {f"clip-{n}" for n in range(CLIPS)}


def test_formats_give_the_same_batches(directory, tfds_directory):
    settings = {"shuffle": False, "epochs": 1, "matte": True, "batch_size": CLIPS}
    first, second = (list(dataset(directory, format=name, **settings)) for name in ("array_record", "tfrecord"))
    assert_equal(first, second)
    data = dataset(tfds_directory, **settings)  # TFDS shuffles while it builds
    third = next(iter(data))
    order = np.argsort([int(clip_id.split("-")[1]) for clip_id in data.clip_ids(third)])
    for name in set(third) - {"record"}:
        assert np.array_equal(third[name][order], first[0][name]), name


def test_clips_without_labels_keep_their_place(tmp_path):
    bare = dataclasses.replace(
        tiny_record(1), audio=None, matte=None, landmark_set="", **dict.fromkeys(LABELS)
    )
    write_shard(tmp_path, Shard("train", 0, 1), [tiny_record(0), bare])
    write_manifest(tmp_path)
    for view in ("clips", "pairs"):
        batch = next(iter(dataset(tmp_path, view=view, batch_size=2, shuffle=False, matte=True)))
        for name in (*LABELS, "matte"):
            assert batch[f"valid_{name}"].tolist() == [True, False]
        for name, value in batch.items():
            if any(label in name for label in (*LABELS, "matte")) and not name.startswith("valid"):
                assert not value[1].any() and value[0].any(), name
        assert not batch.get("valid_partner", np.zeros(1)).any()  # two clips of one person


def test_short_clips_are_left_out_and_pictures_resized(tmp_path):
    records = [tiny_record(number, frames=2 + 2 * (number % 2)) for number in range(4)]
    write_shard(tmp_path, Shard("train", 0, 1), records)
    write_manifest(tmp_path)
    data = dataset(tmp_path, batch_size=2, size=8, matte=True)
    batch = next(iter(data))
    assert set(data.clip_ids(batch)) == {"clip-1", "clip-3"}
    assert batch["frames"].shape == (2, 4, 8, 8, 3) and batch["matte"].shape == (2, 4, 8, 8)
    with pytest.raises(InputError, match="2 usable records"):
        dataset(tmp_path, batch_size=3)


def test_bad_requests_are_refused(directory, tmp_path):
    for settings, word in (
        ({"path": tmp_path / "nothing"}, "no such directory"),
        ({"path": tmp_path}, "manifest"),
        ({"split": "heldout"}, "no split 'heldout'"),
        ({"view": "frames"}, "view 'frames'"),
        ({"format": "csv"}, "not written as csv"),
        ({"format": "tfds"}, "not a TFDS build"),
        ({"host": 2, "hosts": 2}, "host 2 of 2"),
        ({"format": "tfrecord", "hosts": 5, "batch_size": 1}, "4 TFRecord shards for 5 hosts"),
        ({"batch_size": CLIPS + 1}, "less than a batch"),
    ):
        with pytest.raises(InputError, match=word):
            dataset(**{"path": directory, **settings})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_shard_stops_the_loader_by_name(tmp_path, workers):
    manifest = write_tiny(tmp_path, clips=4, shards=2, formats=("array_record",))
    path = tmp_path / manifest.shards[1].files["array_record"]["file"]
    data = bytearray(path.read_bytes())
    data[data.index(tiny_record(3).frames[0]) + 30] ^= 4
    path.write_bytes(data)
    iterator = iter(dataset(tmp_path, batch_size=1, shuffle=False, workers=workers))
    assert numbers(take(iterator, 3)) == [0, 1, 2]
    with pytest.raises(InputError, match=f"{path.name}: record 1 is corrupt"):
        next(iterator)
    iterator.close()
    with pytest.raises(InputError, match="checksum"):
        dataset(tmp_path, verify_files=True)

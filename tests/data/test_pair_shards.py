"""Pairs of the codec from shards: labels, regions, processes, position."""

import functools

import jax
import numpy as np
import pytest
from tiny_records import tiny_record, write_tiny

from vasa_jax.config import CorpusConfig
from vasa_jax.conventions import LANDMARKS, SEGMENTS
from vasa_jax.data.dataset import VASADataset
from vasa_jax.data.face_regions import OUTLINES, segmentation_of
from vasa_jax.data.pairs import PairShards
from vasa_jax.data.records import decode_jpeg, decode_matte
from vasa_jax.errors import InputError


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    write_tiny(path, clips=12, shards=4, unlabelled=("pose", "matte"))
    return path


def pairs(directory, batch_size=4, seed=0):
    return PairShards.of_this_process(CorpusConfig(shards=str(directory)), 16, batch_size, seed)


@functools.cache
def pictures():
    """Bytes of every picture of the twelve clips: (clip, frame)."""
    records = ((n, tiny_record(n)) for n in range(12))
    return {decode_jpeg(data).tobytes(): (n, i) for n, record in records for i, data in enumerate(record.frames)}


def test_batches_say_what_is_labelled(directory):
    stream, seen = pairs(directory), set()
    for _ in range(6):
        batch = next(stream)
        assert {value.shape[0] for value in batch.values()} == {4}
        places = [pictures()[picture.tobytes()] for picture in batch["driver"]]
        for row, (number, place) in enumerate(places):
            seen.add(number)
            record = tiny_record(number, unlabelled=("pose", "matte"))
            assert batch["valid_pose"][row] == batch["valid_matte"][row] == (number % 2 == 0)
            pose = record.pose[place] if record.pose is not None else np.zeros(9)
            np.testing.assert_array_equal(batch["driver_pose"][row], pose)
            matte = decode_matte(record.matte[place]) if record.matte is not None else np.full((16, 16), 255)
            np.testing.assert_array_equal(batch["segmentation"][row] > 0, matte >= 128)
            same = batch["person"][row] == batch["person"]
            np.testing.assert_array_equal(same, [other // 2 == number // 2 for other, _ in places])
    assert len(seen) > 6


def test_a_share_of_the_pairs_is_one_frame_twice(directory):
    stream = PairShards.of_this_process(CorpusConfig(shards=str(directory)), 16, 4, 0, same_frame=0.3)
    batches = [next(stream) for _ in range(60)]
    twice = np.concatenate([(b["source"] == b["driver"]).all((1, 2, 3)) for b in batches])
    assert 0.2 < twice.mean() < 0.4
    for batch in batches[:10]:
        same = (batch["source"] == batch["driver"]).all((1, 2, 3))
        np.testing.assert_array_equal(batch["source_pose"][same], batch["driver_pose"][same])
    with pytest.raises(InputError, match="same_frame"):
        VASADataset(directory, view="pairs", batch_size=4, shuffle=False, same_frame=0.3)


def test_position_is_restored(directory):
    first = pairs(directory)
    next(first)
    state, expected = first.state(), [next(first) for _ in range(2)]
    assert all(isinstance(value, int) for value in state.values())
    again = pairs(directory)
    again.restore(state)
    for wanted in expected:
        for name, value in next(again).items():
            np.testing.assert_array_equal(value, wanted[name], err_msg=name)
    with pytest.raises(InputError, match="the saved position is of seed 0, this run has 1"):
        pairs(directory, seed=1).restore(state)


def test_processes_read_disjoint_clips(directory, monkeypatch):
    drawn = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        stream = pairs(directory)
        batches = [next(stream)["driver"] for _ in range(6)]
        assert all(len(batch) == 2 for batch in batches)
        drawn.append({pictures()[picture.tobytes()][0] for batch in batches for picture in batch})
    assert not drawn[0] & drawn[1] and drawn[0] | drawn[1] == set(range(12))


def test_held_out_pairs_are_the_first_and_last_frames(directory, tmp_path):
    with pytest.raises(InputError, match="no split 'heldout'; it has train"):
        PairShards.held_out(CorpusConfig(shards=str(directory)), 16, 4, 2)
    write_tiny(tmp_path, clips=5, shards=1, split="heldout")
    batches = PairShards.held_out(CorpusConfig(shards=str(tmp_path)), 16, 2, 9)
    assert len(batches) == 2
    record = tiny_record(3, "heldout")
    np.testing.assert_array_equal(batches[1]["source"][1], decode_jpeg(record.frames[0]))
    np.testing.assert_array_equal(batches[1]["driver"][1], decode_jpeg(record.frames[-1]))


@pytest.mark.parametrize("points", sorted(OUTLINES))
def test_features_are_filled_inside_their_outlines(points):
    size, landmarks = 64, np.full((points, 3), -0.9, np.float32)
    centres = {"mouth": (0.0, 0.5), "left": (-0.5, -0.2), "right": (0.5, -0.2)}
    for outline, (x, y) in zip(OUTLINES[points], centres.values()):
        angle = 2 * np.pi * np.arange(len(outline)) / len(outline)
        landmarks[list(outline), :2] = np.stack([x + 0.2 * np.cos(angle), y + 0.1 * np.sin(angle)], -1)
    matte = np.full((size, size), 255, np.uint8)
    matte[:8] = 0
    result = segmentation_of(matte, landmarks, size)
    for name, (x, y) in centres.items():
        row, column = (round((value + 1) * size / 2 - 0.5) for value in (y, x))
        assert SEGMENTS[result[row, column]] == ("mouth" if name == "mouth" else "sclera")
        assert SEGMENTS[result[row + 6, column]] == SEGMENTS[result[row, column + 9]] == "skin"
    assert (result[:8] == 0).all() and (result[8:] > 0).all()
    area = np.pi * 0.2 * 0.1 / 4 * size**2
    assert abs((result == SEGMENTS.index("mouth")).sum() - area) < 0.25 * area
    assert (segmentation_of(None, landmarks[:3], size) == SEGMENTS.index("skin")).all()


def test_outlines_of_the_built_in_points_are_its_lips_and_eyes():
    names = [{LANDMARKS[i].rpartition("_")[0] for i in outline} for outline in OUTLINES[len(LANDMARKS)]]
    assert names == [{"outer_lip"}, {"eye_left"}, {"eye_right"}]

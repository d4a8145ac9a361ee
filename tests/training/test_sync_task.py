"""What the sync probe learns from: stretches whose sound is of the same moment, shards; known shifts; it learns."""

import dataclasses

import jax
import numpy as np
import pytest
from fake_heads import FakeFaceReader
from learning import learnt_accuracies
from tiny_records import tiny_record

from vasa_jax.config import CorpusConfig, SyncConfig, VASAConfig
from vasa_jax.data.shards import Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.evaluation.sync import SyncFigures
from vasa_jax.models.sync_probe import COEFFICIENTS, COLUMNS, SIDE, STORED
from vasa_jax.training.tasks import sync_data
from vasa_jax.training.tasks.sync import KNOWN_SHIFT, SyncTask, shift_errors
from vasa_jax.training.tasks.sync_data import MouthSpeech, MouthSpeechBatches, real_mouths

PLAIN = SyncConfig(
    variant="sync_tiny", frames=16, misplaced=0.0, shade=0.0, noise=0.0, balance=0.0, hiss=0.0, real_share=0.25
)  # fmt: skip


def stretches(tracks, margin=0, voices=1):
    """Mouths as bright as a track (N, T), and sound that says the same; beyond the ends it is the track's edge."""
    tracks = np.asarray(tracks, np.float32)
    patches = np.zeros((*tracks.shape, STORED, STORED), np.uint8)
    patches[:, :, STORED // 3 : -STORED // 3] = (200 * tracks[:, :, None, None]).astype(np.uint8)
    wide = np.pad(tracks, ((0, 0), (margin, margin)), "edge")
    columns = np.broadcast_to(wide[:, None, :, None, None], (len(tracks), voices, wide.shape[1], COLUMNS, COEFFICIENTS))
    return MouthSpeech(patches, columns.astype(np.float16))


def test_sound_and_mouth_of_a_stretch_are_of_one_moment():
    tracks = np.random.default_rng(0).random((6, 16))
    batches = MouthSpeechBatches([stretches(tracks, margin=3), stretches(tracks)], [0.75, 0.25], PLAIN, 8, 0)
    batch = jax.device_get(batches.batch(0))
    assert batch["patches"].shape == (8, 16, SIDE, SIDE, 1)
    assert batch["columns"].shape == (8, 16, COLUMNS, COEFFICIENTS)
    np.testing.assert_allclose(
        batch["patches"][:, :, SIDE // 2, SIDE // 2, 0] * 255 / 200, batch["columns"][:, :, 0, 0], atol=0.01
    )
    np.testing.assert_array_equal(batches.batch(0)["patches"], batch["patches"])
    assert (batches.batch(1)["columns"] != batch["columns"]).any()


def test_a_camera_and_a_microphone_may_do_what_is_asked():
    rough = dataclasses.replace(PLAIN, misplaced=0.1, shade=0.3, noise=0.1, balance=0.3, hiss=0.5)
    tracks = np.full((4, 16), 0.5)
    plain, changed = (MouthSpeechBatches([stretches(tracks)], [1.0], s, 8, 0).batch(0) for s in (PLAIN, rough))
    moved = np.abs(np.asarray(plain["patches"] - changed["patches"]))
    assert moved.max() > 0.1 and np.isfinite(changed["patches"]).all()
    assert np.asarray(changed["columns"]).std((1, 2)).min() > 0 and not np.asarray(plain["columns"]).std((1, 2)).any()


class Hearing:
    """A meter that compares mean brightness and sound exactly."""

    def measure(self, patches, columns):
        frames = min(len(patches), len(columns))
        seen, heard = patches[:frames, STORED // 2, 0] / 200.0, columns[:frames, 0, 0]
        shifts = range(-12, 13)
        overlap = {s: (seen[max(-s, 0) : frames - max(s, 0)], heard[max(s, 0) : frames - max(-s, 0)]) for s in shifts}
        late = min(shifts, key=lambda s: np.abs(overlap[s][0] - overlap[s][1]).mean())
        return SyncFigures(1.0, 0.0, -late)


@pytest.mark.parametrize("margin", [0, KNOWN_SHIFT])
def test_the_known_shifts_are_those_that_are_asked_for(margin):
    rng = np.random.default_rng(0)
    found = shift_errors(Hearing(), stretches(rng.random((21, 60)), margin=margin))
    assert found["within_1"] == found["exact"] == 1.0 and found["clips"] == 21


def test_shards_give_overlapping_stretches_of_clips_with_sound(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sync_data, "mouth_patches", lambda pictures, *_: np.zeros((len(pictures), STORED, STORED), np.uint8)
    )
    records = [tiny_record(number, frames=frames) for number, frames in enumerate((20, 40, 15, 20))]
    records[3] = dataclasses.replace(records[3], audio=None)
    write_shard(tmp_path, Shard("train", 0, 1), iter(records), ("array_record",))
    write_manifest(tmp_path)
    found = real_mouths(FakeFaceReader(), str(tmp_path), 16, "train")
    assert found.patches.shape == (2 + 3, 16, STORED, STORED) and found.margin == 0
    assert found.columns.shape == (5, 1, 16, COLUMNS, COEFFICIENTS)
    assert real_mouths(FakeFaceReader(), str(tmp_path), 16, "heldout") is None


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(InputError, match=r"config.sync: nothing to learn from; set config.sync.shards"):
        VASAConfig(job="train_sync", sync=SyncConfig(corpus=False)).validate()


@pytest.mark.long
def test_it_learns_which_sound_a_mouth_makes():
    rng = np.random.default_rng(0)
    tracks = np.stack([np.convolve(rng.random(24) < 0.2, np.hanning(6), "same") for _ in range(24)]).clip(0, 1)
    settings = dataclasses.replace(PLAIN, frames=24)
    task = SyncTask(settings, CorpusConfig(), 8, 0)
    data = MouthSpeechBatches([stretches(tracks)], [1.0], settings, 8, 0)
    accuracies = learnt_accuracies(task, data, 5e-3, 60)
    assert accuracies[0] < 0.2 and np.mean(accuracies[-5:]) > 0.5

"""What CAPP learns from: pairs are of one moment, negatives of another of the same clip; shards; it learns."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from fake_heads import FakeFaceReader
from learning import learnt_accuracies
from tiny_records import SIZE, tiny_record

from vasa_jax.config import CAPPConfig, CorpusConfig, VASAConfig
from vasa_jax.corpus.clips import sample_clip, sample_takes
from vasa_jax.data.records import decode_jpeg
from vasa_jax.data.shards import Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.models.audio import AudioEncoder
from vasa_jax.models.capp import WINDOW
from vasa_jax.models.variants import AUDIO_VARIANTS
from vasa_jax.training.tasks import capp_data
from vasa_jax.training.tasks.capp import CAPPTask
from vasa_jax.training.tasks.capp_data import LENGTHENED, SHORTEST, PoseSpeech, WindowPairs, joined, shard_clips
from vasa_jax.weights.parts import load_part

EAR = AudioEncoder(**AUDIO_VARIANTS["audio_tiny"])  # what hears is replaced
PLAIN = CAPPConfig(jitter=0.0, gain=0.0, shift=6)


def numbered(lengths=(120, 90), sounds=(2, 1), poses=(3, 1)):
    """Clips whose tracks tell the clip (hundreds of thousands), the version (thousands) and the frame."""

    def track(clip, version, length, width):
        return np.repeat((1000.0 * clip + np.arange(length))[:, None], width, 1) + 1e-3 * version

    return PoseSpeech(
        np.concatenate([track(c, v, n, 2) for c, n in enumerate(lengths) for v in range(sounds[c])]),
        np.concatenate([track(c, v, n, 3) for c, n in enumerate(lengths) for v in range(poses[c])]),
        np.array(lengths, np.int32), np.array(sounds, np.int32), np.array(poses, np.int32),
        np.full(len(lengths), 1 / len(lengths), np.float32),
    )  # fmt: skip


def test_pairs_are_of_one_moment_and_others_of_the_same_clip_near_it():
    pairs = WindowPairs(numbered(), PLAIN, 64, 0)
    batch = jax.device_get(pairs.batch(3))
    assert batch["angles"].shape == (64, WINDOW, 3) and batch["features"].shape == (64, WINDOW, 2)
    first = {name: value[:, 0, 0] for name, value in batch.items()}
    np.testing.assert_allclose(first["angles"], first["features"], atol=0.5)
    clip = np.round(first["angles"]) // 1000
    assert set(clip) == {0, 1} and set(np.diff(np.round(batch["angles"][:, :, 0]), axis=1).ravel()) == {1.0}
    for name in ("other_angles", "other_features"):
        shift = np.round(first[name]) - np.round(first["angles"])
        assert (np.round(first[name]) // 1000 == clip).all() and np.abs(shift).min() >= 1 and np.abs(shift).max() <= 6
        assert (shift > 0).any() and (shift < 0).any()
    np.testing.assert_array_equal(pairs.batch(3)["other_angles"], batch["other_angles"])
    assert (pairs.batch(4)["angles"] != batch["angles"]).any()


def test_noise_of_a_reader_is_added_as_asked():
    still = PoseSpeech.of_clips([([np.zeros((120, 2))], [np.zeros((120, 3))])])
    batch = jax.device_get(WindowPairs(still, dataclasses.replace(PLAIN, jitter=5.0), 64, 0).batch(0))
    noise = batch["angles"].std((1, 2))  # of each example a size of its own, up to a twentieth of the largest
    assert 0.2 < noise.min() < 0.6 and 3.5 < noise.max() < 6.0
    assert not batch["features"].any() and (batch["other_angles"] != batch["angles"]).any()


def test_takes_are_the_clips_of_their_numbers():
    takes = sample_takes(5, takes=(0, 2), speech="shipped")
    for clip, number in zip(takes, (0, 2)):
        alone = sample_clip(5, take=number, speech="shipped")
        np.testing.assert_array_equal(clip.samples, alone.samples)
        np.testing.assert_array_equal(clip.motion["pitch"], alone.motion["pitch"])
    assert np.abs(takes[0].motion["pitch"] - takes[1].motion["pitch"]).max() > 0.01


def test_shards_give_clips_that_are_long_enough_and_labelled(tmp_path, monkeypatch):
    def first_sample(encoder, params, sound):
        return np.full((len(sound) // 640, 2), float(sound[0]))

    monkeypatch.setattr(capp_data, "hear", first_sample)
    records = [tiny_record(n, frames=LENGTHENED + n) for n in range(3)] + [tiny_record(3, frames=SHORTEST - 1)]
    records[1] = dataclasses.replace(records[1], pose=None)
    write_shard(tmp_path, Shard("train", 0, 1), iter(records), ("array_record",))
    write_manifest(tmp_path)
    found = shard_clips(EAR, {}, str(tmp_path), "train")
    assert found.length.tolist() == [LENGTHENED, LENGTHENED + 2]
    assert found.features[0, 0] == 0 and found.features[-1, 0] == 2  # the sound's first sample is the clip's number
    assert shard_clips(EAR, {}, str(tmp_path), "heldout") is None
    with pytest.raises(InputError, match="no clip of 70 frames"):
        joined([None], [1.0], "here")


def test_clips_of_three_seconds_leave_room_for_shifts(tmp_path, monkeypatch):
    """Sound and head are mirrored together at both ends: what belongs together stays together."""
    monkeypatch.setattr(capp_data, "hear", lambda encoder, params, sound: np.repeat(np.arange(75.0)[:, None], 2, 1))
    monkeypatch.setattr(capp_data, "head_angles", lambda pose: np.repeat(np.arange(75.0)[:, None], 3, 1))
    write_shard(tmp_path, Shard("train", 0, 1), iter([tiny_record(0, frames=75)]), ("array_record",))
    write_manifest(tmp_path)
    (sound,), (angles,) = shard_clips(EAR, {}, str(tmp_path), "train").first()
    assert sound[:, 0].tolist() == angles[:, 0].tolist() == [*range(12, 0, -1), *range(75), *range(73, 61, -1)]


def test_poses_are_those_that_the_face_probe_reads(tmp_path, monkeypatch):
    """In the pictures of the shard, whatever its labels say, and where it has none."""

    class Reader(FakeFaceReader):
        def measure(self, frames):
            assert frames.shape[1:] == (SIZE, SIZE, 3) and frames.dtype == np.uint8
            return types.SimpleNamespace(pose=np.repeat(frames.mean((1, 2, 3))[:, None], 9, 1))

    monkeypatch.setattr(capp_data, "hear", lambda encoder, params, sound: np.zeros((len(sound) // 640, 2)))
    monkeypatch.setattr(capp_data, "head_angles", lambda pose: pose[:, :3])
    records = [dataclasses.replace(tiny_record(n, frames=LENGTHENED), pose=None) for n in range(2)]
    write_shard(tmp_path, Shard("train", 0, 1), iter(records), ("array_record",))
    write_manifest(tmp_path)
    found = shard_clips(EAR, {}, str(tmp_path), "train", Reader())
    expected = [decode_jpeg(frame).mean() for record in records for frame in record.frames]
    np.testing.assert_allclose(found.angles[:, 0], expected, rtol=1e-5)
    assert shard_clips(EAR, {}, str(tmp_path), "train") is None  # no labels


def test_real_clips_and_their_people_are_drawn_as_asked():
    """Half of the pairs are real ones; a person with nine clips is drawn three times as often as one with one."""
    rendered = numbered((90,) * 4, (1,) * 4, (1,) * 4)
    clip = [np.zeros((90, 2))], [np.zeros((90, 3))]
    real = PoseSpeech.of_clips([clip] * 10, ["a"] * 9 + ["b"])
    assert real.weight[:9].sum() == pytest.approx(0.75) and real.weight[9] == pytest.approx(0.25)
    both = joined([rendered, real], [0.5, 0.5], "here")
    np.testing.assert_allclose([both.weight[:4].sum(), both.weight[4:13].sum(), both.weight[13]], [0.5, 0.375, 0.125])
    drawn = jax.device_get(WindowPairs(both, PLAIN, 512, 0).batch(0))["angles"].any((1, 2)).mean()
    assert drawn == pytest.approx(0.5, abs=0.1)  # rendered tracks count frames, real ones are zeros


def test_training_goes_on_from_what_it_exports():
    """The export holds the audio encoder too."""
    task = CAPPTask(CAPPConfig(), CorpusConfig(), 2, 0)
    own = task.of_export(load_part("", "capp")[0])
    expected = jax.eval_shape(task.init, jax.random.key(0))
    assert jax.tree.map(np.shape, own) == jax.tree.map(lambda array: array.shape, expected)
    assert task.of_export(own) is own  # of a checkpoint


def test_nothing_to_learn_from_is_refused():
    config = VASAConfig(job="train_capp", capp=CAPPConfig(corpus=False))
    with pytest.raises(InputError, match=r"config.capp: nothing to learn from; set config.capp.shards"):
        config.validate()


def test_it_learns_which_sound_a_head_nods_to():
    rng = np.random.default_rng(0)
    beats = [np.convolve(rng.random(160) < 0.06, np.hanning(9), "same") for _ in range(16)]
    settings = dataclasses.replace(PLAIN, variant="capp_tiny", shift=25)
    task = CAPPTask(settings, CorpusConfig(), 16, 0)
    clips = [([np.repeat(beat[:, None], 128, 1)], [np.stack([0 * beat, 4 * beat, 0 * beat], -1)]) for beat in beats]
    data = WindowPairs(PoseSpeech.of_clips(clips), settings, 16, 0)
    accuracies = learnt_accuracies(task, data, 3e-3, 40)
    assert accuracies[0] < 0.3 and np.mean(accuracies[-5:]) > 0.6

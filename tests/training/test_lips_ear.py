"""A pretrained ear: which sounds share a window, what a regression on it learns, and what it hears for the reader."""

import dataclasses

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from sounds import write_samples
from tiny_lips import save_tiny_lips
from tiny_records import tiny_record
from tiny_whisper import hf_state

from vasa_jax.config import LipsConfig, TrainConfig, VASAConfig
from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL
from vasa_jax.data.shards import Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.models import whisper
from vasa_jax.training import teacher
from vasa_jax.training.jobs import make_task
from vasa_jax.training.tasks.lips_articulation import ridge
from vasa_jax.training.tasks.lips_data import VoicedMouth, standard
from vasa_jax.training.tasks.lips_ear import NEAR, TaughtEar, ear_features, recordings
from vasa_jax.training.teacher import GAP, LEVEL, Teacher

FRAMES = 249  # of a window of ten seconds


@pytest.fixture
def ear(tmp_path, monkeypatch):
    """A Whisper file that hears ten seconds."""
    monkeypatch.setattr(whisper, "WINDOW", 160_000)
    monkeypatch.setattr(teacher, "WINDOW_FRAMES", FRAMES)
    save_file(hf_state(positions=500), tmp_path / "whisper.safetensors")
    return tmp_path / "whisper.safetensors"


def sound(frames, seed=0):
    noise = np.random.default_rng(seed).normal(0.0, 3000.0, frames * SAMPLES_PER_FRAME)
    return np.clip(noise, -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("lengths", [(10, 100, 200, 1), (600,), (FRAMES, FRAMES, 3), (0, 5, 0), ()])
def test_windows_hold_every_frame_once_with_silence_between(lengths, ear):
    places = np.zeros((len(lengths), max([*lengths, 1])), int)
    for window in teacher._windows(lengths):
        ends = [at + last - first for _, first, last, at in window]
        assert max(ends) <= FRAMES
        for end, (_, _, _, at) in zip(ends, window[1:]):
            assert at == end + GAP
        for number, first, last, _ in window:
            places[number, first:last] += 1
    assert [int(row.sum()) for row in places] == list(lengths) and places.max(initial=0) <= 1


def test_each_sound_gets_its_own_features_at_one_level(ear):
    listener = Teacher(ear)
    # What it hears: the mean square of every 320 samples, so that a feature tells whose sound it is and how loud.
    listener._hear = lambda params, samples: (samples[:, : -TAIL or None].reshape(1, -1, 320, 1) ** 2).mean(2)
    sounds = [sound(frames, seed) // (1 + seed) for seed, frames in enumerate((10, 130, 600, 1, 30))]
    sounds.insert(2, np.zeros(0, np.int16))
    heard = list(listener.each(sounds))
    assert [len(one) for one in heard] == [2 * len(one) // SAMPLES_PER_FRAME for one in sounds]
    for one, features in zip(sounds, heard):
        if len(one):
            power = (one.reshape(-1, 320) / 32767.0) ** 2
            for start in range(0, len(power), 2 * FRAMES):
                part = slice(start, start + 2 * FRAMES)
                expected = LEVEL**2 * power[part].mean(1) / power[part].mean()
                np.testing.assert_allclose(features[part, 0], expected, rtol=2e-3)


def test_a_whisper_hears_a_sound_as_it_does_alone_in_its_window(ear):
    listener, one = Teacher(ear), sound(FRAMES)
    (found,) = listener.each([one])
    samples = np.pad(one / 32767.0, (0, TAIL)).astype(np.float32)
    level = LEVEL / np.sqrt(np.mean((one / 32767.0) ** 2))
    expected = np.asarray(listener._hear(listener._params, level.astype(np.float32) * samples[None])[0])
    np.testing.assert_allclose(found, expected, atol=2e-2)
    assert found.dtype == np.float16 and found.shape == (2 * FRAMES, listener.width)


def test_ridge_regression_is_that_of_its_formula():
    rng = np.random.default_rng(0)
    features, truth = [rng.normal(size=(50, 4)) for _ in range(3)], rng.normal(size=4)
    openings = [x @ truth for x in features]
    np.testing.assert_allclose(ridge([1.0, 2.0, 0.5], features, openings, 1e-9), truth, rtol=1e-6)
    weights = [1.0, 2.0, 0.5]
    noisy = [y + rng.normal(size=50) for y in openings]
    found = ridge(weights, features, noisy, 7.0)
    slope = sum(w * x.T @ (x @ found - y) for w, x, y in zip(weights, features, noisy)) + 7.0 * found
    np.testing.assert_allclose(slope, 0.0, atol=1e-9)


def test_features_of_a_frame_have_its_neighbours_beside_them():
    heard = np.repeat(np.arange(10.0), 2)[:, None] + np.tile([-0.25, 0.25], 10)[:, None]
    found = ear_features(heard)
    assert found.shape == (10, 2 * NEAR + 2) and (found[:, -1] == 1.0).all()
    np.testing.assert_array_equal(found[5, :-1], np.arange(5.0 - NEAR, 5.0 + NEAR + 1))
    np.testing.assert_array_equal(found[0, : NEAR + 1], 0.0)


class Listener(Teacher):
    """Features that an opening is linear in, and one that tells the clip."""

    def __init__(self):
        self.width = 2

    def each(self, sounds):
        for one in sounds:
            opening = one.reshape(-1, SAMPLES_PER_FRAME)[:, 0] / 1000.0
            yield np.repeat(np.stack([3.0 + 5.0 * opening, np.full_like(opening, one[1] / 1000.0)], 1), 2, 0)


def test_what_clips_show_is_read_in_other_sounds():
    rng = np.random.default_rng(0)

    def clip(person):
        opening = rng.normal(size=60)
        spoken = np.zeros((60, SAMPLES_PER_FRAME), np.int16)
        spoken[:, 0], spoken[:, 1] = np.round(1000.0 * opening), rng.normal() * 1000.0
        return VoicedMouth(person, np.zeros((60, 2, 8)), standard(opening), sound=spoken.reshape(-1))

    sets = [[clip("a") for _ in range(30)], [clip(str(number)) for number in range(30)]]
    reader = TaughtEar.learnt(Listener(), sets, [0.5, 0.5])
    new = [clip("new") for _ in range(3)]
    for one, found in zip(new, reader([other.sound for other in new])):
        assert np.corrcoef(one.opening, found)[0, 1] > 0.99


@pytest.fixture
def speech(tmp_path):
    """Two recordings, of which one has two pieces; one that is too short, one broken, and no sound."""
    folder = tmp_path / "speech"
    (folder / "b").mkdir(parents=True)
    write_samples(folder / "a.wav", sound(300, 1) / 32767.0)
    write_samples(folder / "b" / "c.wav", sound(60, 2) / 32767.0)
    write_samples(folder / "short.wav", sound(10) / 32767.0)
    (folder / "broken.mp3").write_bytes(b"no sound")
    (folder / "notes.txt").write_text("no sound\n")
    return folder


def test_recordings_come_in_pieces_and_a_broken_one_is_left_out(speech, tmp_path):
    found = recordings(str(speech))
    assert [(name, len(one) // SAMPLES_PER_FRAME) for name, one in found] == [
        ("a.wav", 250), ("a.wav", 50), ("b/c.wav", 60)
    ]  # fmt: skip
    assert np.abs(found[2][1].astype(int) - sound(60, 2)).max() <= 2
    (tmp_path / "empty").mkdir()
    for folder, fault in (("empty", "no recording of a second or more; known"), ("none", "is no folder; give one of")):
        with pytest.raises(InputError, match=fault):
            recordings(str(tmp_path / folder))


def lips_config(tmp_path, **changes):
    write_shard(tmp_path / "shards", Shard("train", 0, 1), iter([tiny_record(0, frames=40)]), ("array_record",))
    write_manifest(tmp_path / "shards")
    face = save_tiny_lips(tmp_path)
    settings = LipsConfig(variant="lips_tiny", corpus=False, clips=str(tmp_path / "shards"), face=str(face))
    train = TrainConfig(steps=2, batch_size=4, warmup_steps=1, log_every=1, save_every=1, evaluate_every=0)
    return VASAConfig(job="train_lips", lip_reader=dataclasses.replace(settings, **changes), train=train)


def test_the_reader_learns_from_what_the_ear_hears(ear, speech, tmp_path):
    config = lips_config(tmp_path, ear=str(ear), speech=str(speech), speech_share=0.75).validate()
    data = make_task(config).data()
    batch, again = data.batch(3), make_task(config).data().batch(3)
    for name, value in batch.items():
        np.testing.assert_array_equal(value, again[name])
    of_speech = {row.tobytes() for row in np.asarray(data._parts[1][1][1])}
    assert sum(np.asarray(row).tobytes() in of_speech for row in batch["opening"]) == 3
    task = make_task(config)
    loss, _ = task.loss(task.init(jax.random.key(0)), batch, jax.random.key(1))
    assert np.isfinite(loss)


def test_an_ear_without_speech_is_one_line(tmp_path):
    for one, other in (("ear", "speech"), ("speech", "ear")):
        with pytest.raises(InputError, match=rf"lip_reader.{one}: needs config.lip_reader.{other} too; give it, or"):
            lips_config(tmp_path / one, **{one: "x"}).validate()

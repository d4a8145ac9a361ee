"""What the lip reader learns from, how a codec opens a mouth, a training that goes on after a stop, and bad input."""

import dataclasses
import os
import signal

import jax
import numpy as np
import optax
import pytest
from random_params import random_params
from tiny_lips import save_tiny_lips, tiny_lips
from tiny_records import tiny_record

from vasa_jax.config import CorpusConfig, LipsConfig, TrainConfig, VASAConfig
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.data.shards import Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.evaluation.metrics import pearson
from vasa_jax.models.lip_reader import PARTS, LipReader, heard_mean, relative_mels
from vasa_jax.models.lip_reading import read_sound
from vasa_jax.models.variants import LIPS_VARIANTS
from vasa_jax.training.jobs import make_task
from vasa_jax.training.preemption import Preempted
from vasa_jax.training.processes import ProcessPart
from vasa_jax.training.tasks.lips import correlation
from vasa_jax.training.tasks.lips_data import (
    APART,
    FRAMES,
    VoicedMouth,
    VoicedMouthBatches,
    corpus_openings,
    mean_spectrum,
    real_mouths,
    stretches,
)
from vasa_jax.training.tasks.lips_direction import openness
from vasa_jax.training.trainer import VASATrainer
from vasa_jax.weights.safetensors_io import load_params

MELS = 8


def voiced(frames, seed=0):
    rng = np.random.default_rng(seed)
    mels = (1.0 + rng.standard_normal((frames, PARTS, MELS))).astype(np.float32)
    return VoicedMouth(f"person {seed}", mels, rng.standard_normal(frames).astype(np.float32))


@pytest.fixture
def shards(tmp_path):
    """Four clips of people, one of them without sound and one of a still mouth."""
    records = [tiny_record(number, frames=40) for number in range(4)]
    records[1] = dataclasses.replace(records[1], audio=None)
    records[2] = dataclasses.replace(records[2], mouth=np.full(40, 0.1, np.float32))
    write_shard(tmp_path / "shards", Shard("train", 0, 1), iter(records), ("array_record",))
    write_manifest(tmp_path / "shards")
    return tmp_path / "shards"


def test_clips_of_people_are_told_about_their_own_mean(shards):
    found = real_mouths(str(shards), "train", MELS)
    assert [clip.mels.shape for clip in found] == [(40, PARTS, MELS)] * 2
    for clip, number in zip(found, (0, 3)):
        assert clip.person == tiny_record(number).person_id
        mouth = tiny_record(number, frames=40).mouth
        np.testing.assert_allclose(clip.opening, (mouth - mouth.mean()) / mouth.std(), atol=1e-5)
    assert not real_mouths(str(shards), "heldout", MELS)


def test_stretches_hold_every_frame_and_know_which():
    clips = [voiced(FRAMES + 60), voiced(50, 1)]
    found = stretches(clips, mean_spectrum(clips))
    assert found.heard.shape == (8, FRAMES, PARTS * MELS) and found.heard.dtype == np.float16
    np.testing.assert_array_equal(found.known.sum(1), [FRAMES, FRAMES, 60, FRAMES, FRAMES, 60, 50, 50])
    for row, start in zip(range(6), (0, APART, 2 * APART) * 2):
        part = clips[0].opening[start : start + FRAMES]
        np.testing.assert_array_equal(found.opening[row, : len(part)], part)
    np.testing.assert_array_equal(found.heard[7, 50:], np.repeat(found.heard[7, 49:50], FRAMES - 50, 0))


def test_a_clip_is_heard_over_its_mean_and_over_the_mean_so_far():
    clip, prior = voiced(FRAMES), np.zeros(MELS, np.float32)
    whole, live = stretches([clip], prior).heard.astype(np.float32)
    np.testing.assert_allclose(whole, relative_mels(clip.mels, heard_mean(clip.mels).spectrum(prior)), atol=0.02)
    for frame in (0, 7, FRAMES - 1):
        so_far = heard_mean(clip.mels[: frame + 1]).spectrum(prior)
        expected = relative_mels(clip.mels[frame : frame + 1], so_far)
        np.testing.assert_allclose(live[frame : frame + 1], expected, atol=0.02)
    assert np.abs(whole - live)[:5].max() > 0.1


def test_a_person_with_many_clips_is_not_drawn_as_often_as_they_are():
    clips = [voiced(FRAMES, 0) for _ in range(32)] + [voiced(FRAMES, 1)]
    weight = stretches(clips, np.zeros(MELS, np.float32)).weight
    np.testing.assert_allclose(weight.sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(weight[:64].sum() / weight[64:].sum(), 32**0.4, rtol=1e-5)
    part = ProcessPart(4000, 66)
    drawn = np.asarray(part.draw_clips(jax.random.key(0), weight))
    np.testing.assert_allclose((drawn >= 64).mean(), weight[64:].sum(), atol=0.03)
    second = ProcessPart(8000, 66, index=1, count=2)
    drawn = np.asarray(second.draw_clips(jax.random.key(0), weight))
    assert (drawn % 2 == 1).all()
    np.testing.assert_allclose((drawn >= 64).mean(), weight[65] / weight[1::2].sum(), atol=0.03)


def test_r_of_a_row_is_that_of_its_known_frames():
    rng = np.random.default_rng(0)
    found, opening = rng.standard_normal((2, 3, 60))
    known = np.arange(60) < np.array([[60], [40], [60]])
    opening[2] = 0.5
    expected = [pearson(found[0], opening[0]), pearson(found[1, :40], opening[1, :40]), 0.0]
    np.testing.assert_allclose(correlation(found, opening, known), expected, atol=1e-3)


def test_batches_are_a_function_of_their_number_and_of_both_sets():
    sets = [stretches([voiced(FRAMES, seed) for seed in seeds], np.zeros(MELS, np.float32)) for seeds in ((0, 1), (2,))]
    first = VoicedMouthBatches(sets, [0.75, 0.25], 8, 0)
    batch = jax.device_get(first.batch(3))
    again = jax.device_get(VoicedMouthBatches(sets, [0.75, 0.25], 8, 0).batch(3))
    assert batch["heard"].shape == (8, FRAMES, PARTS * MELS) and batch["heard"].dtype == np.float32
    for name, value in batch.items():
        np.testing.assert_array_equal(value, again[name])
    of_second = [(row == sets[1].opening[0]).all() for row in batch["opening"]]
    assert of_second == [False] * 6 + [True] * 2


def test_openings_of_the_corpus_are_of_its_own_motion():
    corpus = CorpusConfig(clips=1, voices_per_clip=1, speech="shipped", workers=1)
    clips = ClipSet.make(corpus, 1, "heldout", 0)
    openings = corpus_openings(clips, "heldout", 0)
    assert openings.shape == clips.motion.shape[:2] and openings.min() >= 0.0 and openings.max() > 0.1
    np.testing.assert_array_equal(openings, corpus_openings(clips, "heldout", 0))


def test_the_direction_of_opening_is_found_and_is_what_dynamics_do():
    rng = np.random.default_rng(0)
    dynamics = rng.standard_normal((4000, 6)) @ (np.eye(6) + 0.2 * rng.standard_normal((6, 6))) + 3.0
    openings = 0.1 * dynamics @ rng.standard_normal(6) + 0.5
    found = openness(dynamics, openings)
    assert np.corrcoef(dynamics @ found["read"] + found["offset"], openings)[0, 1] > 0.999
    np.testing.assert_allclose(found["read"] @ found["move"], 1.0, rtol=1e-9)
    covariance = np.cov(dynamics.T, bias=True)
    expected = covariance @ found["read"] / (found["read"] @ covariance @ found["read"])
    np.testing.assert_allclose(found["move"], expected, rtol=1e-6)


def lips_config(shards, face, **changes):
    settings = LipsConfig(variant="lips_tiny", corpus=False, clips=str(shards), face=str(face), sources="noise")
    train = TrainConfig(steps=4, batch_size=4, warmup_steps=1, log_every=1, save_every=1, evaluate_every=0)
    return VASAConfig(job="train_lips", lip_reader=dataclasses.replace(settings, **changes), train=train).validate()


class StoppedBatches(VoicedMouthBatches):
    """Asks for the end of the run with the second batch."""

    def batch(self, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step)


def test_a_training_that_goes_on_is_the_one_that_was_never_stopped(shards, tmp_path, monkeypatch):
    config = lips_config(shards, save_tiny_lips(tmp_path))

    def run(name):
        return VASATrainer(make_task(config), config.train, tmp_path / name, config.seed).fit()

    whole = run("whole")
    with monkeypatch.context() as patch:
        patch.setattr("vasa_jax.training.tasks.lips.VoicedMouthBatches", StoppedBatches)
        with pytest.raises(Preempted):
            run("parts")
    resumed = run("parts")
    assert int(resumed.step) == 4
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    exports = [load_params(tmp_path / name / "export" / "lips.safetensors") for name in ("whole", "parts")]
    for a, b in zip(*(jax.tree.leaves(content) for content, _ in exports), strict=True):
        np.testing.assert_array_equal(a, b)
    content, metadata = exports[0]
    assert metadata["dynamics"] == len(content["direction"]["move"]) and metadata["sources"] == "noise"
    np.testing.assert_array_equal(content["direction"]["read"], tiny_lips()[0]["direction"]["read"])
    assert make_task(config).of_export(content).keys() == content["reader"].keys()
    network, clips = LipReader(**LIPS_VARIANTS["lips_tiny"]), real_mouths(str(shards), "train", MELS)
    read = np.concatenate([read_sound(network, content["reader"], clip.mels, content["spectrum"]) for clip in clips])
    np.testing.assert_allclose([read.mean(), read.std()], [0.0, 1.0], atol=1e-3)


def test_it_learns_a_mouth_that_loudness_opens(shards, tmp_path):
    loud = np.random.default_rng(0).uniform(-1.0, 1.0, (8, FRAMES)).astype(np.float32)
    clips = [VoicedMouth("one", 1.0 + np.tile(row[:, None, None], (1, PARTS, MELS)), row) for row in loud]
    data = VoicedMouthBatches([stretches(clips, mean_spectrum(clips))], [1.0], 8, 0)
    task = make_task(lips_config(shards, save_tiny_lips(tmp_path)))
    optimizer = optax.adam(2e-2)

    @jax.jit
    def update(params, state, batch, key):
        (loss, _), gradient = jax.value_and_grad(task.loss, has_aux=True)(params, batch, key)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state, loss

    params, losses = random_params(task.init), []
    state = optimizer.init(params)
    for step in range(100):
        params, state, loss = update(params, state, data.batch(step), jax.random.key(step))
        losses.append(float(loss))
    assert losses[0] > 0.5 and np.mean(losses[-10:]) < 0.15


def test_bad_clips_are_told_in_one_line(shards, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        make_task(lips_config(tmp_path / "empty", save_tiny_lips(tmp_path))).data()
    mute = tmp_path / "mute"
    write_shard(mute, Shard("train", 0, 1), iter([tiny_record(0, frames=5)]), ("array_record",))
    write_manifest(mute)
    with pytest.raises(InputError, match="no clip at 25 frames a second has sound and a mouth; prepare more"):
        make_task(lips_config(mute, tmp_path)).data()
    with pytest.raises(InputError, match=r"no lips.safetensors; set config.lip_reader.heads=2048"):
        make_task(lips_config(shards, tmp_path / "empty"))
    with pytest.raises(InputError, match=r"config.lip_reader: nothing to learn from; set config.lip_reader.clips or"):
        VASAConfig(job="train_lips", lip_reader=LipsConfig(corpus=False)).validate()

"""The validation's decoded mouths: exact figures with stand-ins for codec, instrument and renderer."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_extraction import PREVIOUS, WINDOW, extraction_config, fake_make, fake_motion

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus.clip_set import FRAMES, ClipSet
from vasa_jax.corpus.performance.muscles import MOTION_NAMES
from vasa_jax.errors import InputError
from vasa_jax.evaluation import held_out, metrics
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.training.tasks import motion_data, motion_validation
from vasa_jax.training.tasks.motion import MotionTask
from vasa_jax.training.tasks.motion_data import MotionExtractor
from vasa_jax.training.tasks.motion_validation import HEADS, STRIDE, DecodedMouth
from vasa_jax.training.tasks.motion_windows import MotionWindows
from vasa_jax.training.tasks.stored_motion import extract_motion

SIZE = 8
COUNT = HEADS + 2


class Animator:
    """Draws the first number of the motion as brightness, over a portrait that is as bright as its head's number."""

    image_size = SIZE

    def __init__(self, codec, batch, dtype, mark):
        assert codec == "codec" and dtype is jnp.float32 and not mark

    def prepare(self, portrait):
        return int(portrait[0, 0, 0])

    def render(self, avatar, motion):
        assert len(motion) == -(-WINDOW // STRIDE)
        shade = np.round(255.0 * motion[:, 0]).astype(np.uint8)
        yield np.broadcast_to(shade[:, None, None, None], (len(shade), SIZE, SIZE, 3))


class Reader:
    """Reads brightness as mouth opening."""

    def measure(self, frames):
        class Found:
            mouth = frames[:, 0, 0, 0] / 255.0

        return Found


def openings():
    """Jaw tracks (N, T) of multiples of 1 / 255, which 8 bits hold."""
    return np.random.default_rng(0).integers(0, 256, (HEADS, FRAMES)) / 255.0


def draw(identity, motion, size, supersample):
    count = len(motion["jaw"])
    blank = jnp.zeros((count, size, size))
    return {"rgb": blank[..., None] + jnp.zeros(3), "matte": blank, "landmarks": jnp.zeros((count, 1, 3))}


def exact_labels(identity, motion):
    return dict.fromkeys(held_out.LABELS, motion["jaw"])


@pytest.fixture
def mouth(monkeypatch):
    def make(cls, corpus, count, split, seed):
        assert (count, split, seed, corpus.voices_per_clip) == (HEADS, "heldout", 0, 1)
        curves = np.zeros((count, FRAMES, len(MOTION_NAMES)), np.float32)
        curves[..., MOTION_NAMES.index("jaw")] = openings()
        return dataclasses.replace(fake_make.__func__(cls, corpus, 1, split, seed), motion=curves)

    monkeypatch.setattr(ClipSet, "make", classmethod(make))
    monkeypatch.setattr(motion_validation, "PortraitAnimator", Animator)
    monkeypatch.setattr(FaceReader, "from_pretrained", classmethod(lambda cls, directory, batch: Reader()))
    monkeypatch.setattr(held_out, "render", draw)
    monkeypatch.setattr(held_out, "true_labels", exact_labels)
    return DecodedMouth("codec", "", CorpusConfig(voices_per_clip=3), jnp.float32)


def windows_of(tracks, clips, starts):
    """Motion (B, WINDOW, 137) whose first number is the opening of these windows; 0.5 where the clip has no head."""
    motion = np.zeros((len(clips), WINDOW, 137))
    for row, (clip, start) in enumerate(zip(clips, starts)):
        motion[row, :, 0] = tracks[clip][start : start + WINDOW] if clip < HEADS else 0.5
    return motion


def test_true_motion_has_the_true_mouth_and_other_motion_its_error(mouth):
    tracks, rng = openings(), np.random.default_rng(1)
    clips, starts = rng.permutation(np.arange(24) % COUNT), rng.integers(0, FRAMES - WINDOW, 24)
    truth = windows_of(tracks, clips, starts)
    figures = mouth.metrics(truth, truth, clips, starts)
    assert figures == pytest.approx({"mouth_r": 1, "codec_mouth_r": 1, "mouth_mae": 0, "codec_mouth_mae": 0}, abs=1e-6)

    late = windows_of(np.roll(tracks, 1, axis=1), clips, starts)
    figures = mouth.metrics(late, truth, clips, starts)
    used = [row for row in range(24) if clips[row] < HEADS]
    pairs = [(late[row, ::STRIDE, 0], truth[row, ::STRIDE, 0]) for row in used]
    assert figures["mouth_r"] == pytest.approx(np.mean([metrics.pearson(*pair) for pair in pairs]), abs=1e-6)
    assert figures["mouth_mae"] == pytest.approx(np.mean([np.abs(a - b).mean() for a, b in pairs]), abs=1e-6)
    assert figures["mouth_mae"] > 0.1
    assert (figures["codec_mouth_r"], figures["codec_mouth_mae"]) == pytest.approx((1, 0), abs=1e-6)


def test_places_are_those_of_the_batch():
    frame = np.arange(FRAMES, dtype=np.float32)
    motion = np.stack([1000.0 * clip + np.repeat(frame[:, None], 137, 1) for clip in range(5)])
    labels = (jnp.zeros((5, 2)), jnp.ones(5), jnp.zeros((5, 8)), jnp.zeros((5, FRAMES)))
    found = motion_data.MotionSet(jnp.asarray(motion), jnp.zeros((5, 2, FRAMES, 8), jnp.float16), *labels)
    for unrolled in (False, True):
        windows = MotionWindows(found, 0.0, 1.0, 30, 10, 16, 3, unrolled=unrolled)
        for step in range(2):
            clip, start = windows.places(step)
            np.testing.assert_array_equal(next(windows)["motion"][:, 0, 0], 1000 * clip + start)


def test_what_is_missing_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(ClipSet, "make", fake_make)
    monkeypatch.setattr(MotionExtractor, "_motion", fake_motion)
    config = extraction_config(tmp_path)
    nowhere = dataclasses.replace(config.motion, instrument=str(tmp_path))
    task = MotionTask(nowhere, config.corpus, 4, "float32", 0)
    (note,) = task.notes()
    assert "mouths are not decoded" in note and "instrument.safetensors" in note and "\n" not in note
    # `train.init_from` takes its export, which holds more than the transformer, and its checkpoints.
    own = {"output": {"kernel": np.ones(2)}}
    assert task.of_export({"transformer": own, "statistics": {}}) is own and task.of_export(own) is own

    monkeypatch.setattr(motion_data, "HELD_OUT_CLIPS", 2)
    extract_motion(config, tmp_path / "set")
    stored = dataclasses.replace(config.motion, set=str(tmp_path / "set"))
    assert MotionTask(stored, config.corpus, 4, "float32", 0).notes() == []
    (note,) = MotionTask(dataclasses.replace(stored, face=""), config.corpus, 4, "float32", 0).notes()
    assert "is not the codec that made" in note and "config.motion.face" in note

    def silent(cls, corpus, count, split, seed):
        raise InputError("espeakng_loader: not installed")

    monkeypatch.setattr(ClipSet, "make", classmethod(silent))
    assert "espeakng_loader" in MotionTask(stored, config.corpus, 4, "float32", 0).notes()[0]


def test_evaluation_adds_the_mouth_of_unnormalised_motion(tmp_path, monkeypatch):
    monkeypatch.setattr(ClipSet, "make", fake_make)
    monkeypatch.setattr(MotionExtractor, "_motion", fake_motion)
    config = extraction_config(tmp_path)
    assert config.motion.previous == PREVIOUS
    task = MotionTask(config.motion, config.corpus, 4, "float32", 0)
    task._source._splits["heldout"] = (5, 0, motion_data.HELD_OUT_HEADS)
    seen = {}

    class Recorder:
        def metrics(self, sampled, truth, clip, start):
            seen.update(sampled=sampled, truth=truth, clip=clip, start=start)
            return {"mouth_r": 0.25}

    task._mouth = Recorder()
    task._sample = lambda params, batch: batch["motion"]
    figures = task.evaluate({})
    assert figures["mouth_r"] == 0.25 and figures["pose_rmse"] == 0.0 and task.notes() == []
    raw = np.asarray(task._source("heldout").motion)
    for row, (clip, start) in enumerate(zip(seen["clip"], seen["start"])):
        np.testing.assert_allclose(seen["truth"][row], raw[clip, start : start + WINDOW], atol=1e-3)
    np.testing.assert_array_equal(seen["sampled"], seen["truth"])

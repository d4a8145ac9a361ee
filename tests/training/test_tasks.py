"""The stages' tasks at tiny size: they train, their data are what they say, and exports load where generation looks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from shrunk import shrunk

from vasa_jax.config import AudioConfig, CorpusConfig
from vasa_jax.corpus import clip_set
from vasa_jax.corpus.clip_set import FRAMES, SAMPLES, ClipSet
from vasa_jax.corpus.performance.muscles import MOTION_NAMES
from vasa_jax.models.audio import AudioEncoder
from vasa_jax.models.face import init_face
from vasa_jax.models.variants import AUDIO_VARIANTS, FACE_VARIANTS
from vasa_jax.training.jobs import train
from vasa_jax.training.tasks.audio import AudioTask
from vasa_jax.training.tasks.motion import MotionWindows
from vasa_jax.training.tasks.motion_data import MotionExtractor, MotionSet, blink_tracks, statistics
from vasa_jax.weights.safetensors_io import load_params, save_params


def fake_clips(count=3, voices=2):
    rng = np.random.default_rng(0)
    return ClipSet(
        samples=rng.integers(-3000, 3000, (count, voices, SAMPLES)).astype(np.int16),
        phonemes=rng.integers(0, 5, (count, 2 * FRAMES)).astype(np.int16),
        stress=rng.integers(0, 2, (count, 2 * FRAMES)).astype(np.float16),
        energy=rng.normal(size=(count, 2 * FRAMES)).astype(np.float16),
        motion=np.zeros((count, FRAMES, 27), np.float32),
        gaze=rng.normal(size=(count, 2)).astype(np.float32),
        distance=np.ones(count, np.float32),
        emotion=np.eye(8, dtype=np.float32)[:count],
    )


@pytest.fixture
def clips(monkeypatch):
    made = fake_clips()
    monkeypatch.setattr(ClipSet, "make", classmethod(lambda cls, corpus, count, split, seed: made))
    return made


@pytest.mark.long
def test_audio_task_trains_and_exports_an_encoder(tmp_path, clips):
    train(shrunk("train_audio", "--config.speech.variant=audio_tiny", "--config.speech.seconds=1.0"), tmp_path)
    params, metadata = load_params(tmp_path / "export" / "audio.safetensors")
    features = AudioEncoder(**metadata["fields"]).apply({"params": params}, jnp.zeros((1, 16_080)))
    assert features.shape == (1, 50, AUDIO_VARIANTS["audio_tiny"]["width"])


def test_audio_crops_stay_aligned_with_their_labels(clips):
    task = AudioTask(AudioConfig(variant="audio_tiny", seconds=2.0), CorpusConfig(), 4, "float32", 0)
    batch = next(task.data())
    assert batch["samples"].shape == (4, 50 * 640 + 80)
    for sound, ids in zip(np.asarray(batch["samples"]), np.asarray(batch["phonemes"])):
        places = [
            (clip, start)
            for clip in range(3)
            for start in range(FRAMES - 50 + 1)
            if np.array_equal(clips.phonemes[clip, 2 * start : 2 * start + 100], ids)
        ]
        assert len(places) == 1
        clip, start = places[0]
        versions = clips.samples[clip, :, start * 640 : start * 640 + len(sound)]
        assert any(np.array_equal(version, sound) for version in versions)


def numbered_motion_set(count=2, voices=2):
    """Motion and audio whose values say which clip, voice and frame they are."""
    frame = np.arange(FRAMES, dtype=np.float32)
    motion = np.stack([1000.0 * clip + np.repeat(frame[:, None], 137, 1) for clip in range(count)])
    audio = np.stack([[np.repeat(frame[:, None], 8, 1)] * voices for _ in range(count)])
    return MotionSet(
        jnp.asarray(motion), jnp.asarray(audio, jnp.float16), jnp.zeros((count, 2)), jnp.ones((count,)),
        jnp.zeros((count, 8)), jnp.asarray(np.stack([frame] * count)),
    )  # fmt: skip


def test_motion_windows_are_contiguous_and_synchronous():
    windows = MotionWindows(numbered_motion_set(), 0.0, 1.0, 30, 10, 64, 0)
    batch = {name: np.asarray(value) for name, value in next(windows).items()}
    start = batch["motion"][:, 0, 0] % 1000
    frames = start[:, None] + np.arange(30)
    np.testing.assert_array_equal(batch["motion"][..., 0] % 1000, frames)
    np.testing.assert_array_equal(batch["audio"][..., 0], frames)
    np.testing.assert_array_equal(batch["blinks"], frames)
    np.testing.assert_array_equal(batch["prev_mask"], start > 0)
    later = batch["prev_mask"]
    before = start[later][:, None] + np.arange(-10, 0)
    np.testing.assert_array_equal(batch["prev_motion"][later][..., 0] % 1000, before)
    np.testing.assert_array_equal(batch["prev_audio"][later][..., 0], before)
    assert 0 < later.sum() < 64


def test_motion_windows_continue_after_restore():
    first = MotionWindows(numbered_motion_set(), 0.0, 1.0, 30, 10, 4, 0)
    next(first)
    state, expected = first.state(), next(first)
    second = MotionWindows(numbered_motion_set(), 0.0, 1.0, 30, 10, 4, 0)
    second.restore(state)
    assert all(np.array_equal(value, expected[name]) for name, value in next(second).items())


@pytest.mark.long
def test_motion_task_trains_and_exports_statistics(tmp_path, clips, monkeypatch, capsys):
    fields = FACE_VARIANTS["face_tiny"]
    face = random_params(lambda key: init_face(key, fields))
    save_params(tmp_path / "parts" / "face.safetensors", face, {"fields": fields})
    fields = AUDIO_VARIANTS["audio_tiny"]
    audio = random_params(AudioEncoder(**fields).init, jnp.zeros((1, 16_000)))["params"]
    save_params(tmp_path / "parts" / "audio.safetensors", audio, {"fields": fields})
    motion = jax.random.normal(jax.random.key(1), (3, FRAMES, 137)) * 2.0 + 1.0
    # Rendering is tested elsewhere: here the encoder's output stands for any clip.
    monkeypatch.setattr(MotionExtractor, "_motion", lambda self, params, key, curves: motion[0])

    settings = {"variant": "motion_tiny", "face": tmp_path / "parts", "audio": tmp_path / "parts", "window": 12,
                "previous": 4, "instrument": tmp_path / "parts"}  # fmt: skip
    train(shrunk("train_motion", *(f"--config.motion.{k}={v}" for k, v in settings.items())), tmp_path / "run")
    assert "instrument.safetensors" in capsys.readouterr().out  # it is missing: said, and gone on without
    params, metadata = load_params(tmp_path / "run" / "export" / "motion.safetensors")
    expected = statistics(np.asarray(motion[:1]))
    np.testing.assert_allclose(params["statistics"]["mean"], expected["mean"], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(params["statistics"]["std"], expected["std"], rtol=1e-2)
    assert metadata["fields"]["window"] == 12
    assert metadata["trained_controls"] == ["gaze", "distance", "emotion", "blinks"]


def test_kept_latents_belong_to_their_codec_and_seed(tmp_path, clips, monkeypatch):
    calls = []

    def motion(self, params, key, curves):
        calls.append(jax.random.key_data(key))
        return jnp.full((FRAMES, 137), float(len(calls)))

    monkeypatch.setattr(MotionExtractor, "_motion", motion)
    monkeypatch.setattr(MotionExtractor, "_audio", lambda self, params, samples: jnp.zeros((2, FRAMES, 32)))
    fields = AUDIO_VARIANTS["audio_tiny"]

    def extract(weight, seed=0):
        face = ({"w": np.full(3, weight, np.float32)}, {"fields": FACE_VARIANTS["face_tiny"]})
        extractor = MotionExtractor(face, ({}, {"fields": fields}), CorpusConfig(), jnp.float32, str(tmp_path))
        return np.asarray(extractor(clips, seed, "heads").motion)[:, 0, 0]

    np.testing.assert_array_equal(extract(1.0), [1, 2, 3])
    np.testing.assert_array_equal(extract(1.0), [1, 2, 3])
    assert len(calls) == 3
    np.testing.assert_array_equal(extract(2.0), [4, 5, 6])
    np.testing.assert_array_equal(extract(1.0, seed=1), [7, 8, 9])


def test_statistics_match_numpy():
    motion = np.random.default_rng(0).normal(2.0, 3.0, (4, 50, 7)).astype(np.float32)
    found = statistics(motion)
    np.testing.assert_allclose(found["mean"], motion.reshape(-1, 7).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["std"], motion.reshape(-1, 7).std(0), rtol=1e-5)


def test_short_clips_are_continued():
    np.testing.assert_array_equal(clip_set.fitted(np.array([1, 2]), 4), [1, 2, 0, 0])
    np.testing.assert_array_equal(clip_set.fitted(np.array([1, 2]), 4, "edge"), [1, 2, 2, 2])
    np.testing.assert_array_equal(clip_set.fitted(np.arange(9), 4), [0, 1, 2, 3])


def test_clip_sets_are_cached(tmp_path, monkeypatch):
    calls = []

    def make(job):
        calls.append(job)
        single = fake_clips(1)
        return {field.name: getattr(single, field.name)[0] for field in dataclasses.fields(single)}

    monkeypatch.setattr(clip_set, "_make_clip", make)
    corpus = CorpusConfig(workers=1, cache=str(tmp_path))
    first, second = (ClipSet.make(corpus, 2, "train", 0) for _ in range(2))
    assert len(calls) == 2
    np.testing.assert_array_equal(first.samples, second.samples)


def test_blinks_are_what_closes_the_lids_beyond_their_rest():
    lids = np.zeros((2, 100, len(MOTION_NAMES)), np.float32)
    for name in ("blink_l", "blink_r"):
        lids[0, :, MOTION_NAMES.index(name)] = 0.2  # as sadness has them
        lids[:, 40:44, MOTION_NAMES.index(name)] = [0.6, 1.0, 1.0, 0.6]
    lids[1, 80:90, MOTION_NAMES.index("blink_l")] = 1.0  # a wink is no blink
    expected = np.zeros((2, 100))
    expected[:, 40:44] = [[0.5, 1.0, 1.0, 0.5], [0.6, 1.0, 1.0, 0.6]]
    np.testing.assert_allclose(blink_tracks(lids), expected, atol=1e-6)

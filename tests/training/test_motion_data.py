"""Kept motion latents belong to the clips, the codec and the rendering that they were made from."""

import dataclasses
import functools
import os
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_extraction import extraction_config, fake_make, fake_motion

from vasa_jax.conventions import MOTION_DIM
from vasa_jax.corpus.clip_set import FRAMES, ClipSet
from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint
from vasa_jax.training.tasks import motion_data
from vasa_jax.training.tasks.motion_data import MotionExtractor, MotionSet, RenderedMotion
from vasa_jax.weights.parts import load_part


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(ClipSet, "make", fake_make)
    monkeypatch.setattr(MotionExtractor, "_motion", fake_motion)
    monkeypatch.setattr(motion_data, "HELD_OUT_CLIPS", 2)
    return extraction_config(tmp_path / "parts")


def test_changed_clips_are_not_paired_with_latents_of_others(config, tmp_path):
    """The number of clips changes between two runs over one folder of latents, both ways."""

    def motion(clips, latents):
        corpus = dataclasses.replace(config.corpus, clips=clips)
        settings = dataclasses.replace(config.motion, latents=latents)
        return np.asarray(RenderedMotion(settings, corpus, jnp.float32, 0)("train").motion)

    kept, anew = str(tmp_path / "latents"), functools.cache(lambda clips: motion(clips, ""))
    for clips in (2, 5, 3, 2):
        np.testing.assert_array_equal(motion(clips, kept), anew(clips))


def test_every_setting_that_decides_latents_makes_new_ones(config, tmp_path, monkeypatch):
    """Same settings twice: read. Any other clips, head, codec or rendering: made anew, beside the old."""
    calls = []

    def counted(self, params, key, curves):
        calls.append(1)
        return fake_motion(self, params, key, curves)

    monkeypatch.setattr(MotionExtractor, "_motion", counted)
    clips = ClipSet.make(config.corpus, 2, "train", 0)
    face, audio = (load_part(getattr(config.motion, name), name) for name in ("face", "audio"))
    weights = {"encoder": {"kernel": np.ones(3, np.float32)}}

    def extract(face=face, corpus=config.corpus, dtype=jnp.float32, clips=clips, seed=0, name="heads", offset=0):
        extractor = MotionExtractor(face, audio, corpus, dtype, str(tmp_path / "latents"))
        before = len(calls)
        found = extractor(clips, seed, name, offset)
        return len(calls) - before, np.asarray(found.motion)

    changes = [
        {"face": (weights, face[1])},
        {"corpus": dataclasses.replace(config.corpus, supersample=3)},
        {"dtype": jnp.bfloat16},
        {"clips": dataclasses.replace(clips, motion=clips.motion + 1.0)},
        {"seed": 1},
        {"name": "other heads"},
        {"offset": 1},
    ]
    for change in ({}, *changes):
        assert extract(**change)[0] == 2, change
    assert len(list((tmp_path / "latents").iterdir())) == 1 + len(changes)
    for change in ({}, *changes):
        made, motion = extract(**change)
        assert made == 0 and motion.shape == (2, FRAMES, MOTION_DIM)


def test_latents_under_a_false_name_are_refused(config, tmp_path):
    clips = ClipSet.make(config.corpus, 2, "train", 0)
    face, audio = (load_part(getattr(config.motion, name), name) for name in ("face", "audio"))
    extractor = MotionExtractor(face, audio, config.corpus, jnp.float32, str(tmp_path / "latents"))
    extractor(clips, 0, "heads")
    (path,) = (tmp_path / "latents").iterdir()
    extractor(clips, 1, "heads")
    (other,) = set((tmp_path / "latents").iterdir()) - {path}
    os.replace(path, other)
    with pytest.raises(InputError, match="seed 0, now 1"):
        extractor(clips, 1, "heads")
    with np.load(other) as file:
        content = dict(file)
    np.savez(other, **{**content, "motion": content["motion"][:1]})
    other.replace(path)
    with pytest.raises(InputError, match="holds 1 clips instead of 2"):
        extractor(clips, 0, "heads")


def test_a_motion_set_is_of_the_same_clips_throughout():
    arrays = {
        "motion": jnp.zeros((3, FRAMES, MOTION_DIM)), "audio": jnp.zeros((3, 2, FRAMES, 8), jnp.float16),
        "gaze": jnp.zeros((3, 2)), "distance": jnp.zeros(3), "emotion": jnp.zeros((3, 8)),
        "blinks": jnp.zeros((3, FRAMES)), "samples": jnp.zeros((3, 2, 640 * FRAMES + 80), jnp.int16),
    }  # fmt: skip
    MotionSet(**arrays)
    for name in arrays:
        with pytest.raises(InputError, match=r"motion set: .* different clips"):
            MotionSet(**{**arrays, name: arrays[name][:2]})
    with pytest.raises(InputError, match="motion set: audio"):
        MotionSet(**{**arrays, "audio": arrays["audio"][:, :, :-1]})
    with pytest.raises(InputError, match="motion set: samples"):
        MotionSet(**{**arrays, "samples": arrays["samples"][:, :1]})


def test_the_number_of_a_codec_stays(config):
    """Sets extracted by earlier versions name their codec by it."""
    params = load_part(config.motion.face, "face")[0]
    leaves = jax.tree.leaves(params)
    assert fingerprint(params) == functools.reduce(lambda crc, x: zlib.crc32(np.ascontiguousarray(x), crc), leaves, 0)

"""Mouths by phoneme, learnt from people: which phonemes count for a frame, the fit, and the corpus's half of it."""

import dataclasses

import numpy as np
import pytest
from tiny_records import tiny_record

from vasa_jax.config import LipsConfig, VASAConfig
from vasa_jax.corpus.speech.espeak import Phoneme
from vasa_jax.corpus.speech.phonemes import PHONEME_CLASSES, PHONEME_IDS, SILENCE
from vasa_jax.data.shards import Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.evaluation.metrics import pearson
from vasa_jax.models.lip_reader import PARTS
from vasa_jax.training.tasks.lips_articulation import (
    GROUPS,
    aligned,
    articulation_features,
    learnt_articulation,
)
from vasa_jax.training.tasks.lips_data import VoicedMouth, half_learnt, real_mouths, standard

FRAMES, MELS = 120, 8
AA, M = PHONEME_IDS["aa"], PHONEME_IDS["m"]


def spoken(seed=0, classes=None):
    """A clip whose mouth is open in `aa` and shut in everything else, half a syllable each."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(rng.choice([AA, M, SILENCE], FRAMES // 6), 6 * PARTS) if classes is None else classes
    mels = (1.0 + 0.1 * rng.standard_normal((FRAMES, PARTS, MELS))).astype(np.float32)
    opening = (classes == AA).reshape(FRAMES, PARTS).mean(1)
    return VoicedMouth(f"person {seed}", mels, standard(opening), classes)


def test_every_phoneme_is_in_one_group():
    assert sorted(" ".join(GROUPS).split()) == sorted(PHONEME_CLASSES)


def test_a_frame_knows_the_phonemes_about_it():
    classes = np.full(PARTS * FRAMES, SILENCE)
    classes[PARTS * 60 : PARTS * 70] = AA
    found = articulation_features(classes, spoken().mels)
    groups, own = len(GROUPS), next(i for i, group in enumerate(GROUPS) if group == "aa")
    assert found.shape == (FRAMES, 4 * groups + 5)
    narrow, before, wide, after = (found[:, part * groups + own] for part in range(4))
    for track in (narrow, wide):
        assert track[65] > 0.99 and track[30] < 1e-6
        np.testing.assert_allclose((track[59] + track[60]) / 2, 0.5, atol=0.01)
    np.testing.assert_allclose(before[1:], wide[:-1])
    np.testing.assert_allclose(after[:-1], wide[1:])
    np.testing.assert_allclose(found[:, :groups].sum(1), 1.0)


def test_what_people_show_is_found_and_people_count_nearly_alike():
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((100, 4)) for _ in range(65)]
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    found = learnt_articulation(["a"] * 65, features, [x @ weights for x in features])
    np.testing.assert_allclose(found, weights, rtol=0.01)
    people = ["many"] * 64 + ["one"]
    other = [x @ weights for x in features[:64]] + [-(features[64] @ weights)]
    share = 1.0 / (1.0 + 64**0.3)
    np.testing.assert_allclose(learnt_articulation(people, features, other), (1 - 2 * share) * weights, atol=0.3)


def test_half_of_a_mouth_is_people_s():
    people = [spoken(seed) for seed in range(4)]
    clip = dataclasses.replace(spoken(9), opening=standard(np.random.default_rng(9).standard_normal(FRAMES)))
    (found,) = half_learnt([clip], [*people, dataclasses.replace(people[0], phonemes=None)])
    assert found.mels is clip.mels
    assert pearson(found.opening, clip.opening) > 0.5 and pearson(found.opening, spoken(9).opening) > 0.5
    with pytest.raises(InputError, match="no clip's name spells a sentence of GRID; leave it off"):
        half_learnt([clip], [dataclasses.replace(people[0], phonemes=None)])


class FixedAligner:
    """Hears an `m` and an `aa` in any sound; remembers what it was told."""

    def __call__(self, samples, words):
        self.words, self.samples = words, samples
        return (Phoneme(0.0, 0.2, "m", False, 0.2), Phoneme(0.2, 0.6, "aa", False, 0.6)) if words else None


def test_clips_whose_names_spell_a_sentence_are_aligned(tmp_path):
    named = dataclasses.replace(tiny_record(0, frames=40), source="prepared from bbaf2n.mpg")
    write_shard(tmp_path, Shard("train", 0, 1), iter([named, tiny_record(1, frames=40)]), ("array_record",))
    write_manifest(tmp_path)
    aligner = FixedAligner()
    first, second = real_mouths(str(tmp_path), "train", MELS, aligner)
    assert second.phonemes is None and aligner.words == ("bin", "blue", "at", "f.", "two", "now")
    expected = [M] * 10 + [AA] * 20 + [SILENCE] * 50
    np.testing.assert_array_equal(first.phonemes, expected)
    assert aligned(aligner, aligner.samples, (), 40) is None
    assert all(clip.phonemes is None for clip in real_mouths(str(tmp_path), "train", MELS))


def test_it_takes_the_corpus_and_clips():
    with pytest.raises(InputError, match=r"config.lip_reader.articulation: takes the corpus and clips; give"):
        VASAConfig(job="train_lips", lip_reader=LipsConfig(articulation=True)).validate()

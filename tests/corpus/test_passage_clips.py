"""Clips of the corpus that passages of other voices speak: labels, closures, and their share of a set."""

import dataclasses
import itertools

import numpy as np
import pytest
from tiny_speech import shipped_passages, write_tiny_speech

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus.clip_set import FRAMES, ClipSet, fitted
from vasa_jax.corpus.clips import frame_labels
from vasa_jax.corpus.speech.phonemes import BILABIALS, PHONEME_CLASSES
from vasa_jax.corpus.voices.passage_clips import CLOSED, passage_clip, segments
from vasa_jax.corpus.voices.speech_shards import Passage, natural_passages, write_shard
from vasa_jax.errors import InputError

CORPUS = CorpusConfig(speech="shipped", clips=6, voices_per_clip=2, workers=1, passage_share=0.5)


@pytest.mark.parametrize("passage", shipped_passages(3), ids=lambda passage: passage.person)
def test_segments_have_the_labels_they_are_made_of(passage):
    phonemes = segments(passage)
    ids, stress = frame_labels(phonemes, len(passage.phonemes))
    np.testing.assert_array_equal(ids, passage.phonemes)
    np.testing.assert_array_equal(stress, passage.stress == 1)
    assert phonemes[0].start == 0.0 and phonemes[-1].end == pytest.approx(len(passage.samples) / 16_000)
    assert all(before.end == after.start for before, after in itertools.pairwise(phonemes))
    for phoneme in phonemes:
        share = (phoneme.release - phoneme.start) / (phoneme.end - phoneme.start)
        assert share == pytest.approx(CLOSED if phoneme.symbol in ["p", "t", "k", "ch", "b", "d", "g", "jh"] else 1.0)


def test_lips_meet_where_the_passage_says_so():
    passage = shipped_passages(2)[1]
    clip = passage_clip(passage, 3)
    closed = [p for p in segments(passage) if p.symbol in BILABIALS and p.end - p.start >= 0.06]
    assert closed
    for phoneme in closed:
        frames = slice(int(phoneme.start * 25), int(np.ceil(phoneme.release * 25)) + 1)
        assert clip.motion["press"][frames].max() > 0.5
    silent = passage_clip(passage._replace(phonemes=np.zeros_like(passage.phonemes)), 3)
    assert silent.motion["press"].max() < 0.3  # what an emotion presses


def test_clips_are_the_same_each_time_and_as_loud_as_others():
    passage = shipped_passages(2)[1]
    first, again, other = passage_clip(passage, 3), passage_clip(passage, 3), passage_clip(passage, 4)
    np.testing.assert_array_equal(first.samples, again.samples)
    np.testing.assert_array_equal(first.motion["yaw"], again.motion["yaw"])
    assert np.abs(first.motion["yaw"] - other.motion["yaw"]).max() > 0.01
    quiet = passage_clip(passage._replace(samples=0.01 * passage.samples), 3)
    spoken = np.abs(first.samples) > 0.01
    assert np.abs(quiet.samples[spoken]).mean() > 0.5 * np.abs(first.samples[spoken]).mean()


def test_passages_speak_their_share_of_the_training_clips(tmp_path):
    folder = write_tiny_speech(tmp_path)
    corpus = dataclasses.replace(CORPUS, passages=str(folder))
    clips, plain = ClipSet.make(corpus, 6, "train", 0), ClipSet.make(CORPUS, 6, "train", 0)
    same = [np.array_equal(a, b) for a, b in zip(clips.samples, plain.samples)]
    assert same == [True, False] * 3
    natural = natural_passages(folder)
    for row, passage in zip(clips.phonemes[1::2], natural):
        np.testing.assert_array_equal(row, fitted(passage.phonemes, 2 * FRAMES))
    held_out = [ClipSet.make(c, 2, "heldout", 0).samples for c in (corpus, CORPUS)]
    np.testing.assert_array_equal(*held_out)


def test_kept_clips_are_of_their_passages(tmp_path):
    folder = write_tiny_speech(tmp_path / "speech")
    corpus = dataclasses.replace(CORPUS, passages=str(folder), cache=str(tmp_path / "cache"))
    first = ClipSet.make(corpus, 2, "train", 0)
    np.testing.assert_array_equal(first.samples, ClipSet.make(corpus, 2, "train", 0).samples)
    more = shipped_passages(4)[3]
    write_shard(folder / "speech-more-0000.npz", [more], 32.0, {})
    with pytest.raises(InputError, match="passages"):
        ClipSet.make(corpus, 2, "train", 0)


def test_espeak_alone_is_refused(tmp_path):
    passage: Passage = shipped_passages(1)[0]
    assert passage.source == "espeak" and PHONEME_CLASSES[0] == "sil"
    write_shard(tmp_path / "speech-a-0000.npz", [passage], 32.0, {})
    with pytest.raises(InputError, match="only eSpeak speaks"):
        ClipSet.make(dataclasses.replace(CORPUS, passages=str(tmp_path)), 2, "train", 0)

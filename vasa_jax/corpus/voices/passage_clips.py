"""Clips of the corpus that other voices than eSpeak's speak: a stored passage, and a performance of it."""

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.clips import LEVEL, Clip, performed, set_level
from vasa_jax.corpus.performance.performance import sample_emotion
from vasa_jax.corpus.speech.acoustics import HOP
from vasa_jax.corpus.speech.espeak import Phoneme, Speech
from vasa_jax.corpus.speech.phonemes import PHONEME_CLASSES, VOICED_STOPS, VOICELESS_STOPS
from vasa_jax.corpus.voices.speech_shards import Passage

CLOSED = 0.7  # share of a stop's time after which its closure ends, where only the stop's own time is known
_STRESSED = 1


def passage_clip(passage: Passage, seed: int) -> Clip:
    """Makes the clip in which a passage is spoken; the same arguments give the same clip.

    The emotion is drawn: these voices have none. Where a source tells no stress, no vowel has one.
    """
    rng = np.random.default_rng([seed, 3])
    samples = set_level(passage.samples, rng.normal(*LEVEL))
    return performed(Speech(samples, segments(passage)), rng, sample_emotion(rng), passage.text, passage.person)


def segments(passage: Passage) -> tuple[Phoneme, ...]:
    """Returns the phonemes of a passage without gaps: runs of its labels, whose edges lie between frames' middles."""
    kinds, stressed = passage.phonemes, passage.stress == _STRESSED
    changes = np.flatnonzero((kinds[1:] != kinds[:-1]) | (stressed[1:] != stressed[:-1])) + 1
    runs = np.concatenate([[0], changes, [len(kinds)]])
    # Less than a label's error off: the middle of a frame's window lies 2.5 ms behind that of its 20 ms.
    seconds = runs * (HOP / SAMPLE_RATE)
    phonemes = []
    for first, start, end in zip(runs[:-1], seconds[:-1], seconds[1:]):
        symbol = PHONEME_CLASSES[kinds[first]]
        stop = symbol in VOICED_STOPS or symbol in VOICELESS_STOPS
        release = start + CLOSED * (end - start) if stop else end
        phonemes.append(Phoneme(float(start), float(end), symbol, bool(stressed[first]), float(release)))
    return tuple(phonemes)

"""Phonemes -> mouth shapes over time, with co-articulation and exact closures."""

import numpy as np

from vasa_jax.conventions import FPS, SAMPLE_RATE
from vasa_jax.corpus.performance.visemes import VISEME_FIELDS, VISEMES
from vasa_jax.corpus.speech.acoustics import rms_between
from vasa_jax.corpus.speech.espeak import Speech
from vasa_jax.corpus.speech.phonemes import BILABIALS, LABIODENTALS, PHONEME_VISEMES, VOWELS

FRAME_SECONDS = 1.0 / FPS
# How strongly a viseme asserts itself against its neighbours.
_DOMINANCE = {
    "sil": 0.6, "PP": 1.8, "FF": 1.8, "TH": 1.2, "DD": 0.6, "kk": 0.4, "CH": 1.5, "SS": 1.1, "nn": 0.6, "RR": 1.0,
    "aa": 1.2, "E": 0.9, "I": 1.0, "O": 1.4, "U": 1.6,
}  # fmt: skip
# Classes that leave the mouth to their neighbours, and vowels that open less than their viseme.
_WEAK = {"h": 0.3, "ax": 0.5, "ng": 0.8, "x": 0.8}
_OPENING = {"ax": 0.6, "ah": 0.75, "ae": 0.9, "ih": 1.15, "iy": 0.8, "er": 1.2, "oe": 0.7, "uh": 1.2}
_ANTICIPATION, _CARRY_OVER = 0.060, 0.048  # seconds over which a shape fades in and out: lips prepare early


def articulate(speech: Speech, frames: int, effort: float = 1.0):
    """Returns the mouth curves of a speech.

    effort scales how far the mouth opens (a trait of the take). Returns (lips, activity, accents): lips maps
    VISEME_FIELDS to [frames] curves; activity [frames] in [0, 1] says how much speech there is; accents lists (seconds,
    weight) of the stressed vowels, weight 1 for an average one, more for louder and longer ones.
    """
    time = (np.arange(frames) + 0.5) * FRAME_SECONDS
    starts, ends, weights, targets = _shapes(speech.phonemes)
    # Outside its own time a shape fades like a Gaussian.
    before = np.maximum(starts[:, None] - time, 0.0) / _ANTICIPATION
    after = np.maximum(time - ends[:, None], 0.0) / _CARRY_OVER
    dominance = weights[:, None] * np.exp(-(before**2) - after**2)
    curves = dominance.T @ targets / (dominance.sum(0)[:, None] + 0.02)
    lips = {name: curves[:, index] for index, name in enumerate(VISEME_FIELDS)}

    envelope = _envelope(speech.samples, time)
    activity = _activity(speech.phonemes, time)
    lips["jaw"] = lips["jaw"] * effort * (0.68 + 0.36 * np.minimum(envelope, 1.1))
    press, tuck = np.zeros(frames), np.zeros(frames)
    for phoneme in speech.phonemes:
        if phoneme.symbol in BILABIALS:
            # The lips meet while the sound is held, and are still together when a burst begins.
            until = max(phoneme.release - 0.008, phoneme.start + 0.02)
            press = np.maximum(press, _held(time, phoneme.start + 0.004, until, 0.042))
        elif phoneme.symbol in LABIODENTALS:
            inset = 0.2 * (phoneme.end - phoneme.start)
            tuck = np.maximum(tuck, _held(time, phoneme.start + inset, phoneme.end - inset, 0.045))
    for name in ("jaw", "up", "lo", "tongue"):
        lips[name] = lips[name] * (1 - press)
    lips["jaw"] = lips["jaw"] * (1 - 0.6 * tuck)
    lips["press"], lips["tuck"] = press, tuck
    return lips, activity, _accents(speech, envelope)


def _shapes(phonemes):
    """Visemes in time: starts, ends, dominance [S] and target values [S, fields]."""
    starts, ends, weights, targets = [], [], [], []
    jaw = VISEME_FIELDS.index("jaw")
    for phoneme in phonemes:
        visemes = PHONEME_VISEMES[phoneme.symbol]
        edges = [phoneme.start, phoneme.end] if len(visemes) == 1 else _diphthong(phoneme.start, phoneme.end)
        for viseme, start, end in zip(visemes, edges[:-1], edges[1:]):
            target = np.array(VISEMES[viseme])
            target[jaw] *= _OPENING.get(phoneme.symbol, 1.0) * (1.15 if phoneme.stressed else 1.0)
            # a shape holds for the middle of its time and gives way towards both ends
            inset = 0.25 * (end - start) if phoneme.symbol != "sil" else min(0.03, 0.25 * (end - start))
            starts.append(start + inset)
            ends.append(end - inset)
            weights.append(_DOMINANCE[viseme] * _WEAK.get(phoneme.symbol, 1.0) * (1.2 if phoneme.stressed else 1.0))
            targets.append(target)
    return np.array(starts), np.array(ends), np.array(weights), np.array(targets)


def _diphthong(start, end):
    return [start, start + 0.55 * (end - start), end]


def _held(time, start, end, fade):
    """1 from start to end seconds as a frame sees it (a frame is 40 ms long), falling off within `fade` seconds."""
    outside = np.maximum(np.maximum(start - time, time - end) - 0.5 * FRAME_SECONDS, 0.0)
    return np.exp(-((outside / fade) ** 2) * 4.0)


def _envelope(samples, time):
    """Loudness around each frame (60 ms windows), 1 at the speech's loud moments: [frames]."""
    low, high = (((time + shift) * SAMPLE_RATE).astype(int) for shift in (-0.03, 0.03))
    level = rms_between(samples, low, high)
    voiced = level[level > 0.1 * level.max() + 1e-6]
    return np.clip(level / (np.percentile(voiced, 90) + 1e-6), 0.0, 1.3) if len(voiced) else np.zeros(len(time))


def _activity(phonemes, time):
    """Smooth gate of speech against pauses: [frames] in [0, 1]."""
    gate = np.zeros(len(time))
    for phoneme in phonemes:
        if phoneme.symbol != "sil":
            outside = np.maximum(np.maximum(phoneme.start - time, time - phoneme.end), 0.0)
            gate = np.maximum(gate, np.clip(1.0 - outside / 0.12, 0.0, 1.0))
    return gate * gate * (3 - 2 * gate)


def _accents(speech, envelope):
    times, weights = [], []
    for phoneme in speech.phonemes:
        if phoneme.stressed and phoneme.symbol in VOWELS:
            centre = 0.5 * (phoneme.start + phoneme.end)
            loud = envelope[min(int(centre / FRAME_SECONDS), len(envelope) - 1)]
            times.append(centre)
            weights.append(loud * (0.5 + (phoneme.end - phoneme.start) / 0.2))
    mean = np.mean(weights) + 1e-6 if weights else 1.0
    return [(time, weight / mean) for time, weight in zip(times, weights)]

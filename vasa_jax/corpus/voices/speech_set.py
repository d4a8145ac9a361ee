"""Shards of speech in memory as training data: every passage in several altered versions, and how often it is drawn."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.corpus.clip_set import FRAMES, SAMPLES, ClipSet, as_int16, fitted
from vasa_jax.corpus.speech.acoustics import HOP, WINDOW, rms_between
from vasa_jax.corpus.voices.alteration import altered
from vasa_jax.corpus.voices.speech_shards import UNKNOWN_STRESS, Passage
from vasa_jax.files import run_in_processes

_BABBLE_SECONDS = 30


class SpeechSet(NamedTuple):
    """M passages of at most T = 200 video frames, continued by silence."""

    samples: np.ndarray  # int16 (M, 640 T + 80)
    phonemes: np.ndarray  # int16 (M, 2 T)
    stress: np.ndarray  # int8 (M, 2 T): 0, 1 or UNKNOWN_STRESS
    energy: np.ndarray  # float16 (M, 2 T), log energy of the voice before it was altered
    frames: np.ndarray  # int32 (M,), video frames that are no padding
    weight: np.ndarray  # float32 (M,), how often each is drawn; their sum is 1


def make_speech_set(
    passages: Sequence[Passage], versions: int, codecs: Sequence[str], shares: np.ndarray, seed: int, workers: int = 0
) -> SpeechSet:
    """Returns passages as they are, and `versions` - 1 alterations of each; the same for the same arguments.

    shares: (N,), how often each passage is drawn in all. `workers`, 0 = one per core, alter at once.
    """
    jobs = [(passage, number, versions, tuple(codecs), seed) for number, passage in enumerate(passages)]
    some = [passage.samples for passage in passages[:: max(len(passages) // 8, 1)]]
    babble = np.concatenate(some)[: _BABBLE_SECONDS * SAMPLE_RATE]
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    results = dict(run_in_processes(_versions, jobs, 0 if workers == 1 else workers, _start, (babble,)))
    rows = [row for number in range(len(jobs)) for row in results[number]]
    columns = [np.stack(column) for column in zip(*rows)]
    weight = np.repeat(np.asarray(shares, np.float64) / versions, versions)
    return SpeechSet(*columns, (weight / weight.sum()).astype(np.float32))


def shares_of(passages: Sequence[Passage], espeak_share: float, person_seconds: float) -> np.ndarray:
    """Returns how often each passage is drawn, (N,), sum 1.

    A passage counts by its seconds, those of one person by at most `person_seconds` in all: people count more than
    hours. eSpeak's voices get `espeak_share` of what is drawn where there are others.
    """
    seconds = np.array([len(passage.samples) / SAMPLE_RATE for passage in passages])
    people = [(passage.source, passage.person) for passage in passages]
    total: dict[tuple[str, str], float] = {}
    for person, length in zip(people, seconds):
        total[person] = total.get(person, 0.0) + length
    shares = seconds * [min(1.0, person_seconds / total[person]) for person in people]
    robots = np.array([passage.source == "espeak" for passage in passages])
    if robots.any() and not robots.all():
        for group, share in ((robots, espeak_share), (~robots, 1.0 - espeak_share)):
            shares[group] *= share / shares[group].sum()
    return shares / shares.sum()


def of_clips(clips: ClipSet) -> SpeechSet:
    """Returns the corpus's clips as a speech set, all drawn alike."""
    count, voices = clips.samples.shape[:2]
    return SpeechSet(
        clips.samples.reshape(count * voices, -1),
        np.repeat(clips.phonemes, voices, 0),
        np.repeat(clips.stress, voices, 0).astype(np.int8),
        np.repeat(clips.energy, voices, 0),
        np.full(count * voices, FRAMES, np.int32),
        np.full(count * voices, 1.0 / (count * voices), np.float32),
    )


def joined(first: SpeechSet, second: SpeechSet, share: float) -> SpeechSet:
    """Returns both sets; `share` of what is drawn is of the second."""
    weight = np.concatenate([first.weight * (1.0 - share), second.weight * share])
    columns = [np.concatenate(pair) for pair in zip(first[:-1], second[:-1])]
    return SpeechSet(*columns, weight)


def frame_energy(samples: np.ndarray, frames: int) -> np.ndarray:
    """Returns the natural log of each 20 ms frame's root mean square plus 1e-5, of f32 (N,): f32 (frames,)."""
    low = HOP * np.arange(frames)
    # Samples past the end are silence.
    level = rms_between(np.pad(samples, (0, max(HOP * (frames - 1) + WINDOW - len(samples), 0))), low, low + WINDOW)
    return np.log(level + 1e-5).astype(np.float32)


_BABBLE: dict[str, np.ndarray] = {}


def _start(babble: np.ndarray) -> None:
    _BABBLE["speech"] = babble


def _versions(job: tuple[Passage, int, int, tuple[str, ...], int]) -> list[tuple[np.ndarray, ...]]:
    passage, number, versions, codecs, seed = job
    rng = np.random.default_rng([seed, number, 2])
    labels = (passage.phonemes, passage.stress, frame_energy(passage.samples, len(passage.phonemes)))
    made = [(passage.samples, labels)]
    made += [altered(passage.samples, labels, rng, codecs, _BABBLE["speech"]) for _ in range(versions - 1)]
    return [_row(samples, *tracks) for samples, tracks in made]


def _row(samples: np.ndarray, phonemes: np.ndarray, stress: np.ndarray, energy: np.ndarray) -> tuple[np.ndarray, ...]:
    silence = 2 * FRAMES - min(len(phonemes), 2 * FRAMES)
    quiet = np.concatenate([energy, np.full(silence, np.log(1e-5), np.float32)])
    return (
        as_int16(fitted(samples, SAMPLES)),
        fitted(phonemes, 2 * FRAMES).astype(np.int16),
        fitted(np.where(stress > 1, UNKNOWN_STRESS, stress), 2 * FRAMES).astype(np.int8),
        quiet[: 2 * FRAMES].astype(np.float16),
        np.int32(min(len(samples) // SAMPLES_PER_FRAME, FRAMES)),
    )

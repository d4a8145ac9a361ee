"""Minutes of held-out speech by one voice, with pauses: what a long video is driven by."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vasa_jax.conventions import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, SPEECH_SOURCES
from vasa_jax.corpus.clips import SENTENCES, fill_pauses, set_level, speak_in_turn
from vasa_jax.corpus.performance.performance import perform, sample_emotion
from vasa_jax.corpus.speech.espeak import VOICES, Phoneme, Speech, shifted
from vasa_jax.corpus.speech.shipped import SHIPPED_VOICES
from vasa_jax.errors import InputError

SPOKEN = (4.0, 8.0)  # seconds between two pauses, at least and at most
PAUSE = (2.0, 4.5)
TRAIL = 0.6  # seconds of a pause that belong to what was said before it
GAP = (0.15, 0.6)  # between sentences that belong together
LOUDNESS = -21.0  # dB of full scale, of the spoken parts: the corpus's mean
SETTLE, PREPARE = 0.4, 0.25  # seconds at a pause's ends in which lips may still close and already open


class Talk(NamedTuple):
    """samples f32 [640 T] at 16 kHz; motion name -> f32 [T], true performances, each from one of the frames `starts` to
    the next; quiet bool [T]: frames well inside a pause; voice; text."""

    samples: np.ndarray
    motion: dict[str, np.ndarray]
    starts: tuple[int, ...]
    quiet: np.ndarray
    voice: str
    text: str


def sample_talk(seed: int, seconds: float, speech: str = "espeak") -> Talk:
    """Makes the talk of a seed. `speech` is one of SPEECH_SOURCES; shipped repeats the few sentences of one voice.

    Every stretch between pauses is spoken in a manner of its own and performed for itself, as a clip of the corpus is.
    Emotion, gaze and distance are the same throughout. InputError for an unknown source and for espeak without
    espeakng_loader.
    """
    if speech not in SPEECH_SOURCES:
        raise InputError(f"speech {speech!r}: unknown; choose one of {', '.join(SPEECH_SOURCES)}")
    rng = np.random.default_rng([seed, 2])
    known = VOICES if speech == "espeak" else SHIPPED_VOICES
    names = [name for name in known if VOICES[name].split == "heldout"]
    voice, emotion = names[rng.integers(len(names))], sample_emotion(rng)
    whole = round(seconds * FPS)
    parts: list[Speech] = []
    texts: list[str] = []
    starts = [0]
    while starts[-1] < whole:
        part, said = _stretch(rng, voice, emotion, speech, (whole - starts[-1]) / FPS)
        parts.append(part)
        texts += said
        starts.append(starts[-1] + len(part.samples) // SAMPLES_PER_FRAME)
    first = perform(parts[0], rng, emotion)
    rest = [perform(part, rng, emotion, first.gaze, first.distance) for part in parts[1:]]
    motion = {name: np.concatenate([take.motion[name] for take in (first, *rest)]) for name in first.motion}
    spoken = [
        shifted(phoneme, start / FPS) for part, start in zip(parts, starts) for phoneme in part.phonemes
        if phoneme.symbol != "sil"
    ]  # fmt: skip
    samples = set_level(np.concatenate([part.samples for part in parts]), LOUDNESS)
    quiet = quiet_frames(fill_pauses(spoken, whole / FPS), whole)
    return Talk(samples, motion, tuple(starts[:-1]), quiet, voice, " ".join(texts))


def _stretch(rng, voice: str, emotion: np.ndarray, speech: str, room: float) -> tuple[Speech, list[str]]:
    """A pause and what is said after it, a whole number of frames and at most `room` seconds, and its texts."""
    pause, spoken, most = rng.uniform(*PAUSE) - TRAIL, rng.uniform(*SPOKEN), round(room * FPS) * SAMPLES_PER_FRAME
    samples = np.zeros(most, np.float32)
    phonemes: list[Phoneme] = []
    texts: list[str] = []
    start = min(int(pause * SAMPLE_RATE), most)
    stop = min(start + int(spoken * SAMPLE_RATE), most - int(TRAIL * SAMPLE_RATE))
    if stop - start < SPOKEN[0] * SAMPLE_RATE:
        end = most  # too little is left to say anything: silence to the end
    else:
        next_sentence = SENTENCES[speech](rng, voice, "heldout", emotion)
        phonemes, texts, end = speak_in_turn(next_sentence, samples, start, stop, lambda: rng.uniform(*GAP))
        end = max(end, start)  # a pause alone, where no sentence fits
        end = min(-(-(end + int(TRAIL * SAMPLE_RATE)) // SAMPLES_PER_FRAME) * SAMPLES_PER_FRAME, most)
    return Speech(samples[:end], fill_pauses(phonemes, end / SAMPLE_RATE)), texts


def quiet_frames(phonemes: Sequence[Phoneme], frames: int) -> np.ndarray:
    """Returns which frames lie well inside a pause, bool [frames].

    The silence has at least PAUSE[0] s; SETTLE s at its start and PREPARE s at its end do not count.
    """
    starts = np.arange(frames) / FPS
    quiet = np.zeros(frames, bool)
    for phoneme in phonemes:
        if phoneme.symbol == "sil" and phoneme.end - phoneme.start >= PAUSE[0]:
            inside = (starts >= phoneme.start + SETTLE) & (starts + 1.0 / FPS <= phoneme.end - PREPARE)
            quiet |= inside
    return quiet

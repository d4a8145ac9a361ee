"""Clips of the built-in corpus: a seed becomes speech with its phonemes and a performance of it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vasa_jax.conventions import EMOTIONS, FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, SPEECH_SOURCES
from vasa_jax.corpus.performance.performance import perform, sample_emotion
from vasa_jax.corpus.speech.acoustics import frame_centres, log_energy
from vasa_jax.corpus.speech.espeak import VOICES, Phoneme, Speech, shifted, speak, trim
from vasa_jax.corpus.speech.phonemes import PHONEME_IDS, SILENCE
from vasa_jax.corpus.speech.sentences import sample_sentence
from vasa_jax.corpus.speech.shipped import SHIPPED_VOICES, shipped_utterances
from vasa_jax.corpus.speech.voice_augmentation import augment_voice
from vasa_jax.errors import InputError

MIN_SECONDS, MAX_SECONDS = 8.0, 10.0
SILENT_SHARE = 0.03  # training clips in which the head only listens
LEVEL = -21.0, 2.5  # decibels relative to full scale: mean and spread over clips


class Clip(NamedTuple):
    """Speech of T video frames and one performance of it. Labels at 50 Hz: frame k covers [320 k, 320 k + 400)."""

    samples: np.ndarray  # f32 [640 T] at 16 kHz
    frames: int  # T, at 25 fps
    motion: dict[str, np.ndarray]  # name -> f32 [T]
    phoneme_ids: np.ndarray  # i32 [2T], classes of PHONEME_CLASSES
    stress: np.ndarray  # f32 [2T]
    energy: np.ndarray  # f32 [2T], log of the root mean square
    emotion: np.ndarray  # f32 [8]
    gaze: np.ndarray  # f32 [2] degrees
    distance: float
    text: str
    voice: str


def sample_clip(
    seed: int,
    split: str = "train",
    augment: bool = False,
    take: int = 0,
    speech: str = "espeak",
    shown: np.ndarray | None = None,
) -> Clip:
    """Makes the clip of a seed: 8 to 10 s of one or more sentences with silence before, between and after.

    Lips follow the clean voice; `augment` replaces the returned samples by augment_voice's (energy stays that of the
    clean voice). `take` numbers the performances of the same speech with the same emotion. `speech` is one
    of SPEECH_SOURCES: espeak synthesises sentence after sentence, shipped takes those that come with the package.
    `shown`, 8 coefficients, is performed in the place of the voice's emotion. The same arguments give the same clip.
    Raises InputError for an unknown split or source, and for espeak without espeakng_loader.
    """
    return sample_takes(seed, split, (take,), augment, speech, shown)[0]


def sample_takes(
    seed: int,
    split: str = "train",
    takes: Sequence[int] = (0,),
    augment: bool = False,
    speech: str = "espeak",
    shown: np.ndarray | None = None,
) -> list[Clip]:
    """Makes the clips of a seed that `sample_clip` makes for each number in `takes`; the speech is made once."""
    if split not in ("train", "heldout"):
        raise InputError(f"split {split!r}: unknown; choose 'train' or 'heldout'")
    if speech not in SPEECH_SOURCES:
        raise InputError(f"speech {speech!r}: unknown; choose 'espeak' or 'shipped'")
    which = 0 if split == "train" else 1
    rng = np.random.default_rng([seed, which])
    known = VOICES if speech == "espeak" else SHIPPED_VOICES
    names = [name for name in known if VOICES[name].split == split]
    voice = names[rng.integers(len(names))]
    emotion = sample_emotion(rng)
    spoken, text = _compose(rng, voice, split, emotion, speech)
    clips = []
    for take in takes:
        performing = np.random.default_rng([seed, which, 1 + take])  # trailing zeros would repeat the stream above
        clip = performed(spoken, performing, emotion if shown is None else shown, text, voice)
        clips.append(clip._replace(samples=augment_voice(spoken.samples, performing)) if augment else clip)
    return clips


def performed(spoken: Speech, rng: np.random.Generator, emotion: np.ndarray, text: str, voice: str) -> Clip:
    """Makes the clip of a speech of a whole number of video frames; emotion: 8 coefficients."""
    frames = len(spoken.samples) // SAMPLES_PER_FRAME
    ids, stress = frame_labels(spoken.phonemes, 2 * frames)
    performance = perform(spoken, rng, emotion)
    return Clip(
        samples=spoken.samples,
        frames=frames,
        motion=performance.motion,
        phoneme_ids=ids,
        stress=stress,
        energy=log_energy(spoken.samples, 2 * frames),
        emotion=performance.emotion,
        gaze=performance.gaze,
        distance=performance.distance,
        text=text,
        voice=voice,
    )


def frame_labels(phonemes: Sequence[Phoneme], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns phoneme ids i32 [frames] and stress f32 [frames] at 50 Hz, at the middle of each frame's window."""
    centres = frame_centres(frames)
    ids, stress = np.full(frames, SILENCE, np.int32), np.zeros(frames, np.float32)
    for phoneme in phonemes:
        low, high = np.searchsorted(centres, (phoneme.start, phoneme.end))
        ids[low:high] = PHONEME_IDS[phoneme.symbol]
        stress[low:high] = phoneme.stressed
    return ids, stress


# What a fully felt emotion adds to the voice: (words per minute, pitch, pitch range).
_VOICE_OF_EMOTION = {
    "anger": (15, 4, 20), "contempt": (-10, -6, -10), "disgust": (-12, -6, 0), "fear": (20, 12, 10),
    "happiness": (8, 10, 20), "neutral": (0, 0, 0), "sadness": (-22, -8, -25), "surprise": (8, 14, 25),
}  # fmt: skip


def _manner(rng, emotion):
    """Speaking rate, pitch and pitch range of a take."""
    shift = emotion @ np.array([_VOICE_OF_EMOTION[name] for name in EMOTIONS], np.float32)
    drawn = rng.normal((158.0, 50.0, 55.0), (18.0, 13.0, 16.0)) + shift
    return np.clip(drawn, (105, 12, 12), (220, 90, 98)).astype(int).tolist()


def _compose(rng, voice, split, emotion, source):
    """Sentences of one voice with pauses -> Speech of a whole number of video frames, and the text."""
    limit = round(rng.uniform(MIN_SECONDS, MAX_SECONDS) * FPS) * SAMPLES_PER_FRAME
    if split == "train" and rng.random() < SILENT_SHARE:
        seconds = limit / SAMPLE_RATE
        return Speech(np.zeros(limit, np.float32), (Phoneme(0.0, seconds, "sil", False, seconds),)), ""
    next_sentence = SENTENCES[source](rng, voice, split, emotion)
    start, trail = (rng.uniform((0.2, 0.2), (0.8, 0.7)) * SAMPLE_RATE).astype(int)
    samples = np.zeros(limit, np.float32)
    phonemes, texts, end = speak_in_turn(
        next_sentence, samples, start, limit - trail, lambda: min(0.12 + rng.gamma(2.0, 0.17), 1.4), 0.7 * SAMPLE_RATE
    )
    frames = min(max(-(-(end + trail) // SAMPLES_PER_FRAME), round(MIN_SECONDS * FPS)), limit // SAMPLES_PER_FRAME)
    samples = set_level(samples[: frames * SAMPLES_PER_FRAME], rng.normal(*LEVEL))
    return Speech(samples, fill_pauses(phonemes, frames / FPS)), " ".join(texts)


def speak_in_turn(next_sentence, samples, start, stop, gap, least=-math.inf):
    """Writes sentence after sentence into `samples`, from `start` to at most `stop`, `gap()` seconds apart.

    Goes on as long as more than `least` samples are left and a sentence fits. Returns their phonemes, their texts, and
    where the last one ends (0 without any).
    """
    phonemes, texts, end = [], [], 0
    while stop - start > least:
        text, spoken = next_sentence(stop - start)
        if spoken is None:
            break
        end = start + len(spoken.samples)
        samples[start:end] = spoken.samples
        phonemes += [shifted(phoneme, start / SAMPLE_RATE) for phoneme in spoken.phonemes]
        texts.append(text)
        start = end + int(gap() * SAMPLE_RATE)
    return phonemes, texts, end


def synthesised_sentences(rng, voice, split, emotion):
    """Returns a function that synthesises the next sentence by eSpeak NG: room in samples -> (text, Speech or None)."""
    rate, pitch, pitch_range = _manner(rng, emotion)
    share = 0.9  # of the room that a sentence should fill, by an estimate from its letters

    def next_sentence(room):
        nonlocal share
        while share > 0.3:
            letters = max(int(share * room / SAMPLE_RATE * rate / 9.5), 7)
            text = sample_sentence(rng, VOICES[voice].language, split, letters)
            spoken = trim(speak(text, voice, rate, pitch, pitch_range)) if len(text) <= letters + 4 else None
            if spoken is not None and len(spoken.samples) <= room:
                return text, spoken
            share -= 0.3
        return "", None

    return next_sentence


def shipped_sentences(rng, voice, split, emotion):
    """Returns the same function for the sentences that ship with the package: this voice's, at random, each once."""
    del split, emotion  # each voice is of one split; its manner is recorded
    left = [utterance for utterance in shipped_utterances() if utterance.voice == voice]
    left = [left[index] for index in rng.permutation(len(left))]

    def next_sentence(room):
        for index, utterance in enumerate(left):
            if len(utterance.speech.samples) <= room:
                return left.pop(index)[1:]
        return "", None

    return next_sentence


SENTENCES = {"espeak": synthesised_sentences, "shipped": shipped_sentences}


def set_level(samples, decibels):
    """Scales speech to a level relative to full scale, without clipping."""
    spoken = samples[np.abs(samples) > 1e-4]
    gain = 10.0 ** (decibels / 20.0) / (np.sqrt((spoken**2).mean()) + 1e-6) if len(spoken) else 1.0
    return samples * np.float32(min(gain, 0.98 / (np.abs(samples).max() + 1e-6)))


def fill_pauses(phonemes, total):
    """Adds the silences between sentences, so that phonemes cover [0, total] without gaps."""
    filled, time = [], 0.0
    for phoneme in phonemes:
        if phoneme.start - time > 1e-3:
            filled.append(Phoneme(time, phoneme.start, "sil", False, phoneme.start))
        filled.append(phoneme)
        time = phoneme.end
    if total - time > 1e-3:
        filled.append(Phoneme(time, total, "sil", False, total))
    return tuple(filled)

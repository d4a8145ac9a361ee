"""Clips of the built-in corpus: a seed becomes speech with its phonemes and a performance of it."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from vasa_jax.data.synthetic.acoustics import frame_centres, log_energy, pitch_contour
from vasa_jax.data.synthetic.augment import augment_voice
from vasa_jax.data.synthetic.performance import FPS, FRAME_SAMPLES, perform
from vasa_jax.data.synthetic.phonemes import PHONEME_IDS, SILENCE
from vasa_jax.data.synthetic.sentences import sample_sentence
from vasa_jax.data.synthetic.speech import SAMPLE_RATE, VOICES, Phoneme, Speech, speak
from vasa_jax.errors import InputError

MIN_SECONDS, MAX_SECONDS = 8.0, 10.0
SILENT_SHARE = 0.03  # clips in which the head only listens


class Clip(NamedTuple):
    """One take. samples f32 [640 T] at 16 kHz; frames T at 25 fps; motion name -> f32 [T]; frame labels at 50 Hz, where frame k
    covers samples [320 k, 320 k + 400): phoneme_ids i32 [2T] (PHONEME_CLASSES), stress f32 [2T], energy f32 [2T] (log of the
    root mean square), pitch f32 [2T] (Hz, 0 = unvoiced); emotion f32 [8]; gaze f32 [2] degrees; distance; text; voice."""

    samples: np.ndarray
    frames: int
    motion: dict[str, np.ndarray]
    phoneme_ids: np.ndarray
    stress: np.ndarray
    energy: np.ndarray
    pitch: np.ndarray
    emotion: np.ndarray
    gaze: np.ndarray
    distance: float
    text: str
    voice: str


def sample_clip(seed: int, split: str = "train", augment: bool = False) -> Clip:
    """The clip of a seed: 8 to 10 s of one or more sentences with silence before, between and after.

    Lips follow the clean voice; `augment` replaces the returned samples by augment_voice's (energy and pitch stay those of the
    clean voice). The same arguments give the same clip. Raises InputError for an unknown split or without espeakng_loader.
    """
    if split not in ("train", "heldout"):
        raise InputError(f"split {split!r}: unknown; choose 'train' or 'heldout'")
    rng = np.random.default_rng([seed, 0 if split == "train" else 1])
    names = [name for name, voice in VOICES.items() if voice.split == split]
    voice = names[rng.integers(len(names))]
    speech, text = _compose(rng, voice, split)
    take = perform(speech, rng)
    frames = len(speech.samples) // FRAME_SAMPLES
    ids, stress = frame_labels(speech.phonemes, 2 * frames)
    energy, pitch = log_energy(speech.samples, 2 * frames), pitch_contour(speech.samples, 2 * frames)
    samples = augment_voice(speech.samples, rng) if augment else speech.samples
    return Clip(
        samples, frames, take.motion, ids, stress, energy, pitch, take.emotion, take.gaze, take.distance, text, voice
    )


def frame_labels(phonemes: Sequence[Phoneme], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Phoneme ids i32 [frames] and stress f32 [frames] at 50 Hz: what sounds at the middle of each frame's window."""
    centres = frame_centres(frames)
    ids, stress = np.full(frames, SILENCE, np.int32), np.zeros(frames, np.float32)
    for phoneme in phonemes:
        low, high = np.searchsorted(centres, (phoneme.start, phoneme.end))
        ids[low:high] = PHONEME_IDS[phoneme.symbol]
        stress[low:high] = phoneme.stressed
    return ids, stress


def _compose(rng, voice, split):
    """Sentences of one voice with pauses -> Speech of a whole number of video frames, and the text."""
    length = round(rng.uniform(MIN_SECONDS, MAX_SECONDS) * FPS) * FRAME_SAMPLES
    samples = np.zeros(length, np.float32)
    phonemes, texts = [], []
    if rng.random() < SILENT_SHARE:
        return Speech(samples, (Phoneme(0.0, length / SAMPLE_RATE, "sil", False, length / SAMPLE_RATE),)), ""
    rate = int(np.clip(rng.normal(158, 20), 110, 215))
    pitch, pitch_range = int(np.clip(rng.normal(50, 14), 15, 85)), int(np.clip(rng.normal(55, 18), 15, 95))
    chars_per_second = rate / 10.0
    start = int(rng.uniform(0.2, 0.9) * SAMPLE_RATE)
    trail = int(rng.uniform(0.2, 0.8) * SAMPLE_RATE)
    while True:
        room = (length - trail - start) / SAMPLE_RATE
        if texts and room < 0.8:
            break
        text = sample_sentence(rng, VOICES[voice].language, split, max_chars=max(int(0.85 * room * chars_per_second), 8))
        spoken = _trim(speak(text, voice, rate, pitch, pitch_range))
        if len(spoken.samples) > length - trail - start:
            break
        samples[start : start + len(spoken.samples)] = spoken.samples
        offset = start / SAMPLE_RATE
        phonemes += [p._replace(start=p.start + offset, end=p.end + offset, release=p.release + offset) for p in spoken.phonemes]
        texts.append(text)
        start += len(spoken.samples) + int(np.clip(rng.gamma(2.0, 0.22) + 0.12, 0.15, 1.5) * SAMPLE_RATE)
    level = np.sqrt((samples**2).sum() / max((np.abs(samples) > 1e-4).sum(), 1))
    samples *= 10.0 ** (rng.normal(-21.0, 2.5) / 20.0) / (level + 1e-6)
    peak = np.abs(samples).max()
    samples *= min(1.0, 0.98 / peak) if peak > 0 else 1.0
    return Speech(samples, _fill_pauses(phonemes, length / SAMPLE_RATE)), " ".join(texts)


def _trim(speech):
    """Cuts the silence at both ends, and what was said before and after."""
    spoken = [phoneme for phoneme in speech.phonemes if phoneme.symbol != "sil"]
    if not spoken:
        return speech
    first, last = spoken[0].start, spoken[-1].end
    inside = [
        p._replace(start=p.start - first, end=p.end - first, release=p.release - first)
        for p in speech.phonemes
        if p.start >= first and p.end <= last
    ]
    return Speech(speech.samples[int(first * SAMPLE_RATE) : int(np.ceil(last * SAMPLE_RATE))], tuple(inside))


def _fill_pauses(phonemes, total):
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


def sample_clips(seeds: Sequence[int], split: str = "train", workers: int = 0, augment: bool = False) -> Iterator[Clip]:
    """Clips of many seeds, in order. workers: processes that make them (0 = this one). Processes are spawned, so a caller's
    script needs the usual `if __name__ == "__main__"`."""
    seeds = list(seeds)
    if workers <= 0:
        yield from (sample_clip(seed, split, augment) for seed in seeds)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        chunk = max(1, min(16, len(seeds) // (4 * workers)))
        yield from pool.map(sample_clip, seeds, [split] * len(seeds), [augment] * len(seeds), chunksize=chunk)

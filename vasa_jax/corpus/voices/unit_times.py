"""From the times that a neural synthesiser predicts for its letters to phonemes without gaps."""

from collections.abc import Sequence

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.speech.acoustics import HOP, block_rms
from vasa_jax.corpus.speech.espeak import Phoneme
from vasa_jax.corpus.voices.phonemization import Unit

QUIET = 0.12  # of the recording's level: a gap between words below it is a pause
STILL = 0.03  # of the recording's level: silence, whatever was predicted
LEAST_GAP = 0.06  # seconds of a pause between words
LEAST_STILL = 0.12  # seconds
_STEP = 64  # samples per value of the level


def spoken_phonemes(samples: np.ndarray, units: Sequence[Unit], times: np.ndarray, gap: float) -> tuple[Phoneme, ...]:
    """Returns phonemes over the whole of 16 kHz samples f32 (N,), pauses included.

    times: seconds (units + 1,), where each unit begins and the last one ends. gap: how much of a gap between words
    that is no pause goes to the phoneme after it. A consonant sounds before its own letter, in Piper all of the gap.
    """
    total = len(samples) / SAMPLE_RATE
    level = relative_level(samples)
    parts = [[0.0, times[0], "sil", False]] if times[0] > 0 else []
    parts += [[a, b, unit.symbol, unit.stressed] for a, b, unit in zip(times[:-1], times[1:], units) if b > a]
    parts.append([times[-1], max(total, times[-1]), "sil", False])
    kept: list[list] = []
    for number, (start, end, symbol, stressed) in enumerate(parts):
        if not symbol:
            inside = level[int(start * SAMPLE_RATE / _STEP) : max(int(end * SAMPLE_RATE / _STEP), 1)]
            if end - start >= LEAST_GAP and len(inside) and np.mean(inside < QUIET) > 0.5:
                symbol = "sil"
            else:
                middle = end - gap * (end - start)
                if kept:
                    kept[-1][1] = middle
                parts[number + 1][0] = middle if kept else start
                continue
        kept.append([start, end, symbol, stressed])
    found = [Phoneme(a, b, symbol, stressed, b) for a, b, symbol, stressed in kept if b > a]
    return _silenced(found, still_stretches(level))


def relative_level(samples: np.ndarray) -> np.ndarray:
    """Returns the level of each 4 ms of samples (N,), relative to that of the whole."""
    padded = np.pad(samples, (0, -len(samples) % _STEP))
    return block_rms(padded, _STEP) / (np.sqrt((padded**2).mean()) + 1e-9)


def still_stretches(level: np.ndarray) -> list[tuple[float, float]]:
    """Returns (start, end) in seconds of the silences of at least LEAST_STILL in a relative level at 4 ms.

    A synthesiser's last phoneme before a pause can swallow the pause.
    """
    per = HOP // _STEP
    frames = np.pad(level, (0, -len(level) % per)).reshape(-1, per).mean(1) < STILL
    edges = np.flatnonzero(np.diff(np.concatenate([[False], frames, [False]]))) * HOP / SAMPLE_RATE
    return [(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2]) if b - a >= LEAST_STILL - 1e-9]


def _silenced(phonemes: list[Phoneme], still: list[tuple[float, float]]) -> tuple[Phoneme, ...]:
    """Cuts the stretches of silence out of the phonemes and puts pauses there."""
    for low, high in still:
        cut = []
        for phoneme in phonemes:
            for start, end in ((phoneme.start, min(phoneme.end, low)), (max(phoneme.start, high), phoneme.end)):
                if end > start:
                    cut.append(phoneme._replace(start=start, end=end, release=end))
        phonemes = sorted([*cut, Phoneme(low, high, "sil", False, high)])
    return tuple(phonemes)

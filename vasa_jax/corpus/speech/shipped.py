"""Sentences that ship with the package: speech for tests, the demo and small trainings without the synthesiser.

The project's own work, spoken by eSpeak NG; `python -m vasa_jax.corpus.speech.shipped` writes the file anew
(needs espeakng-loader). Texts, voices and manners are functions of the numbers below.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vasa_jax.corpus.speech.espeak import VOICES, Phoneme, Speech, speak, trim
from vasa_jax.corpus.speech.phonemes import PHONEME_CLASSES, PHONEME_IDS
from vasa_jax.corpus.speech.sentences import sample_sentence
from vasa_jax.files import replacing

PATH = Path(__file__).parents[2] / "pretrained" / "speech" / "sentences.npz"
SENTENCES = 3  # per voice
LETTERS = (24, 46)  # of a sentence, at least and at most
SHIPPED_VOICES = (
    "en-us", "en-us+f3", "en-us+m3", "en-gb-x-rp+f4", "en-us+Annie", "de+m3", "fr+f4", "es+m6",
    "en-us+m8", "en-us+steph", "de+f5",
)  # fmt: skip


class Utterance(NamedTuple):
    """One sentence of one voice, without silence at its ends."""

    voice: str
    text: str
    speech: Speech


def make_utterances() -> tuple[Utterance, ...]:
    """Synthesises the shipped sentences; InputError without espeakng_loader."""
    made = []
    for number, voice in enumerate(SHIPPED_VOICES):
        rng, texts = np.random.default_rng([number, 28]), set()
        while len(texts) < SENTENCES:
            text = sample_sentence(rng, VOICES[voice].language, VOICES[voice].split, LETTERS[1])
            if text in texts or not LETTERS[0] <= len(text) <= LETTERS[1]:
                continue
            texts.add(text)
            rate, pitch, pitch_range = rng.integers((140, 40, 40), (180, 62, 75))
            made.append(Utterance(voice, text, trim(speak(text, voice, int(rate), int(pitch), int(pitch_range)))))
    return tuple(made)


def write_utterances(path: Path, utterances: tuple[Utterance, ...]) -> None:
    """Writes them without loss: samples as int16, stored as differences, which pack better."""
    samples = [_to_int16(u.speech.samples) for u in utterances]
    phonemes = [p for u in utterances for p in u.speech.phonemes]
    joined = np.concatenate(samples)
    steps = np.diff(joined, n=2, prepend=np.zeros(2, np.int16))  # wraps round, and so does the sum
    content = {
        "low": (steps.view(np.uint16) & 0xFF).astype(np.uint8),
        "high": (steps.view(np.uint16) >> 8).astype(np.uint8),
        "lengths": np.array([len(s) for s in samples]),
        "voices": np.array([u.voice for u in utterances]),
        "texts": np.array([u.text for u in utterances]),
        "times": np.array([(p.start, p.end, p.release) for p in phonemes]),
        "symbols": np.array([PHONEME_IDS[p.symbol] for p in phonemes], np.uint8),
        "stressed": np.array([p.stressed for p in phonemes]),
        "phonemes": np.array([len(u.speech.phonemes) for u in utterances]),
    }
    with replacing(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, **content)


def read_utterances(path: Path) -> tuple[Utterance, ...]:
    """Reads what `write_utterances` wrote, up to the rounding of samples to 16 bits."""
    with np.load(path) as file:
        content = dict(file)
    steps = (content["low"] | content["high"].astype(np.uint16) << 8).view(np.int16)
    joined = np.cumsum(np.cumsum(steps, dtype=np.int16), dtype=np.int16)
    sounds = np.split(joined.astype(np.float32) / 32767.0, np.cumsum(content["lengths"])[:-1])
    marks = [
        Phoneme(float(start), float(end), PHONEME_CLASSES[symbol], bool(stressed), float(release))
        for (start, end, release), symbol, stressed in zip(content["times"], content["symbols"], content["stressed"])
    ]
    ends = np.cumsum(content["phonemes"]).tolist()
    return tuple(
        Utterance(str(voice), str(text), Speech(sound, tuple(marks[end - count : end])))
        for voice, text, sound, count, end in zip(
            content["voices"], content["texts"], sounds, content["phonemes"].tolist(), ends
        )
    )


@functools.cache
def shipped_utterances() -> tuple[Utterance, ...]:
    """Returns the sentences that ship with the package, by voice; both splits, which share neither voice nor text."""
    return read_utterances(PATH)


def _to_int16(samples):
    return np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)


if __name__ == "__main__":
    write_utterances(Path(sys.argv[1]) if len(sys.argv) > 1 else PATH, make_utterances())

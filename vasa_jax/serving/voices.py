"""The voices in which texts are spoken: eSpeak NG's, where the extra `speech` is installed, and programs' that are."""

import functools
import importlib.util

import numpy as np

from vasa_jax.config import SpeechCorpusConfig
from vasa_jax.corpus.speech.espeak import VOICES, speak
from vasa_jax.corpus.voices.synthesiser import Say, open_synthesiser
from vasa_jax.errors import InputError

PROGRAMS = ("flite", "festival")  # synthesisers that say any English text


class Voices:
    """What is installed, looked for once, when it is first needed."""

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
            return self._said[voice](text).samples
        if ":" in voice or not self._has_espeak:
            known = ", ".join(self.names[:8])
            raise InputError(f"voice: {voice} is not installed here; choose one of {known}")
        return speak(text, voice).samples

    @functools.cached_property
    def _has_espeak(self) -> bool:
        return importlib.util.find_spec("espeakng_loader") is not None

    @functools.cached_property
    def _said(self) -> dict[str, Say]:
        found = {}
        for name in PROGRAMS:
            try:
                program = open_synthesiser(name, SpeechCorpusConfig())
            except InputError:  # it is not installed
                continue
            for speaker in program.speakers:
                found[f"{name}:{speaker.name}"] = program.cast(speaker, np.random.default_rng(0))
        return found

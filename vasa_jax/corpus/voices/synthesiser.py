"""What a synthesiser is to the speech corpus, and the one list of them.

Each is a back end of its own: an optional package or program, or files of a user's. None of them is part of vasa_jax.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from vasa_jax.config import SpeechCorpusConfig
from vasa_jax.corpus.speech.espeak import Speech

Say = Callable[[str], Speech]


class Speaker(NamedTuple):
    """Names a voice of a synthesiser, the language of its sentences and its split, train or heldout."""

    name: str
    language: str
    split: str


class Synthesiser(Protocol):
    """Speaks texts in the voices of its speakers.

    Made from the settings; InputError where its package, program or file is missing.
    """

    speakers: tuple[Speaker, ...]

    def cast(self, speaker: Speaker, rng: np.random.Generator) -> Say:
        """Returns what says texts as this speaker, in one manner that `rng` draws.

        It returns sound and phonemes, silence at the ends included, and raises InputError for what it cannot say.
        """
        ...


_ROOM = "vasa_jax.corpus.voices"
# Name, which is also that of its minutes in the settings -> class, imported when it is used.
SYNTHESISERS = {
    "espeak": f"{_ROOM}.espeak_voices:EspeakVoices",
    "kokoro": f"{_ROOM}.kokoro:Kokoro",
    "piper": f"{_ROOM}.piper:Piper",
    "pico": f"{_ROOM}.pico:Pico",
    "flite": f"{_ROOM}.festival_family:Flite",
    "festival": f"{_ROOM}.festival_family:Festival",
}


def open_synthesiser(name: str, settings: SpeechCorpusConfig) -> Synthesiser:
    """Returns a synthesiser by its name; InputError in one line where what it needs is missing."""
    module, _, cls = SYNTHESISERS[name].partition(":")
    return getattr(importlib.import_module(module), cls)(settings)

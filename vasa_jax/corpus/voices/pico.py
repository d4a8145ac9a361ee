"""SVOX Pico (package py-nanotts, Apache-2.0) as a synthesiser; it tells no times, so that an aligner finds them.

Only its English voices are used: the aligner knows English.
"""

import numpy as np

from vasa_jax.config import SpeechCorpusConfig
from vasa_jax.corpus.speech.espeak import Speech
from vasa_jax.corpus.voices.alignment import EnglishAligner, words_of
from vasa_jax.corpus.voices.synthesiser import Say, Speaker
from vasa_jax.errors import InputError


class PicoVoices:
    """Gives the sound of texts in Pico's voices; InputError where its package is not installed."""

    def __init__(self):
        try:
            from py_nanotts import NanoTTS
        except ImportError:
            raise InputError(
                "py_nanotts: not installed; run `pip install py-nanotts` (extra voices), or set "
                "config.speech_corpus.pico=0"
            ) from None
        self._engine = NanoTTS()

    def sound(self, voice: str, text: str, speed: float = 1.0, pitch: float = 1.0) -> np.ndarray:
        """Returns a text's sound, float32 (N,) at 16 kHz; speed and pitch over the voice's own."""
        sound = self._engine.speak(text, voice=voice, speed=speed, pitch=pitch)
        return np.frombuffer(sound, np.int16).astype(np.float32) / 32768.0


class Pico:
    """Speaks with Pico's American and British voices at random speed and pitch."""

    speakers = (Speaker("en-US", "en", "train"), Speaker("en-GB", "en", "train"))

    def __init__(self, settings: SpeechCorpusConfig):
        del settings
        self._voices, self._align = PicoVoices(), EnglishAligner()

    def cast(self, speaker: Speaker, rng: np.random.Generator) -> Say:
        """Returns what says texts as this speaker."""
        speed, pitch = float(rng.uniform(0.85, 1.2)), float(np.exp(rng.uniform(np.log(0.75), np.log(1.3))))

        def say(text: str) -> Speech:
            samples = self._voices.sound(speaker.name, text, speed, pitch)
            phonemes = self._align(samples, words_of(text)) if len(samples) else None
            if phonemes is None:
                raise InputError(f"text {text[:60]!r}: its words do not fit what Pico says; leave it out")
            return Speech(samples, phonemes)

        return say

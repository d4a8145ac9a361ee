"""eSpeak NG as a synthesiser of the speech corpus: the voices of the built-in corpus, and their split."""

import numpy as np

from vasa_jax.config import SpeechCorpusConfig
from vasa_jax.corpus.speech.espeak import LOCK, VOICES, Speech, open_espeak, speak
from vasa_jax.corpus.voices.synthesiser import Say, Speaker


class EspeakVoices:
    """Speaks with VOICES at random rate and pitch; needs espeakng_loader."""

    speakers = tuple(Speaker(name, voice.language, voice.split) for name, voice in VOICES.items())

    def __init__(self, settings: SpeechCorpusConfig):
        del settings  # its voices are the package's
        with LOCK, open_espeak():  # found missing here, not in a worker
            pass

    def cast(self, speaker: Speaker, rng: np.random.Generator) -> Say:
        """Returns what says texts as this speaker."""
        drawn = rng.normal((158.0, 50.0, 55.0), (18.0, 13.0, 16.0))
        rate, pitch, pitch_range = np.clip(drawn, (105, 12, 12), (220, 90, 98)).astype(int).tolist()

        def say(text: str) -> Speech:
            return speak(text, speaker.name, rate, pitch, pitch_range)

        return say

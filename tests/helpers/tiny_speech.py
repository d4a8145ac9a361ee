"""Small shards of speech, made of the sentences that ship with the package."""

from pathlib import Path

import numpy as np

from vasa_jax.corpus.speech.espeak import VOICES, Speech
from vasa_jax.corpus.speech.shipped import shipped_utterances
from vasa_jax.corpus.voices.speech_shards import Passage, write_shard
from vasa_jax.corpus.voices.synthesiser import Speaker
from vasa_jax.corpus.voices.write_speech import labelled


def shipped_passages(count: int = 12) -> list[Passage]:
    """One passage per sentence; every second one passes for one of GRID's people."""
    passages = []
    for number, utterance in enumerate(shipped_utterances()[::3][:count]):
        known = VOICES[utterance.voice]
        source = ("espeak", "grid")[number % 2]
        speaker = Speaker(utterance.voice, known.language, known.split)
        speech = Speech(np.asarray(utterance.speech.samples), utterance.speech.phonemes)
        passages.append(labelled(speech, source, speaker, utterance.voice, utterance.text))
    return passages


def write_tiny_speech(folder: Path) -> Path:
    """Writes them as one shard."""
    write_shard(folder / "speech-tiny-0000.npz", shipped_passages(), 32.0, {"made": "for tests"})
    return folder

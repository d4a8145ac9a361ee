"""Text to IPA phonemes by eSpeak NG, each with the class that the corpus labels frames by.

eSpeak prints a clause's phonemes as IPA or as its own mnemonics. Both lists come from the same phonemes and go together
one to one: the mnemonic names the class, the IPA is what Piper and Kokoro read.
"""

import ctypes
import re
from typing import NamedTuple

from vasa_jax.corpus.speech.espeak import LOCK, open_espeak, set_voice
from vasa_jax.corpus.speech.phonemes import phoneme_class
from vasa_jax.errors import InputError

# eSpeak's voice of a language of the corpus.
ESPEAK_VOICES = {
    "en": "en-us", "de": "de", "fr": "fr", "es": "es", "it": "it", "pt": "pt-br", "nl": "nl", "pl": "pl",
}  # fmt: skip
_SEPARATOR = "|"
_IPA, _MNEMONICS = 0x02 | ord(_SEPARATOR) << 8, ord(_SEPARATOR) << 8  # modes of espeak_TextToPhonemes
_UTF8 = 1
_STRESS = "ˈˌ',%="  # of IPA and of mnemonics


class Unit(NamedTuple):
    """Holds one phoneme: IPA with its stress mark and the name of its class; a gap between words has no class."""

    ipa: str
    symbol: str
    stressed: bool


def phonemize(text: str, language: str) -> list[Unit]:
    """Returns a text's phonemes in order, gaps and punctuation between them.

    Raises InputError for a language that the corpus has no voice of, and for a text that holds nothing to say.
    """
    if language not in ESPEAK_VOICES:
        raise InputError(f"language {language!r}: unknown; choose one of {', '.join(ESPEAK_VOICES)}")
    units: list[Unit] = []
    with LOCK, open_espeak() as (library, _, data):
        set_voice(library, ESPEAK_VOICES[language], data)
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        for clause, mark in re.findall(r"([^,;:.!?]+)([,;:.!?]*)", text):  # eSpeak loses punctuation
            spoken = [_words(library, clause.strip(), mode) for mode in (_IPA, _MNEMONICS)]
            for ipa, mnemonics in zip(*spoken):
                units += [Unit(" ", "", False)] * bool(units) + _paired(ipa, mnemonics, language)
            if mark and units:
                units.append(Unit(mark[0], "", False))
    if not any(unit.symbol for unit in units):
        raise InputError(f"text {text!r}: holds nothing to say; give words of the language")
    return units


def _words(library: ctypes.CDLL, text: str, mode: int) -> list[list[str]]:
    """Returns the phonemes of each word. A mark of a change of language, as in "(en)", is dropped."""
    pointer, clauses = ctypes.c_char_p(text.encode()), []
    while pointer.value:  # one clause a call
        clauses.append((library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, mode) or b"").decode())
    words = [word.split(_SEPARATOR) for clause in clauses for word in clause.split()]
    return [[phoneme for phoneme in word if phoneme and not phoneme.startswith("(")] for word in words]


def _paired(ipa: list[str], mnemonics: list[str], language: str) -> list[Unit]:
    """Pairs a word's IPA with its mnemonics, less those that have no IPA: pauses, palatalisation, Italian r's vowel."""
    if len(ipa) != len(mnemonics):
        mnemonics = [name for name in mnemonics if name.strip(_STRESS) not in ("", ";", "!") and name[0] != "_"]
    while len(mnemonics) > len(ipa) and "@-" in mnemonics:
        mnemonics.remove("@-")
    if len(ipa) != len(mnemonics):
        raise InputError(f"word {''.join(ipa)!r}: eSpeak gives IPA and mnemonics that differ in number; leave it out")
    return [
        Unit(sign, phoneme_class(name.lstrip(_STRESS), language), "ˈ" in sign) for sign, name in zip(ipa, mnemonics)
    ]

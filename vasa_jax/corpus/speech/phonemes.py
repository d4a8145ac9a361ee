"""The phoneme inventory of the built-in corpus: classes for frame labels, and the visemes that show each class.

Class names follow ARPAbet where it has one; `ue` and `oe` are front rounded vowels, `x` a velar or palatal fricative.
"""

_CONSONANTS = "p b t d k g m n ng f v th dh s z sh zh ch jh x h l r j w"
_VOWELS = "iy ih ey eh ae aa ah ax er ao ow uh uw ue oe ay aw oy"
PHONEME_CLASSES = ("sil", *_CONSONANTS.split(), *_VOWELS.split())
PHONEME_IDS = {name: index for index, name in enumerate(PHONEME_CLASSES)}
SILENCE = 0
VOWELS = frozenset(_VOWELS.split())
# Stops and affricates: a closure, then a release.
VOICELESS_STOPS = frozenset(("p", "t", "k", "ch"))
VOICED_STOPS = frozenset(("b", "d", "g", "jh"))
BILABIALS = frozenset(("p", "b", "m"))  # the lips must meet
LABIODENTALS = frozenset(("f", "v"))  # the lower lip must touch the upper teeth

# class -> the visemes it passes through (diphthongs two, everything else one).
PHONEME_VISEMES = {
    "sil": ("sil",), "p": ("PP",), "b": ("PP",), "m": ("PP",), "f": ("FF",), "v": ("FF",), "th": ("TH",), "dh": ("TH",),
    "t": ("DD",), "d": ("DD",), "k": ("kk",), "g": ("kk",), "ng": ("kk",), "x": ("kk",), "h": ("kk",),
    "s": ("SS",), "z": ("SS",), "sh": ("CH",), "zh": ("CH",), "ch": ("CH",), "jh": ("CH",), "n": ("nn",), "l": ("nn",),
    "r": ("RR",), "j": ("I",), "w": ("U",), "iy": ("I",), "ih": ("I",), "ey": ("E", "I"), "eh": ("E",), "ae": ("aa",),
    "aa": ("aa",), "ah": ("aa",), "ax": ("E",), "er": ("RR",), "ao": ("O",), "ow": ("O", "U"), "uh": ("U",),
    "uw": ("U",), "ue": ("U",), "oe": ("O",), "ay": ("aa", "I"), "aw": ("aa", "U"), "oy": ("O", "I"),
}  # fmt: skip

# eSpeak mnemonics (without stress marks) -> class; the mnemonics of a vowel vary from language to language.
_ESPEAK = {
    "sil": "_ !", "p": "p pF", "b": "b B", "t": "t t2 t[", "d": "d t# d#", "k": "k c", "g": "g Q", "m": "m",
    "n": "n n^ n-", "ng": "N", "f": "f", "v": "v v# V#", "th": "T", "dh": "D", "s": "s ts ts2 s#",
    "z": "z dz z2", "sh": "S S; s.", "zh": "Z Z; z.", "ch": "tS tS; ts;", "jh": "dZ dz; dZ;", "x": "x C X",
    "h": "h h#", "l": "l l^ @L l- l# L", "r": "r r- R R2 * ** r# R#", "j": "j ; J^ J", "w": "w w2 w#",
    "iy": "i i: i@ i@3 iU i~", "ih": "I I# I2", "ey": "eI EI e:", "eh": "E E# E: e e- e@ E~ eU EU",
    "ae": "aa E2", "aa": "a A A: 0 A@ a: a- A~ a~", "ah": "V", "ax": "@ @2 @- @5 & &~ a#", "er": "3 3: @r",
    "ao": "O O: O@ o@ O2 O~ o~", "ow": "o o: oU", "uh": "U U@", "uw": "u u: u~", "ue": "y y: y-",
    "oe": "Y Y: W W~ Wy W: @Y", "ay": "aI aI2 aI@", "aw": "aU VU &U~", "oy": "OI OY oI",
}  # fmt: skip
_CLASS_OF = {symbol: name for name, symbols in _ESPEAK.items() for symbol in symbols.split()}
_CLASS_IN_LANGUAGE = {
    "en": {"a": "ae"},
    "de": {"3": "ah", "a#": "ah"},
    "pl": {"y": "ih", "a#": "aa", "o": "ao"},
    "pt": {"y": "ih"},
    "nl": {"Q": "x"},
}

# Names of English phones in Festival, Flite and pocketsphinx that differ from the classes here.
_ARPABET = {
    "pau": "sil", "h#": "sil", "brth": "sil", "#": "sil", "ssil": "sil", "sil": "sil", "+spn+": "sil", "+nsn+": "sil",
    "hh": "h", "hv": "h", "y": "j", "dx": "d", "nx": "n", "axr": "er", "el": "l", "em": "m", "en": "n", "ix": "ih",
}  # fmt: skip


def arpabet_class(phone: str) -> str:
    """Maps an English phone of ARPAbet, in any case, to a name of PHONEME_CLASSES; an unknown one is the neutral
    vowel."""
    name = phone.lower()
    name = _ARPABET.get(name, name)
    return name if name in PHONEME_IDS else "ax"


def phoneme_class(symbol: str, language: str = "") -> str:
    """Maps eSpeak's mnemonic (stress marks removed) to a name of PHONEME_CLASSES; language: ISO 639-1 code of the
    voice.

    A mnemonic outside the table is matched by its longest known beginning, and is the neutral vowel if it has none.
    """
    if symbol.startswith("_") or not symbol:
        return "sil"
    special = _CLASS_IN_LANGUAGE.get(language, {})
    for length in range(len(symbol), 0, -1):
        name = special.get(symbol[:length]) or _CLASS_OF.get(symbol[:length])
        if name:
            return name
    return "ax"

"""Speech of the built-in corpus: eSpeak NG through ctypes, with the time of every phoneme.

eSpeak NG comes with the optional package `espeakng_loader`; it is needed to make the corpus, never to generate a
video.
"""

import contextlib
import ctypes
import os
import threading
from typing import NamedTuple

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.speech.acoustics import block_rms
from vasa_jax.corpus.speech.phonemes import VOICED_STOPS, VOICELESS_STOPS, phoneme_class
from vasa_jax.errors import InputError


class Voice(NamedTuple):
    """A speaker: language of its sentences, corpus split, and its natural pitch setting (0 to 100)."""

    language: str
    split: str
    pitch: int = 50


def _voices():
    train = {
        "en": "en-us en-us+f3 en-us+m3 en-us+klatt2 en-us+Andy en-us+f1 en-us+m7 en-us+Annie en-us-nyc+m1 en en+f2"
        " en+m4 en+klatt en-gb-x-rp+f4 en-gb-scotland+m2 en-029+f5 en-us+max en+linda",
        "de": "de+f2 de+m3 de+klatt4",
        "fr": "fr+f4 fr+m1 fr-be+klatt3",
        "es": "es+m6 es+f1 es-419+f3",
        "it": "it+m2 it+f5",
        "pt": "pt-br+f2 pt+m5",
        "nl": "nl+m1 nl+f3",
        "pl": "pl+f4 pl+m7",
    }
    heldout = {
        "en": "en-us+m8 en-us+steph en+robert en-gb-x-gbclan+belinda",
        "de": "de+f5",
        "fr": "fr+m4",
        "es": "es+pablo",
    }
    return {
        name: Voice(language, split)
        for split, table in (("train", train), ("heldout", heldout))
        for language, names in table.items()
        for name in names.split()
    }


VOICES = _voices()


class Phoneme(NamedTuple):
    """A stretch of speech: seconds, a name of PHONEME_CLASSES ('sil' = pause), lexical stress, and for stops the end
    of the closure (otherwise `end`)."""

    start: float
    end: float
    symbol: str
    stressed: bool
    release: float


class Speech(NamedTuple):
    """samples f32 [N] at 16 kHz, and phonemes in time order without gaps."""

    samples: np.ndarray
    phonemes: tuple[Phoneme, ...]


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _EventId),
    ]  # fmt: skip


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
# Constants of speak_lib.h. Synchronous output synthesises in the calling thread: the library then has no thread of its
# own that could outlive it when it is unloaded.
_AUDIO_OUTPUT_SYNCHRONOUS, _PHONEME_EVENTS, _DONT_EXIT, _UTF8 = 2, 1, 0x8000, 1
_END_OF_LIST, _PHONEME = 0, 7
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
LOCK = threading.Lock()  # the library is one global machine


@contextlib.contextmanager
def open_espeak():
    """Yields the freshly loaded library, its sample rate and its data folder; callers hold LOCK.

    It keeps state between utterances (noise, flutter, rounding) that no call resets. Loading it anew costs a
    millisecond and makes an utterance a pure function of its arguments. InputError where it is not installed.
    """
    import _ctypes

    try:
        import espeakng_loader
    except ImportError:
        raise InputError(
            "espeakng_loader: not installed; run `pip install espeakng-loader` (eSpeak NG, GPL-3.0), "
            "or take the shipped sentences: --config.corpus.speech=shipped (synthesize: --config.synthesis.speech="
            "shipped)"
        ) from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path()
    sample_rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data.encode(), _PHONEME_EVENTS | _DONT_EXIT)
    if sample_rate <= 0:
        raise InputError(f"{data}: eSpeak NG cannot read it; run `pip install --force-reinstall espeakng-loader`")
    try:
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        yield library, sample_rate, data
    finally:
        library.espeak_Terminate()
        getattr(_ctypes, "dlclose", getattr(_ctypes, "FreeLibrary", None))(library._handle)


def speak(text: str, voice: str = "en-us", rate: int = 160, pitch: int = 50, pitch_range: int = 50) -> Speech:
    """Speaks a text; the same arguments always give the same samples.

    voice: eSpeak's name, '<language>' or '<language>+<variant>'. rate: words per minute, 80 to 450. pitch and
    pitch_range: 0 to 100.

    Raises InputError when espeakng_loader is missing, the voice is unknown, or the text holds nothing to say.
    """
    from scipy.signal import resample_poly  # its import takes half a second

    with LOCK, open_espeak() as (library, sample_rate, data):
        set_voice(library, voice, data)
        for parameter, value in ((_RATE, rate), (_VOLUME, 90), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, int(value), 0)
        chunks, marks = [], []

        def collect(wave, count, events):
            if wave and count > 0:
                chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
            index = 0
            while events[index].type != _END_OF_LIST:
                if events[index].type == _PHONEME:
                    name = events[index].id.string.decode("utf-8", "ignore")
                    marks.append((events[index].audio_position / 1000.0, name))
                index += 1
            return 0

        callback = _CALLBACK(collect)  # held until synthesis ends: ctypes does not keep it alive
        library.espeak_SetSynthCallback(callback)
        encoded = text.encode("utf-8")
        size, zero = ctypes.c_size_t(len(encoded) + 1), ctypes.c_uint(0)
        library.espeak_Synth(encoded, size, zero, 1, zero, ctypes.c_uint(_UTF8), None, None)
    if not chunks or all(name.startswith("_") for _, name in marks):
        raise InputError(f"text {text!r}: holds nothing to say; give words of the voice's language")
    samples = resample_poly(np.concatenate(chunks).astype(np.float32) / 32768.0, SAMPLE_RATE // 50, sample_rate // 50)
    samples = samples.astype(np.float32)
    return Speech(samples, _segments(marks, samples, voice[:2]))


def set_voice(library: ctypes.CDLL, voice: str, data: str) -> None:
    """Chooses eSpeak's voice; InputError for one that it does not know."""
    variant = voice.partition("+")[2]
    # eSpeak ignores an unknown variant and answers an unknown voice by keeping the last one.
    known = "+" not in voice or (variant != "" and os.path.isfile(os.path.join(data, "voices", "!v", variant)))
    if not known or library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise InputError(f"voice {voice!r}: unknown to eSpeak NG; see vasa_jax.corpus.speech.espeak.VOICES for names")


def _segments(marks, samples, language):
    """Phoneme marks -> phonemes without gaps. eSpeak marks most stops at the burst: the silent closure before it is
    found in the sound. A voiced stop after a voiced sound has no silence: eSpeak marks its murmur, and the lips part
    late in it."""
    total = len(samples) / SAMPLE_RATE
    loud = _relative_level(samples)
    starts = [time for time, _ in marks] + [total]
    parts = [[0.0, starts[0], "sil", False, starts[0]]] if starts[0] > 0 else []
    for index, (start, mnemonic) in enumerate(marks):
        end = min(starts[index + 1], total)
        if end - start < 1e-3:
            continue
        name = phoneme_class(mnemonic.lstrip("',%="), language)
        release = end
        if name in VOICELESS_STOPS or name in VOICED_STOPS:
            burst = start
            earliest = max(start - 0.1, 0.5 * (parts[-1][0] + parts[-1][1])) if parts else start
            start = _quiet_since(loud, start, earliest)
            voiced_closure = name in VOICED_STOPS and burst - start < 0.015
            release = burst + (0.75 * (end - burst) if voiced_closure else 0.0)
            if parts:
                parts[-1][1] = start
                parts[-1][4] = min(parts[-1][4], start)
        # A gap too short to be heard as a pause, or a second mark of one pause, belongs to what came before it.
        if name == "sil" and parts and (end - start < 0.06 or parts[-1][2] == "sil"):
            parts[-1][1] = end
            if parts[-1][2] == "sil":
                parts[-1][4] = end
            continue
        parts.append([start, end, name, mnemonic.startswith("'"), release])
    return tuple(Phoneme(*part) for part in parts)


_STEP = 0.004  # seconds per value of the level used to find closures


def _relative_level(samples):
    hop = int(_STEP * SAMPLE_RATE)
    padded = np.pad(samples, (0, -len(samples) % hop))
    return block_rms(padded, hop) / (np.sqrt((padded.reshape(-1, hop) ** 2).mean()) + 1e-9)


def _quiet_since(loud, time, limit, threshold=0.12):
    index = min(int(time / _STEP), len(loud)) - 1
    while index > 0 and index * _STEP > limit and loud[index] < threshold:
        index -= 1
    return min(time, (index + 1) * _STEP)


def trim(speech: Speech) -> Speech:
    """Cuts the silence at both ends, and what was said before and after."""
    spoken = [phoneme for phoneme in speech.phonemes if phoneme.symbol != "sil"]
    if not spoken:
        return speech
    first, last = spoken[0].start, spoken[-1].end
    inside = [shifted(phoneme, -first) for phoneme in speech.phonemes if phoneme.start >= first and phoneme.end <= last]
    return Speech(speech.samples[int(first * SAMPLE_RATE) : int(np.ceil(last * SAMPLE_RATE))], tuple(inside))


def shifted(phoneme: Phoneme, seconds: float) -> Phoneme:
    """Returns the phoneme later by `seconds`."""
    start, end, release = phoneme.start + seconds, phoneme.end + seconds, phoneme.release + seconds
    return phoneme._replace(start=start, end=end, release=release)


def demo_speech() -> Speech:
    """Synthesises the friendly sentence of about six seconds that ships with the package as demo speech."""
    text = "Hello there! I am a picture that learned to speak. It is a pleasure to meet you, so let us talk a bit."
    return speak(text, voice="en-us+f3", rate=155, pitch=55, pitch_range=60)

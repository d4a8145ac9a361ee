"""The voices in which texts are spoken, with programs and packages that stand for the real ones."""

import os
import sys
import types

import numpy as np
import pytest
from sounds import wav

from vasa_jax.corpus.speech.espeak import Speech
from vasa_jax.corpus.voices.synthesiser import Speaker
from vasa_jax.errors import InputError
from vasa_jax.serving import voices as module
from vasa_jax.serving.voices import Voices, sentences


def test_the_voices_of_installed_programs_are_offered(tmp_path, monkeypatch):
    """A program on the path, here one that answers as flite does, speaks; what is not there is named in one line."""
    quiet = tmp_path / "quiet.wav"
    quiet.write_bytes(wav(0.5))
    program = tmp_path / "flite"
    answer = f'cp {quiet} "$2"; echo "pau:0.1 hh:0.3 pau:0.5"'
    program.write_text(f'#!/bin/sh\nwhile [ "$1" != "-o" ]; do shift; done\n{answer}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    voices = Voices()
    assert "flite:slt" in voices.names and voices.say("hello", "flite:slt").shape == (8000,)
    with pytest.raises(InputError, match="text: is empty"):
        voices.say(" ", "flite:slt")
    with pytest.raises(InputError, match="voice: flite:nobody is not installed here; choose one of"):
        voices.say("hello", "flite:nobody")
    monkeypatch.setenv("PATH", "")
    assert not [name for name in Voices().names if ":" in name]


def test_pico_is_offered_where_its_package_is(monkeypatch):
    """It says what no aligner knows, in its own speed; nothing to say is one line."""

    class Engine:
        def speak(self, text, voice, speed, pitch):
            assert (voice, speed, pitch) == ("en-GB", 1.0, 1.0)
            return np.full(1600 * text.count("a"), 16384, np.int16).tobytes()

    monkeypatch.setitem(sys.modules, "py_nanotts", types.SimpleNamespace(NanoTTS=Engine))
    voices = Voices()
    assert [name for name in voices.names if name.startswith("pico")] == ["pico:en-US", "pico:en-GB"]
    np.testing.assert_array_equal(voices.say("vasa 2", "pico:en-GB"), np.full(3200, 0.5, np.float32))
    with pytest.raises(InputError, match="text: holds nothing to say; write words"):
        voices.say("...", "pico:en-GB")
    monkeypatch.setitem(sys.modules, "py_nanotts", None)
    assert not [name for name in Voices().names if name.startswith("pico")]


def test_kokoro_is_loaded_when_it_first_speaks_sentence_by_sentence(monkeypatch):
    made, said = [], []

    class Kokoro:
        speakers = (Speaker("mixture", "en", "train"), Speaker("mixture", "es", "train"), Speaker("x", "en", "heldout"))

        def __init__(self, settings):
            made.append(settings)

        def cast(self, speaker, rng):
            said.append(speaker)
            return lambda text: Speech(np.full(len(text), 0.1, np.float32), ())

    found = {name: object() for name in module.NEEDED}
    monkeypatch.setattr("importlib.util.find_spec", found.get)
    monkeypatch.setattr(module, "Kokoro", Kokoro)
    voices = Voices()
    assert "kokoro:es" in voices.names and not made
    assert len(voices.say("Uno. Dos!", "kokoro:es")) == 8 + round(module.PAUSE * 16_000)
    voices.say("Tres", "kokoro:es")
    assert len(made) == 1 and said == [Kokoro.speakers[1]]
    del found["onnxruntime"]
    assert not [name for name in Voices().names if name.startswith("kokoro")]


def test_sentences():
    assert sentences(" One 1.5 two. Three! ... Four") == ["One 1.5 two.", "Three! ...", "Four"]

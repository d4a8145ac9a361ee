"""The pitch of a voice: of tones whose pitch is known, of noise, of silence and of speech."""

import numpy as np
import pytest

from vasa_jax.data.audio_files import read_audio
from vasa_jax.generation.job import DEMO
from vasa_jax.preparation.prosody import prosody


def voice(pitch, seconds=2.0):
    """A buzz of ten harmonics, whose pitch in Hz is a function of the time in seconds."""
    t = np.arange(round(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * np.cumsum(pitch(t) + 0 * t) / 16_000
    return (0.05 * sum(np.sin(k * phase) for k in range(1, 11))).astype(np.float32)


@pytest.mark.parametrize("hertz", [90.0, 220.0, 400.0])
def test_a_steady_voice(hertz):
    found = prosody(voice(lambda t: hertz))
    assert found["voice Hz"] == pytest.approx(hertz, rel=0.01)
    assert found["voice semitones"] < 0.2 and found["voiced share"] > 0.9


def test_a_lively_voice():
    """Three semitones up and down: a sine's deviation is its height over the square root of two."""
    found = prosody(voice(lambda t: 200.0 * 2.0 ** (3.0 * np.sin(np.pi * t / 2.0) / 12.0), seconds=4.0))
    assert found["voice Hz"] == pytest.approx(200.0, rel=0.03)
    assert found["voice semitones"] == pytest.approx(3.0 / np.sqrt(2.0), abs=0.2)


@pytest.mark.parametrize("samples", [np.zeros(32_000, np.float32), np.zeros(100, np.float32)])
def test_what_has_no_voice_has_no_pitch(samples):
    assert prosody(samples) == {"voiced share": 0.0}


def test_noise_has_no_voice():
    noise = (0.1 * np.random.default_rng(0).normal(size=32_000)).astype(np.float32)
    assert prosody(noise)["voiced share"] < 0.05


def test_the_shipped_speech():
    found = prosody(read_audio(DEMO["audio"]).samples)
    assert 60 < found["voice Hz"] < 300 and 1 < found["voice semitones"] < 8 and 0.2 < found["voiced share"] < 1

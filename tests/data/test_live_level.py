"""What is said of the level of live sound: of its latest 30 s, however it is cut."""

import numpy as np
import pytest

from vasa_jax.data.speech_level import FRAME, LATEST, USUAL, LiveLevel, settle, speech_level


def speech(level, seconds=8.0, mean=0.0):
    """Noise in words of half a second, at a level in dB of full scale."""
    count = int(16_000 * seconds)
    sound = np.random.default_rng(0).standard_normal(count) * (np.arange(count) // 8000 % 2)
    return (sound * 10 ** (level / 20) + mean).astype(np.float32)


def notes(sound, *cuts):
    live = LiveLevel()
    for piece in np.split(sound, sorted(cuts)):
        live.feed(piece)
    return live.notes()


@pytest.mark.parametrize(("level", "word"), [(-45, "quiet"), (-3, "loud")])
def test_the_factor_brings_the_sound_to_the_usual_level(level, word):
    sound = speech(level)
    (text,) = notes(sound)
    factor = float(text.partition("multiply it by ")[2].split()[0])
    assert word in text and speech_level(sound * factor) == pytest.approx(USUAL, abs=0.05)
    assert notes(sound * factor) == ()


def test_a_constant_is_told_as_it_is_taken_from_a_file():
    sound = speech(-20, mean=0.1)
    (text,) = notes(sound)
    mean = float(text.partition("a constant of ")[2].split()[0])
    assert mean == pytest.approx(sound.mean(), rel=0.01)
    (heard,) = settle(sound.copy())
    assert f"a constant of {mean:.3g} " in heard


def test_cuts_change_nothing_and_old_sound_is_forgotten():
    sound = speech(-45, 40.0)
    cuts = np.random.default_rng(1).integers(0, len(sound), 300)
    assert notes(sound, *cuts) == notes(sound) == notes(sound[-LATEST * FRAME :])
    assert notes(np.concatenate([speech(-45), speech(-20, 30.0)])) == ()


def test_silence_and_the_first_seconds_say_nothing():
    assert notes(np.zeros(160_000, np.float32)) == notes(speech(-45, 4.9)) == notes(np.zeros(0, np.float32)) == ()


def test_no_sample_leaves_full_scale_when_a_constant_is_taken_away():
    sound = np.clip(speech(-20, mean=-0.4), -1.0, 1.0)
    sound[1000] = 1.0
    assert settle(sound) and np.abs(sound).max() <= 1.0

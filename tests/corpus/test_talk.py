"""Minutes of speech with pauses: what is silent, who performs, and that it is the same again."""

import numpy as np
import pytest

from vasa_jax.corpus.speech.espeak import Phoneme
from vasa_jax.corpus.talk import PAUSE, quiet_frames, sample_talk
from vasa_jax.errors import InputError


@pytest.fixture(scope="module")
def talk():
    return sample_talk(0, 60.0, "shipped")


def test_length_pauses_and_lips(talk):
    assert len(talk.samples) == 60 * 16_000
    assert {len(track) for track in talk.motion.values()} == {len(talk.quiet)} == {1500}
    sound = np.abs(talk.samples.reshape(1500, 640)).max(1)
    assert sound[talk.quiet].max() == 0.0
    assert talk.motion["jaw"][talk.quiet].max() < 1e-3
    assert talk.motion["jaw"][sound > 0.02].mean() > 0.1
    assert 0.15 < talk.quiet.mean() < 0.5
    assert np.abs(talk.samples).max() < 1.0
    # Every stretch but the first has a long pause before it; the last may be the silence that is left over.
    for start in talk.starts[1:-1]:
        assert talk.quiet[start : start + 50].any()


def test_every_stretch_is_a_performance_of_its_own_about_one_place(talk):
    assert talk.starts[0] == 0 and len(talk.starts) > 4
    lengths = np.diff([*talk.starts, 1500])
    assert lengths.max() <= 25 * (PAUSE[1] + 8.0 + 0.1)
    means = [talk.motion["dist"][a:b].mean() for a, b in zip(talk.starts, [*talk.starts[1:], 1500])]
    assert np.std(means) < 0.1  # posture that wandered on for the whole minute would leave the picture
    assert np.abs(talk.motion["yaw"]).max() < 1.0


def test_a_talk_is_a_function_of_its_seed(talk):
    again, other = sample_talk(0, 60.0, "shipped"), sample_talk(1, 60.0, "shipped")
    np.testing.assert_array_equal(again.samples, talk.samples)
    np.testing.assert_array_equal(again.motion["yaw"], talk.motion["yaw"])
    assert not np.array_equal(other.samples, talk.samples)
    with pytest.raises(InputError, match="speech 'radio'"):
        sample_talk(0, 10.0, "radio")


def test_quiet_frames_lie_inside_long_silences():
    def part(start, end, symbol):
        return Phoneme(start, end, symbol, False, end)

    phonemes = [part(0, 1, "a"), part(1, 2.5, "sil"), part(2.5, 3, "a"), part(3, 6, "sil"), part(6, 7, "a")]
    # 1.5 s are no pause; of 3 to 6 s the lips have 0.4 s to close and 0.25 s to open.
    expected = np.zeros(175, bool)
    expected[85:143] = True
    np.testing.assert_array_equal(quiet_frames(phonemes, 175), expected)

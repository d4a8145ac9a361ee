"""Phonemes named right: what counts, and its error over recordings."""

import numpy as np
import pytest

from vasa_jax.corpus.speech.phonemes import PHONEME_IDS
from vasa_jax.evaluation.phoneme_naming import counts, shares, shares_with_error


def ids(names):
    return np.array([PHONEME_IDS[name] for name in names.split()])


def test_silence_is_left_out_and_alike_phonemes_share_a_viseme():
    found = counts(ids("sil p b t sil aa"), ids("sil p p d m sil"))
    assert found == {"spoken": (1, 4), "viseme": (3, 4), "closures": (2, 3)}


def test_shares_are_over_all_frames_and_not_over_recordings():
    parts = [{"spoken": (1, 1), "closures": (0, 0)}, {"spoken": (0, 3), "closures": (0, 0)}]
    for part in parts:
        part["viseme"] = part["spoken"]
    assert shares(parts) == {"spoken": 0.25, "viseme": 0.25}


def test_the_error_is_that_of_a_mean_where_recordings_are_equally_long():
    right = [3, 5, 8, 9, 2]
    parts = [dict.fromkeys(("spoken", "viseme", "closures"), (value, 10)) for value in right]
    found = shares_with_error(parts)["spoken"]
    values = np.array(right) / 10
    assert found["mean"] == pytest.approx(values.mean())
    assert found["error"] == pytest.approx(values.std(ddof=1) / np.sqrt(5))


def test_one_recording_has_no_error():
    assert shares_with_error([counts(ids("p"), ids("p"))])["spoken"] == {"mean": 1.0}

"""Blinks of a given rate: statistics, and the same frames however they are asked for."""

import numpy as np
import pytest

from vasa_jax.evaluation.metrics import blinks
from vasa_jax.generation.schedule import Blinking


def count(closure):
    return len(blinks(np.repeat(1.0 - closure[:, None], 2, 1)))


@pytest.mark.parametrize("rate", [6.0, 15.0, 30.0])
def test_the_rate_is_kept_and_intervals_vary(rate):
    minutes, blinking = 200, Blinking(np.array([rate]), seed=3)
    closure = np.concatenate([blinking.closure(1500 * minute, 1500) for minute in range(minutes)])
    assert closure.min() == 0.0 and closure.max() == 1.0
    assert count(closure) / minutes == pytest.approx(rate, rel=0.06)
    shut = np.flatnonzero((closure[1:] > 0.5) & (closure[:-1] <= 0.5))
    intervals = np.diff(shut) / 25.0
    assert 0.4 < intervals.std() / intervals.mean() < 0.6  # of the gamma of shape 2, beyond the refractory time
    assert intervals.min() > 0.25 * 60 / rate


def test_short_videos_have_the_rate_too():
    seeds, seconds = 3000, 4
    counts = [count(Blinking(np.array([15.0]), seed).closure(0, 25 * seconds)) for seed in range(seeds)]
    # One blink expected; a video's edges show a little of a blink whose middle is outside.
    assert np.mean(counts) == pytest.approx(1.0, abs=0.05)


def test_frames_do_not_depend_on_how_they_are_asked_for():
    track = np.r_[np.full(300, 40.0), np.zeros(400), np.full(100, 10.0), np.full(200, 25.0)]
    whole = Blinking(track, 0).closure(0, 3000)
    other = Blinking(track, 0)
    for first in (2900, 0, 700, 1234, 2):
        np.testing.assert_array_equal(other.closure(first, 100), whole[first : first + 100])
    assert count(whole[20:300]) > 3 and count(whole[1000:]) > 20
    assert not whole[312:700].any()
    assert np.abs(Blinking(track, 1).closure(0, 3000) - whole).max() == 1.0


def test_nobody_blinks_at_rate_zero():
    assert not Blinking(np.zeros(1), 0).closure(0, 5000).any()
    assert not Blinking(np.array([60.0, 0.0]), 4).closure(20, 5000).any()

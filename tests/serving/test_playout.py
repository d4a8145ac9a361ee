"""The buffer of a WebRTC player: reserve, lateness, interruption, catching up; without a model, a clock or a line."""

import numpy as np
import pytest

from vasa_jax.serving.fragments import PER_FRAME, RATE
from vasa_jax.serving.players import Hop
from vasa_jax.serving.playout import BLOCK, ENOUGH, QUIET, START, Playout

AHEAD = 2


class Source:
    """Makes hops whose pictures and sound say which frame they belong to."""

    def __init__(self):
        self.frame, self.sample = 0, 0

    def hop(self, frames=5, stays=1, speaks=True, interruptions=0, portraits=0, skipped=False):
        upto = (self.frame + frames + AHEAD) * PER_FRAME
        shown = [min(stays, frames - index) for index in range(0, frames, stays)]
        pictures = [np.full((2, 2, 3), self.frame + index, np.uint8) for index in range(0, frames, stays)]
        sound = (np.arange(self.sample, upto) // PER_FRAME).astype(np.float32)
        made = Hop(self.frame, pictures, shown, self.sample, sound, speaks, interruptions, portraits, {}, skipped)
        self.frame, self.sample = self.frame + frames, upto
        return made


def played(playout, count):
    """(sound's first sample, picture) of `count` blocks."""
    blocks = [playout.next() for _ in range(count)]
    return [(float(sound[0]), None if picture is None else int(picture[0, 0, 0])) for sound, picture in blocks]


def test_a_reserve_first_and_then_picture_and_sound_of_one_frame():
    playout, source = Playout(), Source()
    assert played(playout, 2) == [(0, None)] * 2
    reserve = round(START * 5 * PER_FRAME / BLOCK)
    assert playout.put(source.hop()) == pytest.approx(5 / 25 + reserve * BLOCK / RATE)
    assert played(playout, reserve) == [(0, None)] * reserve
    playout.put(source.hop(stays=3))
    blocks = played(playout, 20)
    assert [sound for sound, _ in blocks] == [index // 2 for index in range(20)]
    assert [picture for _, picture in blocks] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, *[5] * 6, *[8] * 4]


def test_a_late_hop_is_waited_for_with_the_picture_and_in_silence():
    playout, source = Playout(), Source()
    playout.put(source.hop())
    played(playout, 12)
    assert playout.stalls == 1 and played(playout, 3) == [(0, 4)] * 3
    playout.put(source.hop())
    blocks = played(playout, 8)
    reserve = round(START * 5 * PER_FRAME / BLOCK)
    assert blocks == [(0, 4)] * reserve + [(5 + index // 2, 5 + index // 2) for index in range(8 - reserve)]


@pytest.mark.parametrize("late", [12, 4])
def test_what_the_session_skips_is_not_played(late):
    """Whether the picture stood still already or a reserve is left: it goes on with the first hop after that."""
    playout, source = Playout(), Source()
    playout.put(source.hop())
    played(playout, late)
    assert playout.put(source.hop(50, 50, skipped=True)) == 0.0
    playout.put(source.hop())
    reserve = round(START * 5 * PER_FRAME / BLOCK)
    assert playout.stalls == 1 and played(playout, reserve + 10)[-1] == (59, 59)


def test_an_interruption_is_silent_and_closed_with_the_next_block():
    playout, source = Playout(), Source()
    for _ in range(6):
        playout.put(source.hop(speaks=False))
    played(playout, 57)
    rest = played(playout, 1)[0][1]
    playout.put(source.hop())
    playout.put(source.hop())
    assert played(playout, 10)[-1][1] > rest and (rest + 1) / 25 > QUIET
    playout.interrupt(1)
    shown = played(playout, 3)
    assert {sound for sound, _ in shown} == {0} and len({picture for _, picture in shown}) == 1
    assert QUIET * 25 <= shown[0][1] < 30  # a picture of the silence
    assert playout.put(source.hop()) == 0  # was begun before
    assert played(playout, 5) == shown[:1] * 5
    playout.put(source.hop(speaks=False, interruptions=1))
    assert played(playout, 12)[-1][1] >= 45


def test_the_rest_of_another_portrait_is_not_shown():
    playout, source = Playout(), Source()
    for _ in range(6):
        playout.put(source.hop(speaks=False))
    played(playout, 50)
    playout.put(source.hop(portraits=1))
    now = played(playout, 14)[-1]
    playout.interrupt(1)
    assert played(playout, 1) == [(0, now[1])]


@pytest.mark.parametrize(("speaks", "waits"), [(False, 3), (True, 3), (True, 6)])
def test_what_waits_too_long_is_skipped(speaks, waits):
    """Idle moments soon, speech only where far too much waits; picture and sound skip alike."""
    playout, source = Playout(), Source()
    for _ in range(waits):
        playout.put(source.hop(speaks=speaks))
    played(playout, 3)
    delays = []
    for _ in range(20):
        delays.append(playout.put(source.hop(speaks=speaks)))
        blocks = played(playout, 10)
    assert all(sound == picture for sound, picture in blocks)
    assert (delays[-1] < delays[0] - 0.1) == (not speaks or waits == 6)
    assert delays[-1] > ENOUGH / 2 and playout.stalls == 0

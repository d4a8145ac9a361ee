"""The pace of a live session and its clock, without a model and without waiting: machines that are slow for a while."""

import dataclasses

import numpy as np
import pytest

from vasa_jax.conventions import FPS
from vasa_jax.serving.pace import FULL, HOPS, MOST_BEHIND, PATIENCE, Clock, Pace, Point, halvings


def test_points():
    assert (Point(10, 3).drawn, Point(10, 1).drawn, Point(5, 5).drawn) == (4, 10, 1)
    assert Point(10, 2).rate == 12.5 and Point(10, 2).seconds == 0.4
    assert (halvings(4, 2), halvings(10, 2), halvings(1, 2)) == ((4, 2), (10, 5, 2), (1,))


@pytest.mark.parametrize(
    ("motion", "frame", "point"),
    [
        ((0.005,), 0.003, Point(5, 1)),  # an accelerator
        ((0.04,), 0.040, Point(5, 2)),  # two quiet cores: (0.04 + 3 x 0.04) / 0.2 = 0.8
        ((0.08,), 0.038, Point(5, 3)),
        ((0.09,), 0.140, Point(25, 5)),  # two crowded ones
        ((0.9, 0.5), 0.02, Point(25, 2, 1)),  # motion is what costs
    ],
)
def test_the_best_point_that_the_machine_bears(motion, frame, point):
    pace = Pace(motion, frame)
    assert pace.load(pace.point) <= FULL + 1e-9 and pace.point == point


def test_a_hopeless_machine_gets_the_cheapest():
    assert Pace((10.0, 8.0), 10.0).point == Point(25, 25, 1)


def test_worse_at_once_and_better_after_a_while():
    pace = Pace((0.005,), 0.003)
    while pace.point == Point(5, 1):
        pace.measured(0.1, 0.05, behind=0.1)
    slow = pace.point
    assert slow.penalty > Point(5, 1).penalty
    calm = 0.0
    while pace.point == slow:
        calm += slow.seconds
        assert calm < PATIENCE + 12
        pace.measured(0.005, 0.003, behind=0.0)
    assert calm >= PATIENCE and pace.point.penalty < slow.penalty


def test_late_without_a_reason_is_still_answered():
    pace = Pace((0.005,), 0.003)
    assert pace.measured(0.005, 0.003, behind=0.1) and pace.load(pace.point) < pace.load(Point(5, 1))


def test_frames_give_way_where_a_window_took_long():
    """Motion is kept; what is drawn of it is what there is time for, and one frame at the least."""
    pace = Pace((0.1,), 0.1)
    assert pace.point == Point(10, 5)
    assert pace.fitting(0.1, 0.0) == pace.point
    assert pace.fitting(0.25, 0.0) == Point(10, 10) == pace.fitting(9.0, 3.0)
    coarse = Pace((0.9, 0.3), 0.03)
    kept = dataclasses.replace(coarse.point, stays=coarse.point.hop)
    assert coarse.point.halved == 1 and coarse.fitting(9.0, 0.0) == kept


def test_a_clock_counts_what_is_missing_and_skips_what_is_too_much():
    clock = Clock()
    assert clock.wait(10.0) == 0.0
    clock.made(0.4)
    assert clock.wait(10.1) == pytest.approx(0.3) and clock.behind(10.1) == 0.0
    assert clock.behind(10.9) == pytest.approx(0.5) and clock.skip(10.9) == 0
    assert clock.skip(10.4 + 2.03) == 50  # whole frames: what is left is caught up
    assert clock.behind(10.4 + 2.03) == pytest.approx(0.03)
    clock.rest()
    assert clock.wait(99.0) == 0.0 and clock.behind(99.0) == 0.0


class Machine:
    """Costs of a window with all steps and with half of them, and of a frame, times `slowness(second)` and a jitter."""

    def __init__(self, motion, frame, slowness, seed=0):
        self.motion, self.frame, self.slowness = motion, frame, slowness
        self.rng = np.random.default_rng(seed)

    def took(self, cost, now):
        return cost * self.slowness(now) * self.rng.uniform(0.9, 1.15)

    def play(self, seconds, pace=None):
        """Makes hops as a session does; returns rows of (second, behind the clock, point, skipped)."""
        pace, clock, now, frames, rows = pace or Pace(self.motion, self.frame), Clock(), 0.0, 0, []
        while now < seconds:
            now += clock.wait(now)
            skipped = clock.skip(now)
            start, late = now, clock.behind(now)
            motion = self.took(self.motion[pace.point.halved], now)
            point = pace.fitting(motion, late)
            now += motion
            drawn = sum(self.took(self.frame, now) for _ in range(point.drawn))
            now += drawn
            clock.made(point.seconds)
            frames += point.hop + skipped
            assert frames / FPS == pytest.approx(start - late + point.seconds)  # media time is the clock's
            rows.append((now, clock.behind(now), point, skipped / FPS))
            pace.measured(motion, drawn / point.drawn, clock.behind(now))
        return rows


def share_late(rows):
    return np.mean([behind > 0 for _, behind, _, _ in rows])


DEAR_FRAMES, DEAR_MOTION = ((0.09, 0.06), 0.10), ((0.30, 0.18), 0.02)


@pytest.mark.parametrize("costs", [DEAR_FRAMES, DEAR_MOTION])
@pytest.mark.parametrize("seed", range(3))
def test_a_machine_that_is_slow_for_a_while_is_caught_up_with(costs, seed):
    """Three times slower from second 60 to 120: a backlog of a hop at most, gone in seconds, and quality comes back."""
    machine = Machine(*costs, lambda now: 3.0 if 60 <= now < 120 else 1.0, seed)
    rows = machine.play(240)
    assert max(behind for _, behind, _, _ in rows) < MOST_BEHIND and not any(row[3] for row in rows)
    assert all(behind == 0 for now, behind, _, _ in rows if 75 < now < 118 or now > 122)
    assert share_late(rows) < 0.05
    before, during, after = (
        np.mean([point.penalty for now, _, point, _ in rows if low < now < low + 20]) for low in (40, 90, 220)
    )
    assert during > after + 2 and after < before + 0.6


@pytest.mark.parametrize("period", [2.0, 7.0, 20.0])
@pytest.mark.parametrize("costs", [DEAR_FRAMES, DEAR_MOTION])
def test_a_machine_that_oscillates_never_falls_behind(costs, period):
    rows = Machine(*costs, lambda now: 3.0 if now % (2 * period) >= period else 1.0).play(600)
    assert max(behind for _, behind, _, _ in rows) < MOST_BEHIND and not any(row[3] for row in rows)
    assert share_late(rows) < 0.05


def test_steps_are_halved_where_motion_is_what_costs():
    rows = Machine((0.10, 0.05), 0.008, lambda now: 4.0 if now < 60 else 1.0).play(150)
    assert any(point.halved for now, _, point, _ in rows if now < 60)
    assert not any(point.halved for now, _, point, _ in rows if now > 120)


def test_a_machine_that_stops_loses_that_time_alone():
    """Seconds in which nothing runs are skipped at once; a machine that cannot do it at all skips again and again."""
    rows = Machine(*DEAR_FRAMES, lambda now: 80.0 if 60 <= now < 60.5 else 1.0).play(120)
    most = max(behind for _, behind, _, _ in rows)
    assert most > 5 and sum(skipped for *_, skipped in rows) == pytest.approx(most, abs=0.05)
    assert all(behind == 0 for now, behind, _, _ in rows if now > 90)
    hopeless = Machine((2.0, 1.5), 0.5, lambda now: 1.0).play(120)
    assert max(behind for _, behind, _, _ in hopeless) < MOST_BEHIND + 2.5 * 1.15
    assert {point for _, _, point, _ in hopeless} == {Point(HOPS[-1], HOPS[-1], 1)}


@pytest.mark.parametrize("costs", [DEAR_FRAMES, DEAR_MOTION])
def test_a_pace_that_begins_too_low_is_soon_right(costs):
    """As where a video was made while the machine was measured; the next session then begins where this one ended."""
    (motion, frame), machine = costs, Machine(*costs, lambda now: 1.0)
    right, low = Pace(motion, frame), Pace(tuple(8 * cost for cost in motion), 8 * frame)
    assert low.point.penalty > right.point.penalty + 4
    rows = machine.play(12, low)
    assert np.mean([point.penalty for now, _, point, _ in rows if now > 8]) < right.point.penalty + 1.5
    assert share_late(rows) < 0.05
    following = Pace(*low.costs)
    assert following.point.penalty < right.point.penalty + 0.5


def test_costs_follow_what_is_measured():
    pace = Pace((0.2, 0.1), 0.1)
    assert pace.costs == ((0.2, 0.1), 0.1)
    share = 0.25 if pace.point.halved == 0 else 0.5  # of a window that took 50 ms
    pace.measured(0.05, 0.02, behind=0.0)
    assert np.allclose([*pace.costs[0], pace.costs[1]], [0.2 * share, 0.1 * share, 0.02])

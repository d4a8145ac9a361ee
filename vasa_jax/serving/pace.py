"""How a live session keeps up: what is made at once, how fine, and how much is drawn, by what it costs here and now.

Motion comes at 25 frames per second whatever happens, so lips never run late. Where the machine cannot draw as many,
each drawn frame stays longer. A longer hop makes motion cheaper, because a window costs about the same for any hop, and
adds to the latency. Where motion itself costs too much, its solver takes half the steps.

What the choice begins with was measured at another time, when the machine may have been busy. So the first hops of a
session replace it where they cost less, and what a session has learnt serves the next.

A session that is behind the clock makes its hops one after the other until it is up again, and plans them for less
time. Where it is further behind than MOST_BEHIND, that time is skipped.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from vasa_jax.conventions import FPS

HOPS = (5, 10, 25)  # frames; each divides the history that a stream hears
STAYS = (1, 2, 3, 4, 5, 8, 13, 25)  # frames for which a drawn one stays
FULL, CALM = 0.8, 0.7  # of the time: what may be used, and up to where a better point is tried
PATIENCE, MOST_PATIENCE = 3.0, 12.0  # seconds of calm before that, and where better points did not last
SLOWER, FASTER = 0.5, 0.2  # weights of the latest measurement: a cost that grows counts at once; FASTER is the least
CATCH_UP = 5.0  # seconds in which a session that is behind is to be up again
MOST_BEHIND = 1.5  # seconds; what is more is skipped
LATENCY_WEIGHT = 2.0  # per second of a hop
CHOPPINESS_WEIGHT = 0.25  # per frame that a drawn one stays longer
COARSENESS_WEIGHT = 0.5  # per halving of the solver's steps


@dataclass(frozen=True)
class Point:
    """An operating point.

    hop: frames of motion made at once; stays: frames for which each drawn one is shown; halved: how often the solver's
    steps are halved.
    """

    hop: int
    stays: int
    halved: int = 0

    @property
    def drawn(self) -> int:
        """Frames that are drawn of each hop."""
        return math.ceil(self.hop / self.stays)

    @property
    def seconds(self) -> float:
        """Time that a hop lasts."""
        return self.hop / FPS

    @property
    def rate(self) -> float:
        """Frames drawn per second."""
        return self.drawn / self.seconds

    @property
    def penalty(self) -> float:
        """How little it is liked."""
        choppiness = CHOPPINESS_WEIGHT * (self.stays - 1)
        return LATENCY_WEIGHT * self.seconds + choppiness + COARSENESS_WEIGHT * self.halved


def halvings(steps: int, least: int) -> tuple[int, ...]:
    """Returns numbers of a solver's steps: `steps`, half of them and so on, down to `least`."""
    found = [steps]
    while found[-1] > least:
        found.append(max(found[-1] // 2, least))
    return tuple(found)


class Pace:
    """The choice of a point, from measured seconds per window of motion and per drawn frame.

    Attributes:
      point: the one in use.
    """

    def __init__(self, motion: Sequence[float], frame: float, hops: tuple[int, ...] = HOPS):
        """Takes seconds of a window, with all steps and each halving, and of a drawn frame; and the possible hops."""
        self._motion, self._frame = tuple(motion), frame
        self._slowness = 1.0  # of windows, over `motion`
        self._points = sorted(
            (
                Point(hop, stays, halved)
                for hop in hops for stays in STAYS if stays <= hop for halved in range(len(self._motion))
            ),
            key=lambda point: point.penalty,
        )  # fmt: skip
        self._behind, self._hops = 0.0, 0
        self._steady = self._calm = 0.0  # seconds since the point changed, and of calm
        self._rose, self._patience = False, PATIENCE
        self.point = self._best(FULL)

    @property
    def costs(self) -> tuple[tuple[float, ...], float]:
        """Seconds of a window, with all steps and each halving, and of a drawn frame, as they are now."""
        return tuple(self._slowness * motion for motion in self._motion), self._frame

    def load(self, point: Point) -> float:
        """Returns the share of its time that a hop would take."""
        return (self._slowness * self._motion[point.halved] + self._frame * point.drawn) / point.seconds

    def fitting(self, motion: float, behind: float) -> Point:
        """Returns the point in use with only as many frames as can be drawn in time, at least one.

        motion: seconds that its window took; behind: seconds by which the hop began late.
        """
        point = self.point
        left = max(point.seconds - behind, _share(behind) * point.seconds) - motion
        frame = self._frame * max(motion / (self._slowness * self._motion[point.halved]), 1.0)
        for stays in STAYS:
            fewer = dataclasses.replace(point, stays=stays)
            if point.stays <= stays < point.hop and frame * fewer.drawn <= left:
                return fewer
        return dataclasses.replace(point, stays=point.hop)

    def measured(self, motion: float, frame: float, behind: float) -> bool:
        """Takes seconds of the last window and of each of its frames; returns whether the point has changed.

        behind: seconds by which the session is behind the clock now. A worse point is taken at once. A better one is
        taken after a time of calm, half of the way to the best.
        """
        self._hops += 1
        faster = max(FASTER, 1 / self._hops)
        self._slowness = _followed(self._slowness, motion / self._motion[self.point.halved], faster)
        self._frame = _followed(self._frame, frame, faster)
        before, grows, self._behind = self.point, behind > self._behind, behind
        self._steady += before.seconds
        if behind > 0 or self.load(before) > FULL:
            self._calm = 0.0
            best = self._best(FULL * _share(behind))
            self._fall(best if best.penalty > before.penalty else self._worse() if grows else before)
            return self.point != before
        better = [p for p in self._points if p.penalty < before.penalty and self.load(p) <= CALM]
        self._calm = self._calm + before.seconds if better else 0.0
        if self._calm >= self._patience:
            self._rise(better[len(better) // 2])
        return self.point != before

    def _fall(self, point: Point) -> None:
        if point == self.point:
            return
        if self._rose:  # what did not last is tried again later
            self._patience = min(2 * self._patience, MOST_PATIENCE) if self._steady < self._patience else PATIENCE
        self.point, self._rose, self._steady = point, False, 0.0

    def _rise(self, point: Point) -> None:
        self.point, self._rose, self._steady, self._calm = point, True, 0.0, 0.0

    def _best(self, most: float) -> Point:
        able = [point for point in self._points if self.load(point) <= most]
        return able[0] if able else min(self._points, key=self.load)

    def _worse(self) -> Point:
        """The next point that costs less: what was measured does not explain why the hop was late."""
        cheaper = [point for point in self._points if self.load(point) < self.load(self.point)]
        return next((point for point in cheaper if point.penalty > self.point.penalty), self.point)


class Clock:
    """When a session's hops begin. Times are seconds of any one clock."""

    def __init__(self):
        self._begin: float | None = None  # of the next hop

    def rest(self) -> None:
        """Stops: the next hop begins whenever it is asked for."""
        self._begin = None

    def wait(self, now: float) -> float:
        """Returns the seconds until the next hop begins; starts where it has stopped."""
        if self._begin is None:
            self._begin = now
        return max(self._begin - now, 0.0)

    def behind(self, now: float) -> float:
        """Returns the seconds by which the next hop is late."""
        return max(now - self._begin, 0.0)

    def skip(self, now: float) -> int:
        """Returns frames whose time is skipped: none, or all that are missing where it is too far behind."""
        behind = self.behind(now)
        if behind <= MOST_BEHIND:
            return 0
        frames = int(behind * FPS)
        self._begin += frames / FPS
        return frames

    def made(self, seconds: float) -> None:
        """Goes on: a hop of so many seconds has been made."""
        self._begin += seconds


def _share(behind: float) -> float:
    """Returns the share of the time in which hops must be made, so that the session is up again after CATCH_UP."""
    return CATCH_UP / (CATCH_UP + behind)


def _followed(known: float, latest: float, faster: float) -> float:
    return known + (SLOWER if latest > known else faster) * (latest - known)

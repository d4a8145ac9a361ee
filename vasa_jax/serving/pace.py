"""How a live session keeps up: frames made at once, and how many of them are drawn, from what they cost here and now.

Motion comes at 25 frames per second whatever happens, so lips never run late. Where the machine cannot draw as many,
each drawn frame stays longer. A longer hop makes motion cheaper, because a window costs about the same for any hop, and
adds to the latency.
"""

import math
from dataclasses import dataclass

from vasa_jax.conventions import FPS

HOPS = (5, 10, 25)  # frames; each divides the history that a stream hears
STAYS = (1, 2, 3, 4, 5, 8, 13, 25)  # frames for which a drawn one stays
FULL, CALM = 0.8, 0.6  # of the time: what may be used, and up to where a better point is tried
PATIENCE = 3.0  # seconds of calm before that
MEMORY = 0.3  # weight of the latest measurement
LATENCY_WEIGHT, CHOPPINESS_WEIGHT = 2.0, 0.25  # per second of a hop; per frame that a drawn one stays longer


@dataclass(frozen=True)
class Point:
    """An operating point. hop: frames of motion made at once; stays: frames for which each drawn one is shown."""

    hop: int
    stays: int

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
        return LATENCY_WEIGHT * self.seconds + CHOPPINESS_WEIGHT * (self.stays - 1)


class Pace:
    """The choice of a point, from measured seconds per window of motion and per drawn frame.

    Attributes:
      point: the one in use.
    """

    def __init__(self, motion: float, frame: float, hops: tuple[int, ...] = HOPS):
        """motion, frame: seconds of a window, and of a drawn frame, as measured; hops: that the weights can make."""
        self._motion, self._frame = motion, frame
        points = [Point(hop, stays) for hop in hops for stays in STAYS if stays <= hop]
        self._points = sorted(points, key=lambda point: point.penalty)
        self._calm = 0.0
        self.point = self._best(FULL)

    def load(self, point: Point) -> float:
        """Returns the share of its time that a hop would take."""
        return (self._motion + self._frame * point.drawn) / point.seconds

    def measured(self, motion: float, frame: float, late: bool) -> bool:
        """Takes seconds of the last window and of each of its frames; returns whether the point has changed.

        late: whether the hop missed its time. A worse point is taken at once, a better one after PATIENCE.
        """
        self._motion += MEMORY * (motion - self._motion)
        self._frame += MEMORY * (frame - self._frame)
        before = self.point
        if late or self.load(before) > FULL:
            self._calm = 0.0
            best = self._best(FULL)
            self.point = best if best.penalty > before.penalty else self._worse() if late else before
            return self.point != before
        better = self._best(CALM)
        self._calm = self._calm + before.seconds if better.penalty < before.penalty else 0.0
        if self._calm >= PATIENCE:
            self._calm, self.point = 0.0, better
        return self.point != before

    def _best(self, most: float) -> Point:
        able = [point for point in self._points if self.load(point) <= most]
        return able[0] if able else min(self._points, key=self.load)

    def _worse(self) -> Point:
        """The next point that costs less: what was measured does not explain why the hop was late."""
        cheaper = [point for point in self._points if self.load(point) < self.load(self.point)]
        return next((point for point in cheaper if point.penalty > self.point.penalty), self.point)

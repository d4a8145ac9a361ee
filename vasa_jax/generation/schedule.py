"""What each window and each frame of a video is asked for: a pure function of controls, seed and frame.

The transformer hears one gaze, distance, emotion and guidance scale per window: a track gives each window its value at
the middle of the frames that the window makes. Head pose, pose amplitude and blinks act on every frame.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from vasa_jax.conventions import DISTANCE_UNIT, EMOTIONS, FPS, GAZE_UNIT, angles_of_direction, direction_of_angles
from vasa_jax.corpus.performance.blink import blink_closure, draw_blink
from vasa_jax.generation.controls import CONDITIONS, Controls, emotion_track
from vasa_jax.generation.windows import Window
from vasa_jax.settings import as_track, fields_of

FRAMES_PER_MINUTE = 60 * FPS
REACH = 12  # frames; no blink is longer
REFRACTORY = 0.3  # share of the mean interval without a blink, after a blink
NUMBERS = {name: item for name, item in fields_of(Controls).items() if item.series and item.kind is float}


class ConditionSchedule:
    """Controls as tracks. Conditions not in `trained` stay null."""

    def __init__(self, controls: Controls, trained: Sequence[str] = CONDITIONS):
        self.controls = controls.validate("controls")
        if controls.distance is None and controls.pose_anchor == "portrait":
            controls = dataclasses.replace(controls, distance=1.0)  # else a head leaps to a distance of its own
        self._tracks = {
            name: as_track(item, getattr(controls, name), name)
            for name, item in NUMBERS.items()
            if getattr(controls, name) is not None
        }
        emotion = emotion_track(controls.emotion)
        if emotion is not None:
            self._tracks["emotion"] = emotion
        self._blinks_known = "blinks" in trained
        self._blinking = None
        if self._blinks_known and "blink_rate" in self._tracks:
            self._blinking = Blinking(self._tracks["blink_rate"], controls.seed)
        self._given = [name for name in CONDITIONS if controls.is_given(name) and name in trained]
        self.guided = tuple(
            name for name in ("audio", *self._given) if np.any(self._tracks[f"{name}_guidance"])
        )  # branches of the sampler: conditions with a scale that is not always zero

    def at(self, name: str, frame: int) -> Any:
        """Returns the value of a control at a frame, or None."""
        track = self._tracks.get(name)
        return None if track is None else track[min(frame, len(track) - 1)]

    def frames(self, name: str, first: int, count: int) -> np.ndarray | None:
        """Returns the values of a control at `count` frames from `first`, or None."""
        track = self._tracks.get(name)
        return None if track is None else track[np.minimum(np.arange(first, first + count), len(track) - 1)]

    def conditions(self, part: Window, width: int, turn: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Returns what a window of `width` frames is asked for, as `control_arguments` does.

        Weights that know of blinks also get blinks (1, width) and blinks_mask (1,).

        turn: rotation (3, 3) that the generated head, eyes and all, is given afterwards; the gaze is asked without it.
        """
        values = {name: self.at(name, part.centre) if name in self._given else None for name in CONDITIONS}
        if turn is not None and values["gaze"] is not None:
            values["gaze"] = angles_of_direction(turn.T @ direction_of_angles(values["gaze"]))
        asked = control_arguments(*values.values())
        if not self._blinks_known:
            return asked
        given = self._blinking is not None
        lids = self._blinking.closure(part.start, width) if given else np.zeros((width,), np.float32)
        return asked | {"blinks": lids[None], "blinks_mask": np.array([given])}

    def guidance(self, frame: int, names: Sequence[str] | None = None) -> dict[str, float]:
        """Returns the scale of each of `names` (default: `guided`) at a frame; 0 for what is not guided."""
        return {
            name: float(self.at(f"{name}_guidance", frame)) if name in self.guided else 0.0
            for name in (self.guided if names is None else names)
        }


def control_conditions(gaze, distance, emotion) -> dict[str, Any]:
    """Returns gaze (B, 2) degrees, distance (B,) and emotion (B, 8) in the units of the transformer's conditions."""
    return {"gaze": gaze / GAZE_UNIT, "distance": (distance[:, None] - 1.0) / DISTANCE_UNIT, "emotion": emotion}


def control_arguments(
    gaze: Sequence[float] | None, distance: float | None, emotion: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Returns conditions and masks of one sequence: gaze (1, 2), distance (1, 1), emotion (1, 8); None = null."""
    values = control_conditions(
        np.asarray([(0.0, 0.0) if gaze is None else gaze], np.float32),
        np.asarray([1.0 if distance is None else distance], np.float32),
        np.zeros((1, len(EMOTIONS)), np.float32) if emotion is None else np.asarray(emotion, np.float32)[None],
    )
    given = {"gaze": gaze is not None, "distance": distance is not None, "emotion": emotion is not None}
    return values | {f"{name}_mask": np.array([known]) for name, known in given.items()}


class Blinking:
    """Lid closure of every frame of a video, from random times of a given rate.

    Frames can be asked for in any order and any number of times.

    Blinks are a renewal process in the number of blinks expected so far. Intervals are a refractory time and a gamma
    variable of shape 2, as in the corpus; where the rate changes they are stretched with it.

    rate_T: blinks a minute, of every frame; the last value holds on.
    """

    def __init__(self, rate_T: np.ndarray, seed: int):
        self._rate = np.asarray(rate_T, np.float64)
        self._expected = np.concatenate([[0.0], np.cumsum(self._rate / FRAMES_PER_MINUTE)])  # before each frame
        self._rng = np.random.default_rng([seed, 1])
        self._due: list[float] = []  # expected number of blinks at each blink, in order
        self._shapes: list[tuple[float, float, float, float]] = []

    def closure(self, first: int, count: int) -> np.ndarray:
        """Returns how far blinking shuts the lids in `count` frames from `first`, float32 (count,) in [0, 1]."""
        frames = np.arange(first, first + count)
        self._draw(self._expected_before(first + count + REACH))
        lids = np.zeros(count)
        start = np.searchsorted(self._due, self._expected_before(first - REACH))
        stop = np.searchsorted(self._due, self._expected_before(first + count + REACH))
        for due, shape in zip(self._due[start:stop], self._shapes[start:stop]):
            lids = np.maximum(lids, blink_closure(frames, self._seconds(due), *shape))
        return lids.astype(np.float32)

    def _draw(self, until: float) -> None:
        while not self._due or self._due[-1] < until:
            if self._due:
                self._due.append(self._due[-1] + REFRACTORY + (1.0 - REFRACTORY) * self._rng.gamma(2.0, 0.5))
            else:
                # A video begins at any moment of an interval, and in a long one more often than in a short one: the
                # share of moments that the refractory times have says whether the gamma variable is length-biased.
                shape = 2.0 if self._rng.random() < REFRACTORY else 3.0
                interval = REFRACTORY + (1.0 - REFRACTORY) * self._rng.gamma(shape, 0.5)
                self._due.append(interval * self._rng.random())
            self._shapes.append(draw_blink(self._rng))

    def _expected_before(self, frame: int) -> float:
        """Blinks expected before a frame; the track's last rate holds on."""
        if frame < len(self._expected):
            return float(self._expected[max(frame, 0)])
        return float(self._expected[-1] + (frame - len(self._rate)) * self._rate[-1] / FRAMES_PER_MINUTE)

    def _seconds(self, due: float) -> float:
        """The time at which so many blinks were expected."""
        if due < self._expected[-1]:
            return float(np.interp(due, self._expected, np.arange(len(self._expected)))) / FPS
        rest = (due - self._expected[-1]) * FRAMES_PER_MINUTE / self._rate[-1]
        return (len(self._rate) + rest) / FPS

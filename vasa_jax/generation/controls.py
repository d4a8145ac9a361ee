"""What a person can ask of a video beside its sound, and the same in the units of the motion transformer.

Most controls are constant, or a track with one value per frame (25 per second) whose last value holds on. The
transformer hears one gaze, distance, emotion and guidance scale per window: a track gives each window its value at the
middle of the frames that the window makes. Head pose, pose amplitude and blinks act on every frame.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from vasa_jax.conventions import DISTANCE_UNIT, EMOTIONS, GAZE_UNIT
from vasa_jax.diffusion import SOLVERS
from vasa_jax.errors import InputError
from vasa_jax.generation.blinking import Blinking
from vasa_jax.generation.windows import Window

ANIMATE = ("all", "pose", "dynamics")
POSE_ANCHORS = ("portrait", "absolute")
CONDITIONS = ("gaze", "distance", "emotion")  # what a person may give; audio is always there

BLINK_RATE = 15.0  # of people who talk, about

Scale = float | Sequence[float]


@dataclasses.dataclass(frozen=True, eq=False)
class Controls:
    """How a motion is made from speech. What may be a sequence of values per frame is constant or a track."""

    seed: int = 0  # same seed, same video
    steps: int = 25  # of the solver
    solver: str = "dpmpp"  # one of diffusion.SOLVERS
    hop: int = 0  # frames made at once, as a live stream makes them; 0 = whole windows
    look_ahead: int = 0  # frames of sound heard beyond the hop; needs a hop
    gaze: Sequence[float] | Sequence[Sequence[float]] | None = None  # yaw, pitch in degrees, + = image right, down
    distance: float | Sequence[float] | None = None  # 1.0 = as in the portrait, which is what nothing given means
    emotion: str | Sequence[str] = ""  # name or name:strength
    blink_rate: Scale | None = BLINK_RATE  # blinks a minute, at times drawn from the seed; None = the model's own
    audio_guidance: Scale = 0.5  # the paper's lambda_A
    gaze_guidance: Scale = 1.0  # lambda_g; acts when a gaze is given
    distance_guidance: Scale = 0.0  # acts when a distance is given
    emotion_guidance: Scale = 0.0  # acts when an emotion is given
    head_pose: Sequence[float] | Sequence[Sequence[float]] | None = None  # yaw, pitch, roll in degrees, not generated
    pose_amplitude: Scale = 1.0  # of the generated head motion about its mean
    animate: str = "all"  # pose: dynamics stay the portrait's; dynamics: pose stays the portrait's (paper Figure 5)
    pose_anchor: str = "portrait"  # portrait: position and scale around the portrait's; absolute: as generated, free

    @classmethod
    def from_config(cls, config: Any) -> "Controls":
        """The settings of a `VASAConfig`, over them those of its control track file; InputError for a bad value."""
        from vasa_jax.generation.control_track import read_control_track

        names = [field.name for field in dataclasses.fields(cls)]
        controls = cls(**{name: getattr(config, name) for name in names}).validate("config")
        return dataclasses.replace(controls, **read_control_track(config.controls)) if config.controls else controls

    def validate(self, where: str = "controls") -> "Controls":
        """The controls themselves; InputError names the first that is out of range, after `where`."""
        for name, choices in (("solver", SOLVERS), ("animate", ANIMATE), ("pose_anchor", POSE_ANCHORS)):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{where}.{name}: '{getattr(self, name)}' is unknown; choose one of {', '.join(choices)}"
                )
        for name, (low, high) in _COUNTS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
                raise InputError(f"{where}.{name}: {value!r} is out of range; choose a whole number, {low} to {high}")
        if self.look_ahead and not self.hop:
            raise InputError(f"{where}.look_ahead: only a stream looks ahead; give a hop too")
        for name, (width, low, high) in _NUMBERS.items():
            if getattr(self, name) is not None:
                _track(getattr(self, name), width, low, high, f"{where}.{name}")
        _emotion_track(self.emotion, f"{where}.emotion")
        return self

    def ignored(self, trained: Sequence[str]) -> list[str]:
        """A line for each given condition that weights trained for `trained` do not know."""
        needs = {**{name: name for name in CONDITIONS}, "blink_rate": "blinks"}
        if np.array_equal(self.blink_rate, BLINK_RATE):
            del needs["blink_rate"]  # nobody has asked for it
        return [
            f"config.{name}: these weights were not trained for it; it changes nothing"
            for name, condition in needs.items()
            if _is_given(self, name) and condition not in trained
        ]


_COUNTS = {"seed": (-(2**63), 2**63), "steps": (1, 1000), "hop": (0, 1000), "look_ahead": (0, 1000)}
_NUMBERS = {
    "gaze": (2, -60.0, 60.0),
    "distance": (None, 0.5, 2.0),
    "blink_rate": (None, 0.0, 60.0),
    "audio_guidance": (None, 0.0, 20.0),
    "gaze_guidance": (None, 0.0, 20.0),
    "distance_guidance": (None, 0.0, 20.0),
    "emotion_guidance": (None, 0.0, 20.0),
    "head_pose": (3, -90.0, 90.0),
    "pose_amplitude": (None, 0.0, 5.0),
}  # numbers of one value (None = a single one), lowest, highest


class Steering:
    """Controls as tracks: what each window and each frame is asked for. Conditions not in `trained` stay null."""

    def __init__(self, controls: Controls, trained: Sequence[str] = CONDITIONS):
        self.controls = controls.validate()
        if controls.distance is None and controls.pose_anchor == "portrait":
            controls = dataclasses.replace(controls, distance=1.0)  # else a head leaps to a distance of its own
        self._tracks = {
            name: _track(getattr(controls, name), *numbers, name)
            for name, numbers in _NUMBERS.items()
            if getattr(controls, name) is not None
        }
        emotion = _emotion_track(controls.emotion)
        if emotion is not None:
            self._tracks["emotion"] = emotion
        self._blinks_known = "blinks" in trained
        self._blinking = None
        if self._blinks_known and "blink_rate" in self._tracks:
            self._blinking = Blinking(self._tracks["blink_rate"], controls.seed)
        self._given = [name for name in CONDITIONS if _is_given(controls, name) and name in trained]
        self.guided = tuple(
            name for name in ("audio", *self._given) if np.any(self._tracks[f"{name}_guidance"])
        )  # branches of the sampler: conditions with a scale that is not always zero

    def at(self, name: str, frame: int) -> Any:
        """The value of a control at a frame, or None."""
        track = self._tracks.get(name)
        return None if track is None else track[min(frame, len(track) - 1)]

    def frames(self, name: str, first: int, count: int) -> np.ndarray | None:
        """The values of a control at `count` frames from `first`, or None."""
        track = self._tracks.get(name)
        return None if track is None else track[np.minimum(np.arange(first, first + count), len(track) - 1)]

    def conditions(self, part: Window, width: int) -> dict[str, np.ndarray]:
        """What a window of `width` frames is asked for: see `control_arguments`; of weights that know of blinks also
        blinks (1, width) and blinks_mask (1,)."""
        asked = control_arguments(*(self.at(name, part.centre) if name in self._given else None for name in CONDITIONS))
        if not self._blinks_known:
            return asked
        given = self._blinking is not None
        lids = self._blinking.closure(part.start, width) if given else np.zeros((width,), np.float32)
        return asked | {"blinks": lids[None], "blinks_mask": np.array([given])}

    def guidance(self, frame: int, names: Sequence[str] | None = None) -> dict[str, float]:
        """The scale of each of `names` (default: `guided`) in the window around a frame; 0 for what is not guided."""
        return {
            name: float(self.at(f"{name}_guidance", frame)) if name in self.guided else 0.0
            for name in (self.guided if names is None else names)
        }


def parse_emotion(text: str, where: str = "config.emotion") -> np.ndarray | None:
    """`happiness` or `happiness:0.5` as 8 coefficients, the rest of 1 going to neutral; None for an empty text.

    InputError names a wrong name or strength.
    """
    if not text:
        return None
    name, _, strength = text.partition(":")
    if name not in EMOTIONS:
        raise InputError(f"{where}: '{name}' is unknown; choose one of {', '.join(EMOTIONS)}")
    try:
        value = float(strength) if strength else 1.0
    except ValueError as error:
        raise InputError(f"{where}: '{strength}' is not a number; write e.g. {name}:0.5") from error
    if not 0 <= value <= 1:
        raise InputError(f"{where}: strength {value} is out of range; choose 0 to 1")
    one_hot = np.eye(len(EMOTIONS), dtype=np.float32)
    return value * one_hot[EMOTIONS.index(name)] + (1 - value) * one_hot[EMOTIONS.index("neutral")]


def control_conditions(gaze, distance, emotion) -> dict[str, Any]:
    """Gaze (B, 2) degrees, distance (B,) and emotion (B, 8) in the units of the transformer's conditions."""
    return {"gaze": gaze / GAZE_UNIT, "distance": (distance[:, None] - 1.0) / DISTANCE_UNIT, "emotion": emotion}


def control_arguments(
    gaze: Sequence[float] | None, distance: float | None, emotion: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Conditions and masks for one sequence: gaze (1, 2), distance (1, 1), emotion (1, 8); unset = learned null."""
    values = control_conditions(
        np.asarray([(0.0, 0.0) if gaze is None else gaze], np.float32),
        np.asarray([1.0 if distance is None else distance], np.float32),
        np.zeros((1, len(EMOTIONS)), np.float32) if emotion is None else np.asarray(emotion, np.float32)[None],
    )
    given = {"gaze": gaze is not None, "distance": distance is not None, "emotion": emotion is not None}
    return values | {f"{name}_mask": np.array([known]) for name, known in given.items()}


def _is_given(controls: Controls, name: str) -> bool:
    value = getattr(controls, name)
    return value is not None and not (isinstance(value, str) and not value)


def _track(value: Any, width: int | None, low: float, high: float, where: str) -> np.ndarray:
    """float32 (frames,) or (frames, width) of a constant or a track; InputError for another shape or range."""
    one = "a number" if width is None else f"{width} numbers"
    try:
        track = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: not a constant or a track; give {one}, or {one} per frame") from error
    shape = () if width is None else (width,)
    if track.shape == shape:
        track = track[None]
    if track.ndim != len(shape) + 1 or track.shape[1:] != shape or not len(track):
        raise InputError(f"{where}: has shape {track.shape}; give {one}, or {one} per frame")
    if not np.all((track >= low) & (track <= high)):
        worst = track[~((track >= low) & (track <= high))][0]
        raise InputError(f"{where}: {worst:g} is out of range; choose {low:g} to {high:g}")
    return track


def _emotion_track(value: str | Sequence[str], where: str = "config.emotion") -> np.ndarray | None:
    """float32 (frames, 8) of an emotion or of one per frame; None for an empty text."""
    if isinstance(value, str):
        vector = parse_emotion(value, where)
        return None if vector is None else vector[None]
    texts = list(value) if isinstance(value, Sequence) else []
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise InputError(f"{where}: not a name or a list of names; write e.g. happiness:0.5, one per frame")
    known = {text: parse_emotion(text, where) for text in set(texts)}
    return np.stack([known[text] for text in texts])

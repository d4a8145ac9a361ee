"""What a person can ask of a video beside its sound: the settings of generation, with their ranges and units.

Most controls are constant, or a track with one value per frame (25 per second) whose last value holds on. What a track
says to each window and frame is in `generation/schedule.py`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vasa_jax.conventions import EMOTIONS, SOLVERS
from vasa_jax.errors import InputError
from vasa_jax.settings import MAX_SEED, Series, Settings, choice, number, section, text

ANIMATE = ("all", "pose", "dynamics")
POSE_ANCHORS = ("portrait", "absolute")
CONDITIONS = ("gaze", "distance", "emotion")  # what a person may give; audio is always there

LIPS = 0.75  # keeps r with corpus voices, and gives people nearly all that the reader can
BLINK_RATE = 15.0  # blinks a minute of people who talk, about


@section(eq=False)  # tracks may be arrays, which have no single truth value
class Controls(Settings):
    """How a motion is made from speech."""

    seed: int = number(0, 0, MAX_SEED, "", "same seed, same video (and same training data)")
    steps: int = number(25, 1, 1000, "steps", "of the solver")
    solver: str = choice("dpmpp", SOLVERS, "dpmpp: DPM-Solver++(2M); ancestral: fresh noise in every step")
    hop: int = number(0, 0, 1000, "frames", "made at once, as a live stream makes them; 0 = whole windows")
    look_ahead: int = number(0, 0, 1000, "frames", "of sound heard beyond the hop; needs a hop")
    gaze: Series[tuple[float, float]] | None = number(
        None, -60, 60, "degrees", "yaw, pitch, camera frame; + = image right, image down"
    )
    distance: Series[float] | None = number(
        None, 0.5, 2, "", "of the head, over that in the portrait; larger = further", unset="1, as in the portrait"
    )
    emotion: Series[str] = text("", "name or name:strength")
    blink_rate: Series[float] | None = number(
        BLINK_RATE, 0, 60, "blinks a minute", "at times drawn from the seed", unset="the model's own"
    )
    audio_guidance: Series[float] = number(0.5, 0, 20, "", "scale of classifier-free guidance, the paper's lambda_A")
    gaze_guidance: Series[float] = number(1.0, 0, 20, "", "lambda_g; acts when a gaze is given")
    distance_guidance: Series[float] = number(0.0, 0, 20, "", "acts when a distance is given")
    emotion_guidance: Series[float] = number(0.0, 0, 20, "", "acts when an emotion is given")
    lips: Series[float] = number(
        LIPS, 0, 1, "", "share of the lip reader in the mouth's opening; 0 = the transformer's alone"
    )
    head_pose: Series[tuple[float, float, float]] | None = number(
        None, -90, 90, "degrees", "yaw, pitch, roll in the place of generated ones"
    )
    pose_amplitude: Series[float] = number(1.0, 0, 5, "", "scale of the generated head motion about its mean")
    head_smoothing: float = number(
        0.99, 0, 0.999, "", "JoyVASA's weights: share of the frame before in the head's turn, scale and place; 0 = none"
    )
    animate: str = choice(
        "all", ANIMATE, "pose: dynamics stay the portrait's; dynamics: pose stays the portrait's (paper Figure 5)"
    )
    pose_anchor: str = choice(
        "portrait", POSE_ANCHORS, "portrait: turn, position and scale around the portrait's; absolute: as generated"
    )

    @classmethod
    def from_config(cls, config: "Controls") -> "Controls":
        """Returns the controls among the settings of a run (`VASAConfig`); InputError for a bad value."""
        return cls(**{item.name: getattr(config, item.name) for item in dataclasses.fields(cls)}).validate("config")

    def check_together(self, path: str) -> None:
        """Raises InputError for a look-ahead without a hop, and for an emotion that is none."""
        if self.look_ahead and not self.hop:
            raise InputError(f"{path}.look_ahead: only a stream looks ahead; give a hop too")
        emotion_track(self.emotion, f"{path}.emotion")

    def is_given(self, name: str) -> bool:
        """Returns whether a control asks for something."""
        value = getattr(self, name)
        return value is not None and not (isinstance(value, str) and not value)

    def ignored(self, trained: Sequence[str]) -> list[str]:
        """Returns a line for each given condition that weights trained for `trained` do not know."""
        needs = {**{name: name for name in CONDITIONS}, "blink_rate": "blinks", "lips": "lips"}
        for name, usual in (("blink_rate", BLINK_RATE), ("lips", LIPS)):
            if np.array_equal(getattr(self, name), usual):
                del needs[name]  # nobody has asked for it
        return [
            f"config.{name}: these weights were not trained for it; it changes nothing"
            for name, condition in needs.items()
            if self.is_given(name) and condition not in trained
        ]


def parse_emotion(text: str, where: str = "config.emotion") -> np.ndarray | None:
    """Returns the 8 coefficients of `happiness` or `happiness:0.5`, the rest of 1 going to neutral; None for no text.

    InputError, which begins with `where`, names a wrong name or strength.
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


def emotion_track(value: str | Sequence[str], where: str = "config.emotion") -> np.ndarray | None:
    """Returns float32 (frames, 8) of an emotion or of one per frame; None for an empty text."""
    if isinstance(value, str):
        vector = parse_emotion(value, where)
        return None if vector is None else vector[None]
    if not all(value):
        raise InputError(f"{where}: not a name for every frame; write e.g. neutral")
    known = {text: parse_emotion(text, where) for text in set(value)}
    return np.stack([known[text] for text in value])

"""The networks of a user that give labels in place of the landmarks."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class UserModels:
    """From the user's files; None: the label stays as the landmarks give it, or absent."""

    emotion: Callable | None = None  # see hsemotion.load_emotion_model
    gaze: Callable | None = None  # see l2cs.load_gaze_model
    distance: Callable | None = None  # see deep3d.load_distance_model
    sync: Callable | None = None  # see syncnet.load_sync_model; None: the voice against the mouth's opening
    heard: Callable | None = None  # see heard_mouth.HeardMouth, the shipped reader's; None: loudness is the voice


NO_MODELS = UserModels()

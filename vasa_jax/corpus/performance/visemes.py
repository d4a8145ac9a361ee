"""The motion space of the rendered heads as plain tables: names, neutral values, visemes and emotions.

No JAX here: the worker processes that make speech clips import this file and must start quickly.

A motion is a set of scalars. Angles are radians in the head's y-up space: yaw and gaze_yaw turn towards +x (image
right), pitch nods down, gaze_pitch looks up. `dist` is the head distance over the corpus's mean (neutral 1);
everything else is an amount whose neutral value is 0 and whose full effect is 1.
"""

import numpy as np

from vasa_jax.conventions import EMOTIONS

MOTION_NEUTRAL = {
    "yaw": 0.0, "pitch": 0.0, "roll": 0.0, "tx": 0.0, "ty": 0.0, "dist": 1.0,
    "gaze_yaw": 0.0, "gaze_pitch": 0.0, "blink_l": 0.0, "blink_r": 0.0,
    "brow_in": 0.0, "brow_out": 0.0, "furrow": 0.0, "wide": 0.0, "squint": 0.0, "sneer": 0.0, "cheek": 0.0,
    "jaw": 0.0, "width": 0.0, "round": 0.0, "up": 0.0, "lo": 0.0, "press": 0.0, "tuck": 0.0,
    "smile": 0.0, "smirk": 0.0, "tongue": 0.0,
}  # fmt: skip
MOTION_NAMES = tuple(MOTION_NEUTRAL)


EMOTION_SHAPES = {
    "anger": {
        "furrow": 1.0, "brow_in": -0.7, "brow_out": 0.1, "wide": 0.15,
        "squint": 0.35, "press": 0.5, "smile": -0.3, "sneer": 0.3,
    },
    "contempt": {
        "smirk": 1.3, "squint": 0.3, "brow_out": 0.25, "blink_l": 0.18,
        "blink_r": 0.18, "press": 0.4, "sneer": 0.15,
    },
    "disgust": {"sneer": 1.0, "up": 0.7, "furrow": 0.5, "brow_in": -0.4, "squint": 0.6, "smile": -0.5, "cheek": 0.3},
    "fear": {
        "brow_in": 1.0, "brow_out": 0.25, "furrow": 0.5, "wide": 0.8,
        "width": 0.35, "jaw": 0.18, "lo": 0.4, "smile": -0.35,
    },
    "happiness": {
        "smile": 1.0, "cheek": 0.8, "squint": 0.35, "width": 0.3,
        "up": 0.55, "jaw": 0.1, "lo": 0.25, "brow_out": 0.15,
    },
    "neutral": {},
    "sadness": {"smile": -0.8, "brow_in": 0.9, "brow_out": -0.35, "blink_l": 0.22, "blink_r": 0.22, "lo": -0.15},
    "surprise": {"brow_in": 1.0, "brow_out": 1.0, "wide": 1.0, "jaw": 0.75, "width": -0.35, "round": 0.25},
}  # fmt: skip
# Added to a neutral motion, times the strength of the emotion: [8, len(MOTION_NAMES)].
EMOTION_OFFSETS = np.array(
    [[EMOTION_SHAPES[emotion].get(name, 0.0) for name in MOTION_NAMES] for emotion in EMOTIONS], np.float32
)

VISEME_FIELDS = ("jaw", "width", "round", "up", "lo", "press", "tuck", "tongue")
# The fifteen visemes of the Oculus lip-sync convention, each as one value per field of VISEME_FIELDS.
VISEMES = {
    "sil": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "PP": (0.0, -0.05, 0.05, 0.0, 0.0, 1.0, 0.0, 0.0),
    "FF": (0.12, 0.05, 0.0, 0.60, 0.0, 0.0, 1.0, 0.0),
    "TH": (0.22, 0.05, 0.0, 0.15, 0.2, 0.0, 0.0, 1.0),
    "DD": (0.22, 0.15, 0.0, 0.15, 0.25, 0.0, 0.0, 0.55),
    "kk": (0.28, 0.1, 0.0, 0.1, 0.2, 0.0, 0.0, 0.0),
    "CH": (0.16, -0.35, 0.6, 0.35, 0.45, 0.0, 0.0, 0.2),
    "SS": (0.10, 0.35, 0.0, 0.3, 0.45, 0.0, 0.0, 0.2),
    "nn": (0.2, 0.1, 0.0, 0.1, 0.2, 0.0, 0.0, 0.5),
    "RR": (0.2, -0.3, 0.4, 0.1, 0.2, 0.0, 0.0, 0.2),
    "aa": (0.9, 0.1, 0.0, 0.2, 0.3, 0.0, 0.0, 0.0),
    "E": (0.45, 0.45, 0.0, 0.2, 0.35, 0.0, 0.0, 0.1),
    "I": (0.22, 0.75, 0.0, 0.2, 0.35, 0.0, 0.0, 0.2),
    "O": (0.55, -0.55, 0.75, 0.1, 0.1, 0.0, 0.0, 0.0),
    "U": (0.22, -0.85, 1.0, 0.12, 0.22, 0.0, 0.0, 0.0),
}

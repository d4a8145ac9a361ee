"""Gaze, distance and emotion as a person writes them, and as the transformer's conditions."""

import jax.numpy as jnp
import numpy as np

from vasa_jax.data.synthetic.visemes import EMOTIONS  # in the order of the HSEmotion classes
from vasa_jax.errors import InputError

GAZE_UNIT = 20.0  # degrees: brings the gaze condition to order one
DISTANCE_UNIT = 0.15


def parse_emotion(text: str) -> np.ndarray | None:
    """`happiness` or `happiness:0.5` as 8 coefficients, the rest of 1 going to neutral; None for an empty text.

    InputError names a wrong name or strength.
    """
    if not text:
        return None
    name, _, strength = text.partition(":")
    if name not in EMOTIONS:
        raise InputError(f"config.emotion: '{name}' is unknown; choose one of {', '.join(EMOTIONS)}")
    try:
        value = float(strength) if strength else 1.0
    except ValueError as error:
        raise InputError(f"config.emotion: '{strength}' is not a number; write e.g. {name}:0.5") from error
    if not 0 <= value <= 1:
        raise InputError(f"config.emotion: strength {value} is out of range; choose 0 to 1")
    one_hot = np.eye(len(EMOTIONS), dtype=np.float32)
    return value * one_hot[EMOTIONS.index(name)] + (1 - value) * one_hot[EMOTIONS.index("neutral")]


def control_conditions(gaze, distance, emotion) -> dict[str, jnp.ndarray]:
    """Gaze (B, 2) degrees, distance (B,) and emotion (B, 8) in the units of the transformer's conditions."""
    return {"gaze": gaze / GAZE_UNIT, "distance": (distance[:, None] - 1.0) / DISTANCE_UNIT, "emotion": emotion}


def control_arguments(
    gaze: tuple[float, float] | None, distance: float | None, emotion: np.ndarray | None
) -> dict[str, jnp.ndarray]:
    """Conditions and masks for one sequence: gaze (1, 2), distance (1, 1), emotion (1, 8); unset = learned null."""
    values = control_conditions(
        jnp.asarray([gaze or (0.0, 0.0)], jnp.float32),
        jnp.asarray([1.0 if distance is None else distance], jnp.float32),
        jnp.zeros((1, len(EMOTIONS))) if emotion is None else jnp.asarray(emotion, jnp.float32)[None],
    )
    given = {"gaze": gaze is not None, "distance": distance is not None, "emotion": emotion is not None}
    return values | {f"{name}_mask": jnp.array([known]) for name, known in given.items()}

"""What a head does: 27 numbers per frame, visemes and emotions in those numbers, and random stills.

Angles are in radians. `yaw` > 0 turns the head to image right, `pitch` > 0 nods it down, `roll` > 0 tilts it
counter-clockwise in the image. `gaze_yaw`, `gaze_pitch` turn the eyes in the head: > 0 is image right and up (the
label of a picture, labels.py, is in the camera frame with down positive). `tx` > 0 moves right, `ty` > 0 moves up, in
head units. `dist` is the distance to the camera over its mean. `blink_l` and `blink_r` are the eyes on the image's
right and left (the person's left and right): 0 open, 1 closed. The rest are muscle-like weights, 0 at rest, about 1
at full strength; several go negative.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_NEUTRAL = {
    "yaw": 0.0, "pitch": 0.0, "roll": 0.0, "tx": 0.0, "ty": 0.0, "dist": 1.0,
    "gaze_yaw": 0.0, "gaze_pitch": 0.0, "blink_l": 0.0, "blink_r": 0.0,
    "brow_in": 0.0, "brow_out": 0.0, "furrow": 0.0, "wide": 0.0, "squint": 0.0, "sneer": 0.0, "cheek": 0.0,
    "jaw": 0.0, "width": 0.0, "round": 0.0, "up": 0.0, "lo": 0.0, "press": 0.0, "tuck": 0.0,
    "smile": 0.0, "smirk": 0.0, "tongue": 0.0,
}  # fmt: skip
MOTION_NAMES: tuple[str, ...] = tuple(_NEUTRAL)

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
_EMOTION_WEIGHTS = {
    "anger": {"furrow": 1.0, "brow_in": -0.7, "brow_out": 0.1, "wide": 0.15, "squint": 0.35, "press": 0.5,
              "smile": -0.3, "sneer": 0.3},
    "contempt": {"smirk": 1.3, "squint": 0.3, "brow_out": 0.25, "blink_l": 0.18, "blink_r": 0.18, "press": 0.4,
                 "sneer": 0.15},
    "disgust": {"sneer": 1.0, "up": 0.7, "furrow": 0.5, "brow_in": -0.4, "squint": 0.6, "smile": -0.5, "cheek": 0.3},
    "fear": {"brow_in": 1.0, "brow_out": 0.25, "furrow": 0.5, "wide": 0.8, "width": 0.35, "jaw": 0.18, "lo": 0.4,
             "smile": -0.35},
    "happiness": {"smile": 1.0, "cheek": 0.8, "squint": 0.35, "width": 0.30, "up": 0.55, "jaw": 0.10, "lo": 0.25,
                  "brow_out": 0.15},
    "neutral": {},
    "sadness": {"smile": -0.8, "brow_in": 0.9, "brow_out": -0.35, "blink_l": 0.22, "blink_r": 0.22, "lo": -0.15},
    "surprise": {"brow_in": 1.0, "brow_out": 1.0, "wide": 1.0, "jaw": 0.75, "width": -0.35, "round": 0.25},
}  # fmt: skip
# [8, len(MOTION_NAMES)]: what an emotion at full strength adds to a motion.
EMOTION_OFFSETS = np.array(
    [[_EMOTION_WEIGHTS[emotion].get(name, 0.0) for name in MOTION_NAMES] for emotion in EMOTIONS], np.float32
)

VISEME_FIELDS = ("jaw", "width", "round", "up", "lo", "press", "tuck", "tongue")
VISEMES: dict[str, tuple[float, ...]] = {
    "sil": (0.00, 0.00, 0.00, 0.00, 0.00, 0.0, 0.0, 0.00),
    "PP": (0.00, -0.05, 0.05, 0.00, 0.00, 1.0, 0.0, 0.00),
    "FF": (0.12, 0.05, 0.00, 0.60, 0.00, 0.0, 1.0, 0.00),
    "TH": (0.22, 0.05, 0.00, 0.15, 0.20, 0.0, 0.0, 1.00),
    "DD": (0.22, 0.15, 0.00, 0.15, 0.25, 0.0, 0.0, 0.55),
    "kk": (0.28, 0.10, 0.00, 0.10, 0.20, 0.0, 0.0, 0.00),
    "CH": (0.16, -0.35, 0.60, 0.35, 0.45, 0.0, 0.0, 0.20),
    "SS": (0.10, 0.35, 0.00, 0.30, 0.45, 0.0, 0.0, 0.20),
    "nn": (0.20, 0.10, 0.00, 0.10, 0.20, 0.0, 0.0, 0.50),
    "RR": (0.20, -0.30, 0.40, 0.10, 0.20, 0.0, 0.0, 0.20),
    "aa": (0.90, 0.10, 0.00, 0.20, 0.30, 0.0, 0.0, 0.00),
    "E": (0.45, 0.45, 0.00, 0.20, 0.35, 0.0, 0.0, 0.10),
    "I": (0.22, 0.75, 0.00, 0.20, 0.35, 0.0, 0.0, 0.20),
    "O": (0.55, -0.55, 0.75, 0.10, 0.10, 0.0, 0.0, 0.00),
    "U": (0.22, -0.85, 1.00, 0.12, 0.22, 0.0, 0.0, 0.00),
}


def neutral_motion() -> dict[str, jax.Array]:
    """The face at rest, looking into the camera: a float32 scalar per name."""
    return {name: jnp.float32(value) for name, value in _NEUTRAL.items()}


def sample_motion(key: jax.Array) -> dict[str, jax.Array]:
    """Draws one broad still: a float32 scalar per name. A pure function of the key; works under jit and vmap.

    Yaw to +-0.7, pitch to +-0.35, roll to +-0.3, a third of them near frontal; distance 0.8 to 1.25; gaze over the
    whole range of the eyes, half of it counter-rotating with the head; one in five with lids moving and one in eight
    fully closed; a blend of two visemes at random strength, an emotion at random strength, and free brows.
    """
    keys = iter(jax.random.split(key, 40))

    def uniform(low=0.0, high=1.0):
        return jax.random.uniform(next(keys), (), minval=low, maxval=high)

    def peaked(limit):
        """Symmetric in [-limit, limit], densest in the middle."""
        return limit * (0.5 * uniform(-1.0, 1.0) + 0.5 * uniform(-1.0, 1.0))

    def chance(probability):
        return (uniform() < probability).astype(jnp.float32)

    motion = neutral_motion()
    calm = 1.0 - 0.6 * chance(0.35)  # a third of the stills are near frontal, as talking heads are
    motion["yaw"] = calm * uniform(-0.7, 0.7)
    motion["pitch"] = calm * uniform(-0.35, 0.35)
    motion["roll"] = calm * uniform(-0.3, 0.3)
    motion["tx"], motion["ty"] = uniform(-0.16, 0.16), uniform(-0.12, 0.12)
    motion["dist"] = jnp.exp(uniform(float(np.log(0.8)), float(np.log(1.25))))

    follow = chance(0.5)  # half look near the camera whatever the head does
    spread = 1.0 - 0.55 * follow
    motion["gaze_yaw"] = jnp.clip(-0.8 * follow * motion["yaw"] + spread * peaked(0.75), -0.62, 0.62)
    motion["gaze_pitch"] = jnp.clip(0.8 * follow * motion["pitch"] + spread * peaked(0.45), -0.38, 0.36)

    # Emotion first: it moves the same fields as speech does and they add up.
    strength = uniform(0.0, 1.1) * chance(0.75)
    emotion = jax.random.randint(next(keys), (), 0, len(EMOTIONS))
    offsets = jnp.asarray(EMOTION_OFFSETS)[emotion] * strength
    for i, name in enumerate(MOTION_NAMES):
        motion[name] = motion[name] + offsets[i]

    table = jnp.asarray(np.array(list(VISEMES.values()), np.float32))
    first, second = (jax.random.randint(next(keys), (), 0, len(VISEMES)) for _ in range(2))
    share, speech = uniform() ** 2, uniform(0.3, 1.2)
    viseme = speech * ((1.0 - share) * table[first] + share * table[second])
    for i, name in enumerate(VISEME_FIELDS):
        motion[name] = motion[name] + viseme[i]
    motion["jaw"] = motion["jaw"] * uniform(0.8, 1.2)
    motion["smile"] = motion["smile"] + chance(0.35) * uniform(-0.4, 1.0)
    motion["smirk"] = motion["smirk"] + chance(0.15) * uniform(-1.0, 1.0)

    for name in ("brow_in", "brow_out"):
        motion[name] = motion[name] + chance(0.5) * uniform(-0.5, 0.9)
    motion["furrow"] = motion["furrow"] + chance(0.2) * uniform()
    motion["wide"] = motion["wide"] + chance(0.2) * uniform()
    motion["squint"] = motion["squint"] + chance(0.2) * uniform()

    lids = jnp.maximum(chance(0.2) * uniform(), chance(0.125))
    wink = chance(0.06) * uniform(0.5, 1.0)
    side = chance(0.5)
    motion["blink_l"] = jnp.clip(jnp.maximum(motion["blink_l"] + lids, wink * side), 0.0, 1.0)
    motion["blink_r"] = jnp.clip(jnp.maximum(motion["blink_r"] + lids, wink * (1.0 - side)), 0.0, 1.0)
    # Pressed or tucked lips cannot be apart.
    shut = jnp.clip(motion["press"], 0.0, 1.0)
    for name in ("jaw", "up", "lo"):
        motion[name] = motion[name] * (1.0 - 0.9 * shut)
    return {name: jnp.asarray(motion[name], jnp.float32) for name in MOTION_NAMES}

"""What a head does: 27 numbers per frame, visemes and emotions in those numbers, and random stills.

Angles are in radians. `yaw` > 0 turns the head to image right, `pitch` > 0 nods it down, `roll` > 0 tilts it
counter-clockwise in the image. `gaze_yaw`, `gaze_pitch` turn the eyes in the head: > 0 is image right and up (the
label of an image, labels.py, is in the camera frame with down positive). `tx` > 0 moves right, `ty` > 0 moves up, in
head units. `dist` is the distance to the camera over its mean. `blink_l` and `blink_r` are the eyes on the image's
right and left (the person's left and right): 0 open, 1 closed. The rest are muscle-like weights, 0 at rest, about 1
at full strength; several go negative.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import EMOTIONS
from vasa_jax.corpus.performance.visemes import EMOTION_OFFSETS, MOTION_NAMES, MOTION_NEUTRAL, VISEME_FIELDS, VISEMES

__all__ = [
    "EMOTIONS",
    "EMOTION_OFFSETS",
    "MOTION_NAMES",
    "POSE_FIELDS",
    "VISEMES",
    "VISEME_FIELDS",
    "neutral_motion",
    "sample_motion",
]

POSE_FIELDS = ("yaw", "pitch", "roll", "tx", "ty", "dist")  # where the head is; the rest is what the face does


def neutral_motion() -> dict[str, jax.Array]:
    """Returns the face at rest, looking into the camera: a float32 scalar per name."""
    return {name: jnp.float32(value) for name, value in MOTION_NEUTRAL.items()}


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
        """Draws symmetrically in [-limit, limit], densest in the middle."""
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

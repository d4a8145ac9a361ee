"""Models of any size with random parameters, to measure speed: it does not depend on the values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import IDENTITY_POSE, MOTION_DIM, POSE_DIM, SAMPLE_RATE
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.models.face import init_face
from vasa_jax.models.motion import MotionConditions, VASADiffusionTransformer
from vasa_jax.models.variants import AUDIO_VARIANTS, FACE_VARIANTS, MOTION_VARIANTS


def random_like(shapes: Any) -> Any:
    """Draws small random float32 values in the place of a tree of shapes."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(0.02 * rng.standard_normal(s.shape), jnp.float32), shapes)


def model_conditions(model: VASADiffusionTransformer, batch: int) -> MotionConditions:
    """Returns conditions that are all known and zero."""
    known = jnp.ones((batch,), bool)
    return MotionConditions(
        audio=jnp.zeros((batch, model.window, model.audio_dim)),
        prev_motion=jnp.zeros((batch, model.previous, model.motion_dim)),
        prev_audio=jnp.zeros((batch, model.previous, model.audio_dim)),
        gaze=jnp.zeros((batch, 2)),
        distance=jnp.zeros((batch, 1)),
        emotion=jnp.zeros((batch, 8)),
        audio_mask=jnp.ones((batch, model.window), bool),
        prev_mask=known,
        gaze_mask=known,
        distance_mask=known,
        emotion_mask=known,
        blinks=jnp.zeros((batch, model.window)) if model.blinks else None,
        blinks_mask=known if model.blinks else None,
    )


def random_generator(face: str, audio: str, motion: str, dtype) -> VideoGenerator:
    """Builds a generator of these sizes with random parameters."""
    fields = MOTION_VARIANTS[motion] | {"audio_dim": AUDIO_VARIANTS[audio]["width"]}
    encoder, transformer = audio_encoder(AUDIO_VARIANTS[audio]), VASADiffusionTransformer(**fields)
    noisy, t = jnp.zeros((1, transformer.window, MOTION_DIM)), jnp.zeros((1,), jnp.int32)
    key, conditions = jax.random.key(0), model_conditions(transformer, 1)
    face_shapes = jax.eval_shape(lambda: init_face(key, face))
    audio_shapes = jax.eval_shape(encoder.init, key, jnp.zeros((1, SAMPLE_RATE)))["params"]
    motion_shapes = jax.eval_shape(transformer.init, key, noisy, t, conditions)["params"]
    mean = np.zeros(MOTION_DIM, np.float32)
    mean[:POSE_DIM] = IDENTITY_POSE
    statistics = {"mean": mean, "std": np.full(MOTION_DIM, 0.1, np.float32)}
    parts = {
        "face": (random_like(face_shapes), {"fields": FACE_VARIANTS[face]}),
        "audio": (random_like(audio_shapes), {"fields": AUDIO_VARIANTS[audio]}),
        "motion": (
            {"transformer": random_like(motion_shapes), "statistics": statistics},
            {"fields": fields, "trained_controls": ["gaze", "distance", "emotion", "blinks"]},
        ),
    }
    return VideoGenerator(parts, dtype=dtype)

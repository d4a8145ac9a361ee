"""A complete model of tiny size with random parameters, saved as generation expects it."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from random_params import random_params

from vasa_jax.conventions import MOTION_DIM
from vasa_jax.models.audio import AudioEncoder
from vasa_jax.models.face import init_face
from vasa_jax.models.motion import MotionConditions, VASADiffusionTransformer
from vasa_jax.models.variants import AUDIO_VARIANTS, FACE_VARIANTS, MOTION_VARIANTS
from vasa_jax.weights.safetensors_io import save_params

WINDOW, PREVIOUS = 12, 4


def save_tiny_model(
    directory: Path, trained_controls: tuple[str, ...] = ("gaze", "distance", "emotion", "blinks")
) -> Path:
    """face, audio and motion .safetensors in `directory`."""
    face = random_params(lambda key: init_face(key, "face_tiny"))
    save_params(directory / "face.safetensors", face, {"fields": FACE_VARIANTS["face_tiny"]})
    fields = AUDIO_VARIANTS["audio_tiny"]
    audio = random_params(AudioEncoder(**fields).init, jnp.zeros((1, 16_080)))["params"]
    save_params(directory / "audio.safetensors", audio, {"fields": fields})
    fields = MOTION_VARIANTS["motion_tiny"] | {"window": WINDOW, "previous": PREVIOUS, "audio_dim": fields["width"]}
    conditions = MotionConditions(
        audio=jnp.zeros((1, WINDOW, fields["audio_dim"])),
        prev_motion=jnp.zeros((1, PREVIOUS, MOTION_DIM)),
        prev_audio=jnp.zeros((1, PREVIOUS, fields["audio_dim"])),
        gaze=jnp.zeros((1, 2)),
        distance=jnp.zeros((1, 1)),
        emotion=jnp.zeros((1, 8)),
        audio_mask=jnp.ones((1, WINDOW), bool),
        **{f"{name}_mask": jnp.ones((1,), bool) for name in ("prev", "gaze", "distance", "emotion")},
    )
    noisy, t = jnp.zeros((1, WINDOW, MOTION_DIM)), jnp.zeros((1,), jnp.int32)
    mean = np.zeros(MOTION_DIM, np.float32)
    mean[[0, 4]] = 1.0  # the identity rotation
    parts = {
        "transformer": random_params(VASADiffusionTransformer(**fields).init, noisy, t, conditions)["params"],
        "statistics": {"mean": mean, "std": np.full(MOTION_DIM, 0.1, np.float32)},
    }
    metadata = {"fields": fields, "trained_controls": list(trained_controls)}
    save_params(directory / "motion.safetensors", parts, metadata)
    return directory

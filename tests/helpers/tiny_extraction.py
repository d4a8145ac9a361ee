"""An extraction of motion latents at tiny size: random encoders, made-up clips, and no rendering."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from random_params import random_params

from vasa_jax.config import CorpusConfig, MotionConfig, VASAConfig
from vasa_jax.corpus.clip_set import FRAMES, SAMPLES, ClipSet
from vasa_jax.models.audio import AudioEncoder
from vasa_jax.models.face import init_face
from vasa_jax.models.variants import AUDIO_VARIANTS, FACE_VARIANTS
from vasa_jax.weights.safetensors_io import save_params

WINDOW, PREVIOUS = 12, 4


@classmethod
def fake_make(cls, corpus, count, split, seed) -> ClipSet:
    """In the place of ClipSet.make: noise for sound, motion and labels."""
    rng = np.random.default_rng(0)
    return ClipSet(
        samples=rng.integers(-3000, 3000, (count, 2, SAMPLES)).astype(np.int16),
        phonemes=np.zeros((count, 2 * FRAMES), np.int16),
        stress=np.zeros((count, 2 * FRAMES), np.float16),
        energy=np.zeros((count, 2 * FRAMES), np.float16),
        motion=rng.normal(size=(count, FRAMES, 27)).astype(np.float32),
        gaze=rng.normal(size=(count, 2)).astype(np.float32),
        distance=rng.normal(1.0, 0.1, count).astype(np.float32),
        emotion=rng.dirichlet(np.ones(8), count).astype(np.float32),
    )


def fake_motion(extractor, params, key, curves) -> jax.Array:
    """In the place of MotionExtractor._motion: a function of the head and of the clip."""
    return jax.random.normal(key, (FRAMES, 137)) + jnp.asarray(curves[:, :1])


def extraction_config(parts: Path) -> VASAConfig:
    """The job on 5 clips, 2 per shard, with encoders saved in `parts`."""
    face = random_params(lambda key: init_face(key, "face_tiny"))
    save_params(parts / "face.safetensors", face, {"fields": FACE_VARIANTS["face_tiny"]})
    fields = AUDIO_VARIANTS["audio_tiny"]
    audio = random_params(AudioEncoder(**fields).init, jnp.zeros((1, 16_000)))["params"]
    save_params(parts / "audio.safetensors", audio, {"fields": fields})
    motion = MotionConfig(
        variant="motion_tiny", face=str(parts), audio=str(parts), window=WINDOW, previous=PREVIOUS, clips_per_shard=2
    )  # fmt: skip
    return VASAConfig(job="extract_motion", motion=motion, corpus=CorpusConfig(clips=5, voices_per_clip=2))

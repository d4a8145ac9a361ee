"""Checks the annotations of the library in the tests: shapes in jaxtyping's words, and the plain types beside them.

tests/conftest.py calls `check_annotations` before anything of the library is imported. Programs that run without pytest
know nothing of it.
"""

import inspect
from collections.abc import Callable

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype

ROOMS = (
    "corpus.heads.style",
    "corpus.photos",
    "diffusion",
    "evaluation.capp",
    "evaluation.face_readings",
    "evaluation.frechet",
    "evaluation.image_metrics",
    "evaluation.metrics",
    "evaluation.photo_figures",
    "evaluation.photo_motion",
    "evaluation.photo_people",
    "evaluation.picture_features",
    "evaluation.picture_judges",
    "evaluation.recognition",
    "evaluation.sound_scores",
    "evaluation.stage",
    "evaluation.sync",
    "evaluation.sync_probe",
    "evaluation.video_metrics",
    "evaluation.watched_video",
    "generation.animator",
    "generation.cut_out",
    "generation.ditto",
    "generation.ditto_motion",
    "generation.joyvasa",
    "generation.lip_guide",
    "generation.open_stream",
    "generation.person_matte",
    "generation.pose_refinement",
    "generation.sampler",
    "generation.windows",
    "losses",
    "models",
    "preparation.heard_mouth",
    "preparation.landmark_labels",
    "training.augmentation",
    "training.mel_changes",
    "training.placement",
    "training.tasks.capp_data",
    "training.tasks.face_forward",
    "training.tasks.face_gan",
    "training.tasks.face_mixture",
    "training.tasks.face_pairs",
    "training.tasks.face_probe",
    "training.tasks.lips_articulation",
    "training.tasks.lips_data",
    "training.tasks.lips_direction",
    "training.tasks.lips_ear",
    "training.tasks.loss_networks",
    "training.tasks.matte_data",
    "training.tasks.motion_data",
    "training.tasks.sync_data",
)  # packages and modules whose annotations name shapes

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # the tower: a whole number passes for a float


def check_annotations() -> None:
    """Has every function and dataclass of ROOMS check its arguments and results from now on."""
    jaxtyping.Array = jax.Array | np.ndarray  # what JAX's own functions take
    jaxtyping.install_import_hook([f"vasa_jax.{room}" for room in ROOMS], "typecheck.checked")


def unchecked(function: Callable) -> Callable:
    """A function as programs know it: it refuses by itself what does not fit."""
    return inspect.unwrap(function)

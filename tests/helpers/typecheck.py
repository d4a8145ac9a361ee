"""Checks the annotations of the library in the tests: shapes in jaxtyping's words, and the plain types beside them.

tests/conftest.py hangs `checked` on every function of ROOMS before they are imported. Programs that run without pytest
know nothing of it.
"""

from beartype import BeartypeConf, beartype

ROOMS = (
    "corpus.heads",
    "corpus.photos",
    "data.augmentation",
    "diffusion",
    "evaluation.face_readings",
    "evaluation.image_metrics",
    "evaluation.metrics",
    "evaluation.stage",
    "generation.windows",
    "losses",
    "models",
    "training.tasks.motion_data",
)  # packages and modules whose annotations name shapes

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # the tower: a whole number passes for a float

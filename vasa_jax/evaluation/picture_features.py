"""What networks see in single pictures: features for FID, and coefficients of a morphable face for AED, APD and E-FID.

Both need a file that the user has (weights/published_networks.py). FID is the Fréchet distance of the 2048 features of
the published Inception (Heusel et al. 2017). AED and APD are mean absolute differences of Deep3DFaceRecon's expression
coefficients and angles from the truth's; E-FID is the Fréchet distance of its expression coefficients.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vasa_jax.filling import in_batches
from vasa_jax.models import face_model, inception
from vasa_jax.models.face_model import FaceModelNetwork
from vasa_jax.models.inception import Inception

EVERY = 5  # frames of a video
EXPRESSIONS, ANGLES = face_model.GROUPS["expression"], face_model.GROUPS["angles"]
# Deep3DFaceRecon's mean face: eyes (image left, right), tip of the nose, corners of the mouth; x right, y up, z out.
STANDARD_POINTS = np.array([
    [-0.31148657, 0.29036078, 0.13377953], [0.30979887, 0.28972036, 0.13179526], [0.0032535, -0.04617932, 0.55244243],
    [-0.25216928, -0.38133916, 0.22405732], [0.2484662, -0.38128236, 0.22235769],
])  # fmt: skip
ALIGNED = 102.0  # pixels of a unit of that face in the aligned picture
_BATCH = 8


class InceptionFeatures:
    """The published Inception's features of pictures."""

    def __init__(self, params: dict[str, Any]):
        self._params = jax.device_put(params)

    def __call__(self, pictures: UInt8[np.ndarray, "N n n 3"]) -> Float[np.ndarray, "N 2048"]:
        return in_batches(lambda part: _inception(self._params, part), _BATCH, pictures)


class FaceModel:
    """Deep3DFaceRecon's coefficients of pictures whose faces the face probe has found."""

    def __init__(self, params: dict[str, Any]):
        self._params = jax.device_put(params)

    def __call__(
        self, pictures: UInt8[np.ndarray, "N n n 3"], landmarks: Float[np.ndarray, "N L 2"], points: Sequence[str]
    ) -> Float[np.ndarray, "N 67"]:
        """Returns the 64 coefficients of expression and the three angles in radians of each picture.

        landmarks: in [-1, 1], y down; points: their names.
        """
        five = five_points(landmarks, points)
        faces = [aligned_face(picture, places) for picture, places in zip(pictures, five)]
        return in_batches(lambda part: _coefficients(self._params, part), _BATCH, np.stack(faces))


def five_points(landmarks: Float[np.ndarray, "N L 2"], points: Sequence[str]) -> Float[np.ndarray, "N 5 2"]:
    """Returns the places of STANDARD_POINTS: means of the probe's points of each eye, nose, corners of the lips."""
    groups = ("eye_left_", "eye_right_", "nose_tip", "outer_lip_0", "outer_lip_6")
    chosen = [[i for i, name in enumerate(points) if name.startswith(group)] for group in groups]
    return np.stack([landmarks[:, rows].mean(1) for rows in chosen], axis=1)


def aligned_face(
    picture: UInt8[np.ndarray, "n n 3"], places: Float[np.ndarray, "5 2"]
) -> UInt8[np.ndarray, "224 224 3"]:
    """Moves and resizes a picture as Deep3DFaceRecon was taught (its `align_img`); beyond the picture is black.

    places: of STANDARD_POINTS, in [-1, 1], y down.
    """
    size, side = len(picture), face_model.SIDE
    pixels = (np.asarray(places, np.float64) + 1.0) / 2.0 * size - 0.5
    pixels[:, 1] = size - 1 - pixels[:, 1]  # y up
    middle, scale = weak_perspective(pixels)
    scale = ALIGNED / scale
    whole = int(size * scale)
    left = int(whole / 2 - side / 2 + (middle[0] - size / 2) * scale)
    top = int(whole / 2 - side / 2 + (size / 2 - middle[1]) * scale)
    resized = Image.fromarray(picture).resize((whole, whole), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def weak_perspective(pixels: Float[np.ndarray, "5 2"]) -> tuple[Float[np.ndarray, "2"], float]:
    """Fits STANDARD_POINTS to places by least squares: (where their origin is, pixels of a unit)."""
    known = np.concatenate([STANDARD_POINTS, np.ones((len(STANDARD_POINTS), 1))], axis=1)
    solution = np.linalg.lstsq(known, pixels, rcond=None)[0]
    return solution[3], float(np.linalg.norm(solution[:3], axis=0).mean())


def coefficient_distances(own: Float[np.ndarray, "N 67"], truth: Float[np.ndarray, "M 67"]) -> dict[str, float]:
    """Returns `aed` and `apd` (radians) over the pictures that both have."""
    both = min(len(own), len(truth))
    apart = np.abs(np.asarray(own[:both], np.float64) - truth[:both])
    return {"aed": float(apart[:, :EXPRESSIONS].mean()), "apd": float(apart[:, EXPRESSIONS:].mean())}


@jax.jit
def _inception(params, pictures):
    """Bilinear without antialiasing, as the PyTorch port resizes."""
    size = (len(pictures), inception.SIDE, inception.SIDE, 3)
    resized = jax.image.resize(pictures.astype(jnp.float32) / 255.0, size, "linear", antialias=False)
    return Inception().apply({"params": params}, 2.0 * resized - 1.0)


@jax.jit
def _coefficients(params, faces):
    found = FaceModelNetwork().apply({"params": params}, faces.astype(jnp.float32) / 255.0)
    starts = dict(zip(face_model.GROUPS, np.cumsum([0, *face_model.GROUPS.values()]), strict=False))
    groups = [found[:, starts[name] : starts[name] + face_model.GROUPS[name]] for name in ("expression", "angles")]
    return jnp.concatenate(groups, axis=1)

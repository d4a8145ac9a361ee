"""Fréchet distances between sets of videos: FVD, FID, E-FID by published networks; FRD, FPD, EFRD by our face probe.

Only the published networks' distances are called FVD, FID and E-FID (picture_features.py). FRD, the Fréchet distance of
readings, compares how faces move and is blind to how pictures look; its numbers and FVD's have nothing to do with each
other. FPD compares how single pictures look to the probe's first layers, in the place of FID. EFRD compares the
expressions of single frames, in the place of E-FID, which has the coefficients of a published face model.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.conventions import head_angles
from vasa_jax.evaluation.face_readings import Measurements
from vasa_jax.evaluation.stage import lip_shape
from vasa_jax.models.i3d import I3D, SIDE

CLIP = 25  # frames of a clip: VASA-1's FVD_25
SMALLEST_EIGENVALUE = 1e-10  # below, an eigenvalue is not replaced by its root, as in the published code


class Gaussian(NamedTuple):
    """Mean (D,) and covariance (D, D), float64; the covariance is over count - 1."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


def gaussian(features: Float[np.ndarray, "N D"]) -> Gaussian:
    """Fits a Gaussian to N >= 2 feature vectors. ValueError for fewer."""
    features = np.asarray(features, np.float64)
    if len(features) < 2:
        raise ValueError(f"two feature vectors are needed for a covariance, not {len(features)}")
    centred = features - features.mean(0)
    return Gaussian(features.mean(0), centred.T @ centred / (len(features) - 1), len(features))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Returns |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64; never less than 0, as rounding may make it."""
    root = _root(a.covariance)
    cross = np.trace(_root(root @ b.covariance @ root))
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross
    return max(float(np.square(a.mean - b.mean).sum() + spread), 0.0)


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a covariance."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    values = np.where(values < SMALLEST_EIGENVALUE, np.maximum(values, 0.0), np.sqrt(np.maximum(values, 0.0)))
    return (vectors * values) @ vectors.T


def clip_starts(frames: int) -> range:
    """Returns where the consecutive clips of a video begin; what is left at its end is not used."""
    return range(0, frames - CLIP + 1, CLIP)


def reading_features(reading: Measurements) -> Float[np.ndarray, "clips 24"]:
    """Returns FRD's features: mean, deviation and mean change of mouth, lids, gaze and head angles in each clip.

    Angles in units of ten degrees, so that all are of order one.
    """
    tracks = np.concatenate(
        [reading.mouth[:, None] * 5.0, reading.lids, reading.gaze / 10.0, head_angles(reading.pose) / 10.0], axis=1
    ).astype(np.float64)
    clips = [tracks[start : start + CLIP] for start in clip_starts(len(tracks))]
    features = [np.concatenate([c.mean(0), c.std(0), np.abs(np.diff(c, axis=0)).mean(0)]) for c in clips]
    return np.array(features).reshape(len(clips), 3 * tracks.shape[1])


def expression_features(reading: Measurements, points: Sequence[str]) -> Float[np.ndarray, "T 7"]:
    """Returns EFRD's features of each frame: mouth, lids, gaze, and width and height of the lips, all of order one."""
    lips = lip_shape(reading.landmarks, reading.pose, list(points))
    parts = [reading.mouth[:, None] * 5.0, reading.lids, reading.gaze / 10.0, lips * 5.0]
    return np.concatenate(parts, axis=1).astype(np.float64)


class VideoFeatures:
    """The 400 logits of the published I3D for clips of 25 frames."""

    def __init__(self, params: dict[str, Any]):
        self._params = jax.device_put(params)

    def __call__(self, frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "clips 400"]:
        """Returns the features of the consecutive clips of a video whose frames are all of one size."""
        frames = list(frames)
        clips = [np.stack(frames[start : start + CLIP]) for start in clip_starts(len(frames))]
        return np.array([np.asarray(_logits(self._params, clip)) for clip in clips]).reshape(len(clips), -1)


@jax.jit
def _logits(params, clip):
    """uint8 (25, h, w, 3) -> (400,). Bilinear without antialiasing, as the published evaluation resizes."""
    size = (clip.shape[0], SIDE, SIDE, 3)
    resized = jax.image.resize(clip.astype(jnp.float32), size, "linear", antialias=False)
    return I3D().apply({"params": params}, (2.0 * resized / 255.0 - 1.0)[None])[0]

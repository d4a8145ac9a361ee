"""From z-scored samples of the transformer to motion vectors of a portrait, with the controls that act on frames."""

import numpy as np

from vasa_jax.conventions import IDENTITY_POSE, POSE_DIM, rotation_columns, rotation_matrices
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.schedule import ConditionSchedule

_PLACE = slice(6, POSE_DIM)  # log scale, tx, ty


def finish_motion(
    sample: np.ndarray,
    first: int,
    schedule: ConditionSchedule,
    mean: np.ndarray,
    std: np.ndarray,
    portrait: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the motion, float32 (T, 137), of z-scored (T, 137), frames `first`... of the video.

    Applied in this order: pose amplitude, `pose_anchor`, a given head pose, `animate`. The amplitude scales rotation,
    log scale and position about the training set's mean. The anchor puts the portrait's own rotation, scale and
    position in the place of that mean: a head that looks aside goes on doing so. A head pose sets the rotation alone:
    scale and position stay generated. `animate` keeps the pose or the dynamics at the portrait's.

    portrait: the portrait's own motion vector (137,); without one the training set's mean stands for it.
    """
    controls = schedule.controls
    motion = sample * std + mean
    amplitude = schedule.frames("pose_amplitude", first, len(motion))
    if np.any(amplitude != 1.0):
        motion[:, :6] = scaled_rotation(motion[:, :6], mean[:6], amplitude)
        motion[:, _PLACE] = mean[_PLACE] + amplitude[:, None] * (motion[:, _PLACE] - mean[_PLACE])
    if portrait is not None and controls.pose_anchor == "portrait":
        motion = about_portrait(motion, portrait, mean)
    angles = schedule.frames("head_pose", first, len(motion))
    if angles is not None:
        motion[:, :6] = rotation_columns(angles)
    rest = mean if portrait is None else portrait
    if controls.animate == "pose":
        motion[:, POSE_DIM:] = rest[POSE_DIM:]
    elif controls.animate == "dynamics":
        motion[:, :POSE_DIM] = rest[:POSE_DIM]
    return motion


def anchor_turn(controls: Controls, mean: np.ndarray, portrait: np.ndarray | None) -> np.ndarray | None:
    """Returns the rotation, float64 (3, 3), that `finish_motion` gives generated heads: from the mean pose to the
    portrait's, in the camera's frame. None where they keep their own, or where a head pose takes its place."""
    if portrait is None or controls.pose_anchor != "portrait" or controls.head_pose is not None:
        return None
    return _turn(mean, portrait)


def about_portrait(motion: np.ndarray, portrait: np.ndarray, rest: np.ndarray | None = None) -> np.ndarray:
    """Returns motion (T, 9 and more) about the portrait's pose (9,) that varied about `rest` (9,).

    Turn, scale and position. rest: None is a head that looks ahead, at the motion's own mean scale and position.
    """
    if rest is None:
        rest = np.concatenate([IDENTITY_POSE[:6], motion[:, _PLACE].mean(0)])
    moved = motion.copy()
    moved[:, _PLACE] += portrait[_PLACE] - rest[_PLACE]
    moved[:, :6] = _columns(_turn(rest, portrait) @ rotation_matrices(motion))
    return moved


def _turn(rest: np.ndarray, portrait: np.ndarray) -> np.ndarray:
    return rotation_matrices(portrait[:6]) @ rotation_matrices(rest[:6]).T


def scaled_rotation(columns: np.ndarray, rest: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Returns rotations (T, 6) turned towards rest rotations (6,) or (T, 6): angles to them times `amplitude` (T,)."""
    from scipy.spatial.transform import Rotation

    base = Rotation.from_matrix(rotation_matrices(rest))
    turn = (base.inv() * Rotation.from_matrix(rotation_matrices(columns))).as_rotvec()
    matrix = (base * Rotation.from_rotvec(turn * amplitude[:, None])).as_matrix()
    return _columns(matrix).astype(np.float32)


def _columns(rotation: np.ndarray) -> np.ndarray:
    """The first two columns (T, 6) of rotations (T, 3, 3)."""
    return np.concatenate([rotation[:, :, 0], rotation[:, :, 1]], axis=-1)

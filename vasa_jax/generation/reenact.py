"""From the motion of a driving face to that of a portrait, for the volume codec.

In relative mode the portrait moves as the driving face has moved since its first frame; in absolute mode it takes the
driving face's pose and dynamics. Keypoint codecs have rules of their own (`keypoint_driving.py`).
"""

import numpy as np

from vasa_jax.conventions import POSE_DIM, rotation_matrices
from vasa_jax.errors import InputError
from vasa_jax.generation.driving import KEYPOINT_REGIONS, Driving
from vasa_jax.generation.driving_motion import DrivingMotion
from vasa_jax.generation.motion_edit import scaled_rotation
from vasa_jax.generation.motion_smoothing import steadied

_SCALE, _SHIFT = 6, slice(7, POSE_DIM)
_REST = {"auto": "nearest"}
_KEYPOINTS_ONLY = ("eye_openness", "lip_openness", "close_lips", "retarget_eyes", "retarget_lips", "steady_eyes")


def driven_motion(portrait: np.ndarray, driving: DrivingMotion, how: Driving) -> np.ndarray:
    """Returns the motion (T, 9 + Z) of a portrait whose own is (9 + Z,), driven as `how` says.

    The portrait's own may also be one per frame, (T, 9 + Z): that of a source video, as long as the driving motion.

    In this order: smoothing of what was read; region and mode; the multipliers, about the portrait's own.

    | | relative | absolute |
    |---|---|---|
    | rotation (all, pose) | R_s R_0^T R_i | R_i |
    | position (all, pose) | t_s + t_i - t_0 | t_i |
    | log scale | s_s + s_i - s_0 (all), s_s (pose) | s_s |
    | dynamics (all, expression) | z_s + z_i - z_r | z_i |

    Frame r is the first, or by default the one whose dynamics are nearest to the portrait's. In a source video that is
    its first frame's. Were r a frame with an open mouth, open mouths would change nothing.

    InputError for what this codec cannot do: its dynamics are one vector, which does not tell lips from eyes.
    """
    if how.region in KEYPOINT_REGIONS:
        raise InputError(
            f"config.region: {how.region} cannot be told apart by this codec, whose dynamics move the whole face; "
            "choose all, pose or expression, or give a keypoint codec's config.checkpoint"
        )
    for name in _KEYPOINTS_ONLY:
        if getattr(how, name) != getattr(Driving, name):
            raise InputError(f"config.{name}: only keypoint codecs can do that; leave it out, or give their checkpoint")
    moved = steadied(driving.vectors, how.driving_smoothing)
    own = np.broadcast_to(portrait.astype(np.float64), moved.shape)
    result = own.copy()
    relative = how.mode == "relative"
    if how.region in ("all", "pose"):
        result[:, :6] = turned(own, moved, relative)
        result[:, _SHIFT] = moved[:, _SHIFT] + (own[:, _SHIFT] - moved[0, _SHIFT] if relative else 0.0)
    if how.region == "all" and relative:
        result[:, _SCALE] += moved[:, _SCALE] - moved[0, _SCALE]
    if how.region in ("all", "expression"):
        rest = rest_frame(own[0, POSE_DIM:], moved[:, POSE_DIM:], _REST.get(how.driving_rest, how.driving_rest))
        wanted = moved[:, POSE_DIM:] + (own[:, POSE_DIM:] - moved[rest, POSE_DIM:] if relative else 0.0)
        result[:, POSE_DIM:] += how.expression_multiplier * (wanted - own[:, POSE_DIM:])
    if how.driving_multiplier != 1.0:
        scale = np.full(len(moved), how.driving_multiplier)
        result[:, :6] = scaled_rotation(result[:, :6], own[:, :6], scale)
        result[:, 6:] = own[:, 6:] + how.driving_multiplier * (result[:, 6:] - own[:, 6:])
    return result.astype(np.float32)


def rest_frame(own: np.ndarray, read: np.ndarray, which: str) -> int:
    """Returns the number of the frame from which changes of a face count.

    own: dynamics of the portrait (Z,); read: of the driving face (T, Z); which: first, or nearest to the portrait's
    (the best frame of Siarohin et al. 2019).
    """
    return int(np.linalg.norm(read - own, axis=1).argmin()) if which == "nearest" else 0


def turned(portrait: np.ndarray, moved: np.ndarray, relative: bool) -> np.ndarray:
    """Returns the first two columns of rotations, (T, 6): R_s R_0^T R_i, or R_i, of motion vectors (T, 9 + Z).

    portrait: the portrait's own, (9 + Z,) or one per frame.
    """
    rotation = rotation_matrices(moved[:, :6])
    if relative:
        rotation = rotation_matrices(portrait[..., :6]) @ rotation[0].T @ rotation
    return np.concatenate([rotation[..., 0], rotation[..., 1]], -1)

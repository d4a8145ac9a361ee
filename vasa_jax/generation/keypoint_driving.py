"""From the motion of a driving face to that of a portrait, for keypoint codecs: LivePortrait's rules, in its order.

A keypoint is x = s (R k + e) + t with the portrait's own k (columns; LivePortrait writes rows, with its R transposed).
The rules first choose R, e, s and t, then move the posed keypoints themselves: by the sizes of the faces, by networks
for stitching and retargeting, and by a multiplier. What comes out is again a motion vector, with the portrait's own
pose and displacements that put each keypoint in its place: after this, either codec is rendered in the same way.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from vasa_jax.conventions import POSE_DIM, rotation_matrices
from vasa_jax.errors import InputError
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import DrivingMotion
from vasa_jax.generation.motion_smoothing import smoothed
from vasa_jax.generation.reenact import rest_frame, turned
from vasa_jax.models.keypoints import LIVE_PORTRAIT_KEYPOINTS as KEYPOINTS

# What follows is known of LivePortrait's keypoints only.
# Rows that move with the lips, and with the eyes.
LIPS, EYES = (6, 12, 14, 17, 19, 20), (11, 13, 15, 16, 18)
_WHOLE = (1, 2, 6, *range(11, 21))  # of these keypoints all coordinates follow an absolute expression
_PART = ((3, 1), (4, 1), (5, 2), (8, 2), (9, 1), (9, 2))  # of these only one: keypoint, coordinate
SOURCE_NOISE = 0.03  # of a source video's smoothing: variance of a reading over that of a frame's motion
LIPS_CLOSED = 0.03  # a portrait's lips that are less open than this are left as they are
EYES_CLOSED, EYES_WIDE = 0.18, 0.39  # a source video whose eyes are less open than the one at first has the other
# Displacements of a face at rest with closed lips, (keypoint, coordinate): what a single driving picture is
# compared with. The others are below 0.0003.
_NEUTRAL = {
    (1, 1): 0.0005, (2, 1): 0.0003, (3, 1): -0.0005, (7, 0): -0.0005, (7, 1): 0.0026, (9, 2): -0.0004, (14, 0): -0.0008,
    (14, 1): -0.0018, (17, 0): -0.0006, (17, 1): -0.0012, (19, 1): -0.0151, (19, 2): -0.0025, (20, 1): 0.0056,
    (20, 2): 0.0027,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Retargeting:
    """The codec's small networks, each (N, K, 3) float to the same.

    stitch: (portrait's, driven) -> adjusted keypoints; lips: (portrait's, openness (N, 2): own, wanted) -> what is
    added; eyes: the same with openness (N, 3): own left, own right, wanted.
    """

    stitch: Callable[[np.ndarray, np.ndarray], np.ndarray]
    lips: Callable[[np.ndarray, np.ndarray], np.ndarray]
    eyes: Callable[[np.ndarray, np.ndarray], np.ndarray]


def driven_keypoint_motion(
    canonical: np.ndarray,
    portrait: np.ndarray,
    driving: DrivingMotion,
    how: Driving,
    networks: Retargeting | None = None,
    openness: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the motion (T, 9 + 3 K) of a portrait with canonical keypoints (K, 3) and own motion (9 + 3 K,).

    In this order: smoothing of what was read; R, e, s, t by region and mode, and the keypoints they pose; the scale by
    the faces' sizes; the closing of lips or the retargeting, and stitching; the multiplier.

    networks: None where the checkpoint has none: nothing is stitched or retargeted. openness: of the portrait's left
    eye, right eye and lips, (3,), in a source video (T, 3). It is needed where `how` asks for lips or eyes, and
    `driving.openness` where they follow the driving face's.
    """
    moved = smoothed(driving.vectors, how.driving_smoothing or 0.0)
    source = _posed(canonical, portrait[None].astype(np.float64))[0]
    driven = _posed(canonical, _chosen(portrait.astype(np.float64), moved, how, driving.absolute_lips))
    relative, many = how.mode == "relative", len(moved) > 1
    # Counted from another frame than the first, what is driven begins elsewhere than at the portrait.
    if relative and many and how.expression_friendly and how.driving_rest != "nearest":
        factor = np.sqrt(_volume(source)) / np.sqrt(_volume(driven[0]))
        driven = source + (driven - driven[0]) * factor
    return _finished(canonical, portrait, driven, how, networks, openness, driving.openness)


def dubbed_keypoint_motion(
    canonical: np.ndarray,
    own: np.ndarray,
    driving: DrivingMotion,
    how: Driving,
    networks: Retargeting | None = None,
    openness: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the motion (T, 9 + 3 K) of the frames of a source video, canonical keypoints (T, K, 3), own (T, 9 + 3 K).

    LivePortrait's rules for a video in the portrait's place: rotation and expression are smoothed after they are
    chosen, by SOURCE_NOISE where `how` does not say; of the expression only what an absolute one takes is taken; sizes,
    and in relative mode places, stay the source's. The other arguments are those of `driven_keypoint_motion`.
    """
    own, moved = own.astype(np.float64), driving.vectors.astype(np.float64)
    noise = SOURCE_NOISE if how.driving_smoothing is None else how.driving_smoothing
    result, relative, count = own.copy(), how.mode == "relative", canonical.shape[1]
    if len(moved) == 1:
        moved = np.repeat(moved, len(own), 0)
    if how.region in ("all", "pose"):
        result[:, :6] = smoothed(turned(own, moved, relative), noise)
        if not relative:
            result[:, 7:POSE_DIM] = moved[:, 7:POSE_DIM]
    if how.region != "pose":
        read, before = moved[:, POSE_DIM:], own[:, POSE_DIM:]
        rest = np.zeros_like(read[0])
        if relative:
            single = len(driving) == 1
            rest = _neutral(count).ravel() if single else read[rest_frame(before[0], read, how.driving_rest)]
        wanted = smoothed(read - rest + (before if relative else 0.0), noise)
        taken = _taken(dataclasses.replace(how, mode="absolute"), count).ravel()
        result[:, POSE_DIM:] = np.where(taken, before + how.expression_multiplier * (wanted - before), before)
    return _finished(canonical, own, _posed(canonical, result), how, networks, openness, driving.openness)


def adjusted_motion(
    canonical: np.ndarray,
    portrait: np.ndarray,
    vectors: np.ndarray,
    how: Driving,
    networks: Retargeting | None = None,
    openness: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the motion (T, 9 + 3 K) of a portrait that takes motion vectors (T, 9 + 3 K) as they are.

    What follows the choice of motion in `driven_keypoint_motion` follows here too; the arguments are the same.
    """
    return _finished(canonical, portrait, _posed(canonical, vectors), how, networks, openness)


def _finished(
    canonical: np.ndarray, portrait: np.ndarray, driven: np.ndarray, how: Driving, networks: Retargeting | None,
    openness: np.ndarray | None, asked: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """What follows the choice of motion; canonical and portrait may be one per frame; asked: the driver's openness."""
    source = _posed(canonical, np.atleast_2d(portrait).astype(np.float64))
    driven = _adjusted(source, driven, how, networks, openness, asked)
    driven = source + how.driving_multiplier * (driven - source)
    return _as_motion(canonical, portrait, driven)


def _chosen(portrait: np.ndarray, moved: np.ndarray, how: Driving, absolute_lips: bool = False) -> np.ndarray:
    """Returns motion vectors (T, 9 + 3 K): whose R, e, s and t they take."""
    result = np.repeat(portrait[None], len(moved), 0)
    relative, single = how.mode == "relative", len(moved) == 1
    if how.region in ("all", "pose"):
        result[:, :6] = turned(portrait, moved, relative)
        result[:, 7:POSE_DIM] = moved[:, 7:POSE_DIM] + (portrait[7:POSE_DIM] - moved[0, 7:POSE_DIM] if relative else 0)
    if how.region == "all" and relative:
        result[:, 6] += moved[:, 6] - moved[0, 6]
    if how.region == "pose":
        return result
    own, read = portrait[POSE_DIM:].reshape(-1, 3), moved[:, POSE_DIM:].reshape(len(moved), -1, 3)
    rest = read[rest_frame(own.ravel(), moved[:, POSE_DIM:], how.driving_rest)] if relative else np.zeros_like(own)
    if relative and single:
        rest = np.zeros_like(own) if how.region == "eyes" else _neutral(len(own))
    wanted = read - rest + (own if relative else 0.0)
    if absolute_lips and len(own) == KEYPOINTS:
        wanted[:, list(LIPS)] = read[:, list(LIPS)]
    taken = np.broadcast_to(_taken(how, len(own)), wanted.shape)
    changed = own + how.expression_multiplier * (wanted - own)
    result[:, POSE_DIM:] = np.where(taken, changed, own).reshape(len(moved), -1)
    return result


def _taken(how: Driving, count: int) -> np.ndarray:
    """Returns which displacements follow the driving face, bool (K, 3); InputError where that is not known."""
    if count != KEYPOINTS:
        if how.region in ("lip", "eyes"):
            raise InputError(
                f"config.region: which of this codec's {count} keypoints move {how.region} is not known; choose all, "
                "pose or expression"
            )
        return np.ones((count, 3), bool)
    taken = np.zeros((count, 3), bool)
    if how.region in ("lip", "eyes"):
        taken[list(LIPS if how.region == "lip" else EYES)] = True
    elif how.mode == "relative":
        taken[:] = True
    else:
        taken[list(_WHOLE)] = True
        taken[tuple(zip(*_PART))] = True
    return taken


def _adjusted(
    source: np.ndarray, driven: np.ndarray, how: Driving, networks: Retargeting | None, openness: np.ndarray | None,
    asked: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """Retargeting drops the driving motion in relative mode, as LivePortrait does; stitching follows it."""
    if networks is None:
        return driven
    sources, relative = np.broadcast_to(source, driven.shape), how.mode == "relative"
    own = None if openness is None else np.broadcast_to(openness, (len(driven), 3))
    # Of the driving face LivePortrait takes the left eye for both.
    eyes = asked[:, 0] if how.retarget_eyes else how.eye_openness
    lips = asked[:, 2] if how.retarget_lips else how.lip_openness
    if eyes is not None or lips is not None:
        driven = sources if relative else driven
        if eyes is not None:
            driven = driven + networks.eyes(sources, _beside(own[:, :2], eyes))
        if lips is not None:
            driven = driven + networks.lips(sources, _beside(own[:, 2:], lips))
        return networks.stitch(sources, driven) if how.stitching else driven
    if how.stitching:
        driven = networks.stitch(sources, driven)
    if how.close_lips and relative:
        closed = networks.lips(sources, _beside(own[:, 2:], 0.0))
        driven = driven + np.where(own[:, 2:, None] >= LIPS_CLOSED, closed, 0.0)
    if how.steady_eyes:
        first = float(own[0, :2].mean())
        driven = driven + networks.eyes(sources, _beside(own[:, :2], EYES_WIDE if first < EYES_CLOSED else first))
    return driven


def _beside(own: np.ndarray, wanted: float | np.ndarray) -> np.ndarray:
    """Returns the portrait's own openness (T, n) with the wanted one, of all or of each frame, as a last column."""
    return np.column_stack([own, np.broadcast_to(wanted, len(own))])


def _neutral(count: int) -> np.ndarray:
    result = np.zeros((count, 3))
    for place, value in _NEUTRAL.items() if count == KEYPOINTS else ():
        result[place] = value
    return result


def _posed(canonical: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Returns keypoints (T, K, 3) of motion vectors (T, 9 + 3 K): s (R k + e) + t, t_z = 0; k (K, 3), or (T, K, 3)."""
    rotation, scale = rotation_matrices(motion[:, :6]), np.exp(motion[:, 6])
    expression = motion[:, POSE_DIM:].reshape(len(motion), -1, 3)
    shift = np.pad(motion[:, 7:POSE_DIM], ((0, 0), (0, 1)))
    return scale[:, None, None] * (canonical @ rotation.transpose(0, 2, 1) + expression) + shift[:, None]


def _as_motion(canonical: np.ndarray, portrait: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Returns the motion with the portrait's own pose, one or one per frame, that poses these keypoints."""
    count = len(keypoints)
    pose = np.broadcast_to(portrait[..., :POSE_DIM].astype(np.float64), (count, POSE_DIM))
    turn, shift = rotation_matrices(pose[:, :6]), np.pad(pose[:, 7:], ((0, 0), (0, 1)))
    size = np.exp(pose[:, 6])[:, None, None]
    expression = (keypoints - shift[:, None]) / size - canonical @ turn.transpose(0, 2, 1)
    return np.concatenate([pose, expression.reshape(count, -1)], 1).astype(np.float32)


def _volume(keypoints: np.ndarray) -> float:
    """Returns the volume of the convex hull of keypoints (K, 3)."""
    from scipy.spatial import ConvexHull

    return float(ConvexHull(keypoints).volume)

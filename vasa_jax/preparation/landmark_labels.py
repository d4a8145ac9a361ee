"""Labels from face landmarks: pose, gaze, lids, mouth, distance, in the project's conventions.

Landmarks are the 478 points of `face_backends` (set `mediapipe_478`), as (T, 478, 3) float32 in image coordinates:
x, y in [-1, 1], y down; z in the same unit, growing away from the camera. "Left" is the image's left throughout.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vasa_jax.conventions import rotation_matrices

# Points that expressions hardly move, in the canonical frame of `corpus.heads.labels` (origin in the head's centre,
# head of mean size): their least-squares positions over renders of 48 heads whose pose is known exactly, symmetrised,
# then turned by 9 degrees about x. That turn is the difference between the drawn heads and people: without it people
# who face the camera read as looking up by 9 degrees, with it the corpus reads as looking down by 9. But for this
# constant the fit is, on 32 other heads at yaw to +-42 degrees, off by (deviation) 2.7 degrees in yaw, 4.0 in pitch and
# 1.4 in roll, most of it the person's own shape, by 3.6 % in scale and by 0.01 to 0.02 in translation.
CANONICAL_POINTS = {
    1: (0.000, 0.201, -0.458), 4: (0.000, 0.157, -0.468), 5: (0.000, 0.100, -0.449), 6: (0.000, -0.034, -0.341),
    10: (0.000, -0.400, -0.265), 33: (-0.281, -0.049, -0.181), 50: (-0.313, 0.156, -0.225),
    54: (-0.382, -0.274, -0.075), 67: (-0.228, -0.379, -0.216), 93: (-0.426, 0.171, 0.146),
    98: (-0.109, 0.234, -0.316), 117: (-0.338, 0.057, -0.183), 123: (-0.400, 0.143, -0.120),
    127: (-0.441, -0.012, 0.123), 129: (-0.133, 0.189, -0.292), 132: (-0.413, 0.267, 0.127),
    133: (-0.117, -0.038, -0.217), 151: (0.000, -0.303, -0.292), 168: (0.000, -0.094, -0.309),
    195: (0.000, 0.055, -0.412), 197: (0.000, 0.014, -0.376), 234: (-0.433, 0.079, 0.147),
    263: (0.281, -0.049, -0.181), 280: (0.313, 0.156, -0.225), 284: (0.382, -0.274, -0.075),
    297: (0.228, -0.379, -0.216), 323: (0.426, 0.171, 0.146), 327: (0.109, 0.234, -0.316),
    346: (0.338, 0.057, -0.183), 352: (0.400, 0.143, -0.120), 356: (0.441, -0.012, 0.123),
    358: (0.133, 0.189, -0.292), 361: (0.413, 0.267, 0.127), 362: (0.117, -0.038, -0.217), 454: (0.433, 0.079, 0.147),
}  # fmt: skip
_INDICES = np.array(list(CANONICAL_POINTS))
_CANONICAL = np.array(list(CANONICAL_POINTS.values()), np.float64)

EYES = ((33, 133), (362, 263))  # corners of the left and the right eye, left corner first
IRIS = (468, 473)  # centres
LIDS = (((159, 145), (158, 153), (160, 144)), ((386, 374), (385, 380), (387, 373)))  # upper, lower
INNER_LIPS, OUTER_LIPS = (13, 14), (0, 17)  # upper, lower
# The eyeball in units of the eye's width: its centre behind and above the middle of the corners, and the distance of
# the iris from it. Fitted on the same renders; the true eye has 0.35 to 0.4. On the 32 other heads: 4.5 degrees off in
# yaw, 5.2 in pitch beside a constant from the turn above (correlation 0.98, 0.82).
EYEBALL_DEPTH, EYEBALL_DROP, EYEBALL_RADIUS = 0.3, -0.05, 0.35
NEUTRAL_LIDS = 75  # percentile of a clip's openings that is taken for the open eye
OPEN_EYE = 0.5  # of the neutral opening; gaze is not read from eyes that are more closed
# Main gaze (architecture D.1): bins in degrees, and the share of frames that must be near the peak.
GAZE_BIN, GAZE_LIMIT, GAZE_RADIUS, GAZE_SHARE = 5.0, 45.0, 10.0, 0.3


def fit_pose(landmarks: Float[np.ndarray, "T N 3"]) -> Float[np.ndarray, "T 9"]:
    """Fits the pose to landmarks: R[:, 0], R[:, 1], log s, tx, ty with p_image = s R p_canonical + t.

    Least-squares similarity of CANONICAL_POINTS to their landmarks (orthogonal Procrustes, Umeyama 1991).
    """
    points = landmarks[:, _INDICES].astype(np.float64)
    mean, canonical_mean = points.mean(1), _CANONICAL.mean(0)
    canonical = _CANONICAL - canonical_mean
    covariance = np.einsum("tni,nj->tij", points - mean[:, None], canonical)
    u, singular, vt = np.linalg.svd(covariance)
    sign = np.ones_like(singular)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (singular * sign).sum(1) / np.square(canonical).sum()
    shift = mean - scale[:, None] * (rotation @ canonical_mean)
    return np.concatenate([rotation[:, :, 0], rotation[:, :, 1], np.log(scale)[:, None], shift[:, :2]], axis=1).astype(
        np.float32
    )


def gaze_angles(landmarks: Float[np.ndarray, "T N 3"], pose: Float[np.ndarray, "T 9"]) -> Float[np.ndarray, "T 2"]:
    """Returns yaw and pitch of the gaze: degrees, camera frame, positive to image right and down.

    Each iris is a point on an eyeball that is fixed to the head; both eyes are averaged.
    """
    rotation = rotation_matrices(pose)
    behind = rotation @ np.array([0.0, EYEBALL_DROP, EYEBALL_DEPTH])
    offsets = []
    for (left, right), iris in zip(EYES, IRIS):
        width = np.linalg.norm(landmarks[:, left] - landmarks[:, right], axis=-1)[:, None]
        centre = (landmarks[:, left] + landmarks[:, right]) / 2 + behind * width
        offsets.append((landmarks[:, iris, :2] - centre[:, :2]) / (EYEBALL_RADIUS * width))
    offset = (offsets[0] + offsets[1]) / 2
    offset = offset / np.maximum(1.0, np.linalg.norm(offset, axis=-1, keepdims=True) / 0.95)
    forward = np.sqrt(1.0 - np.square(offset).sum(-1))
    yaw, pitch = np.arctan2(offset[:, 0], forward), np.arcsin(offset[:, 1])
    return np.degrees(np.stack([yaw, pitch], axis=-1)).astype(np.float32)


def lid_openings(landmarks: Float[np.ndarray, "T N 3"], pose: Float[np.ndarray, "T 9"]) -> Float[np.ndarray, "T 2"]:
    """Returns the lids' opening, left and right: along the head's vertical, over the eye's width."""
    vertical = pose[:, 3:5]
    vertical = vertical / np.square(vertical).sum(-1, keepdims=True)
    openings = []
    for (left, right), pairs in zip(EYES, LIDS):
        width = np.linalg.norm(landmarks[:, left] - landmarks[:, right], axis=-1)
        gaps = [landmarks[:, lower, :2] - landmarks[:, upper, :2] for upper, lower in pairs]
        openings.append((sum(gaps) / len(gaps) * vertical).sum(-1) / width)
    return np.maximum(np.stack(openings, axis=-1), 0.0).astype(np.float32)


def relative_lids(openings: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 2"]:
    """Returns openings of one clip over that person's open eyes; 0 closed, 1 neutral."""
    neutral = np.maximum(np.percentile(openings, NEUTRAL_LIDS, axis=0), 1e-3)
    return (openings / neutral).astype(np.float32)


def mouth_opening(landmarks: Float[np.ndarray, "T N 3"]) -> Float[np.ndarray, "T"]:
    """Returns the distance between the inner lips over that between the eyes' centres."""
    left, right = (landmarks[:, list(corners)].mean(1) for corners in EYES)
    upper, lower = (landmarks[:, index] for index in INNER_LIPS)
    return (np.linalg.norm(upper - lower, axis=-1) / np.linalg.norm(left - right, axis=-1)).astype(np.float32)


def lip_height(landmarks: Float[np.ndarray, "T N 3"]) -> Float[np.ndarray, "T"]:
    """Returns the distance between the lips' outer edges over that between the eyes' centres.

    Follows loudness better than `mouth_opening` where teeth or blur hide the inner lips.
    """
    left, right = (landmarks[:, list(corners)].mean(1) for corners in EYES)
    upper, lower = (landmarks[:, index] for index in OUTER_LIPS)
    return np.linalg.norm(upper - lower, axis=-1) / np.linalg.norm(left - right, axis=-1)


def lip_motion(landmarks: Float[np.ndarray, "T N 3"]) -> float:
    """Returns the mean change of `lip_height` from frame to frame."""
    return float(np.abs(np.diff(lip_height(landmarks))).mean())


def main_gaze(
    gaze: Float[np.ndarray, "T 2"], lids: Float[np.ndarray, "T 2"] | None
) -> tuple[Float[np.ndarray, "2"] | None, float]:
    """Returns where a clip looks most of the time, (yaw, pitch) in degrees, and the share of frames near it.

    gaze in degrees; lids: None where all frames count. Histogram of the frames with open eyes,
    smoothed by a 3 x 3 box; the mean of the frames within 10 degrees of its peak. None where fewer than 30 % of the
    frames are there.
    """
    usable = gaze if lids is None else gaze[lids.min(-1) > OPEN_EYE]
    if not len(usable):
        return None, 0.0
    edges = np.arange(-GAZE_LIMIT, GAZE_LIMIT + GAZE_BIN / 2, GAZE_BIN)
    counts, _, _ = np.histogram2d(*np.clip(usable, -GAZE_LIMIT, GAZE_LIMIT).T, bins=(edges, edges))
    padded = np.pad(counts, 1)
    n = len(edges) - 1
    smooth = sum(padded[i : i + n, j : j + n] for i in range(3) for j in range(3))
    smooth = smooth + 1e-3 * counts  # among equal peaks the fullest bin
    peak = np.array(np.unravel_index(smooth.argmax(), smooth.shape)) * GAZE_BIN + GAZE_BIN / 2 - GAZE_LIMIT
    near = np.linalg.norm(usable - peak, axis=-1) <= GAZE_RADIUS
    share = float(near.sum() / len(gaze))
    if share < GAZE_SHARE:
        return None, share
    return usable[near].mean(0).astype(np.float32), share


def clip_distance(pose: Float[np.ndarray, "T 9"]) -> float:
    """Returns the mean of 1 / s over a clip; dividing by the mean over a data set gives the distance label."""
    return float(np.exp(-pose[:, 6]).mean())

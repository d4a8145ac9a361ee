"""Numbers from tracks: what is computed once a face has been measured in every frame.

Tracks are numpy arrays over frames, made of a video by `vasa_jax.evaluation.instrument` or taken from the labels of a
rendered one. Nothing here looks at pixels, except `psnr`.
"""

import numpy as np

FRAMES_PER_SECOND = 25.0


def pearson(x_T: np.ndarray, y_T: np.ndarray) -> float:
    """Pearson's r of two tracks; 0.0 when one is constant (it then says nothing about the other).

    "Constant" is judged against the size of the values, so that float32 rounding of a still track does not count as
    movement.
    """
    x_T, y_T = np.asarray(x_T, np.float64), np.asarray(y_T, np.float64)
    if x_T.shape != y_T.shape or x_T.ndim != 1:
        raise ValueError(f"two tracks of one length are needed, not {x_T.shape} and {y_T.shape}")
    if x_T.size < 2:
        return 0.0
    spread_x, spread_y = x_T.std(), y_T.std()
    if spread_x <= 1e-6 * max(1.0, np.abs(x_T).max()) or spread_y <= 1e-6 * max(1.0, np.abs(y_T).max()):
        return 0.0
    r = np.mean((x_T - x_T.mean()) * (y_T - y_T.mean())) / (spread_x * spread_y)
    return float(np.clip(r, -1.0, 1.0))


def pooled_pearson(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Pearson's r over the frames of all clips together: differences between the clips' means count too."""
    if not pairs:
        return 0.0
    return pearson(np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))


def best_offset(track_T: np.ndarray, reference_T: np.ndarray, limit: int = 12) -> tuple[int, float]:
    """(offset in frames, r there): the shift of `track` against `reference` with the largest r over |offset| <= limit.

    Positive: the track comes late. The nearest to 0 wins a tie, and a constant track has offset 0. The same search on
    audio against video is SyncNet's offset; here both tracks are mouth openings.
    """
    track_T, reference_T = np.asarray(track_T), np.asarray(reference_T)
    if track_T.shape != reference_T.shape:
        raise ValueError(f"two tracks of one length are needed, not {track_T.shape} and {reference_T.shape}")
    frames = len(track_T)
    limit = min(limit, max(frames // 2 - 1, 0))
    best = (0, pearson(track_T, reference_T))
    for size in range(1, limit + 1):
        for offset in (size, -size):
            late, early = (
                slice(max(offset, 0), frames + min(offset, 0)),
                slice(max(-offset, 0), frames - max(offset, 0)),
            )
            r = pearson(track_T[late], reference_T[early])
            if r > best[1] + 1e-9:
                best = (offset, r)
    return best


def rotation_matrices(pose_T9: np.ndarray) -> np.ndarray:
    """(T, 3, 3) rotations of poses whose first six numbers are the first two columns; not-quite-orthonormal ones are
    repaired.
    """
    first = np.asarray(pose_T9, np.float64)[..., 0:3]
    second = np.asarray(pose_T9, np.float64)[..., 3:6]
    first = first / np.maximum(np.linalg.norm(first, axis=-1, keepdims=True), 1e-8)
    second = second - (second * first).sum(-1, keepdims=True) * first
    second = second / np.maximum(np.linalg.norm(second, axis=-1, keepdims=True), 1e-8)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def euler_degrees(pose_T9: np.ndarray) -> np.ndarray:
    """(T, 3) yaw, pitch, roll in degrees of R = R_y(yaw) R_x(pitch) R_z(roll), x right, y down, z into the scene."""
    rotation = rotation_matrices(pose_T9)
    yaw = np.arctan2(rotation[..., 0, 2], rotation[..., 2, 2])
    pitch = np.arcsin(np.clip(-rotation[..., 1, 2], -1.0, 1.0))
    roll = np.arctan2(rotation[..., 1, 0], rotation[..., 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))


def rotation_error_degrees(a_T9: np.ndarray, b_T9: np.ndarray) -> np.ndarray:
    """(T,) angle of the rotation that takes one head pose to the other."""
    relative = np.einsum("...ij,...ik->...jk", rotation_matrices(a_T9), rotation_matrices(b_T9))
    cosine = (np.trace(relative, axis1=-2, axis2=-1) - 1.0) / 2.0
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def head_motion(pose_T9: np.ndarray) -> float:
    """VASA-1's delta P: mean absolute difference of yaw, pitch and roll between adjacent frames, in degrees."""
    return float(turning(pose_T9).mean()) if len(pose_T9) > 1 else 0.0


def turning(pose_T9: np.ndarray) -> np.ndarray:
    """(T - 1,) mean over yaw, pitch and roll of the absolute difference to the frame before, in degrees."""
    difference = np.diff(euler_degrees(pose_T9), axis=0)
    return np.abs((difference + 180.0) % 360.0 - 180.0).mean(-1)


def head_correlation(pose_T9: np.ndarray, truth_T9: np.ndarray) -> float:
    """Mean over yaw, pitch and roll of Pearson's r with the true ones: how much of the head's motion is foreseen."""
    angles, true = euler_degrees(pose_T9), euler_degrees(truth_T9)
    return float(np.mean([pearson(angles[:, axis], true[:, axis]) for axis in range(3)]))


def smooth(track_T: np.ndarray, frames: int = 5) -> np.ndarray:
    """A centred triangular mean over `frames` (odd) frames along the first axis, with the ends held; keeps the
    length.
    """
    if frames % 2 == 0:
        raise ValueError(f"an odd number of frames has a centre, {frames} has none")
    track_T = np.asarray(track_T, np.float64)
    half = frames // 2
    weights = (half + 1 - np.abs(np.arange(-half, half + 1))).astype(np.float64)
    weights /= weights.sum()
    padded = np.concatenate([np.repeat(track_T[:1], half, 0), track_T, np.repeat(track_T[-1:], half, 0)])
    total = np.zeros_like(track_T)
    for i, weight in enumerate(weights):
        total += weight * padded[i : i + len(track_T)]
    return total


def blinks(lids_T2: np.ndarray, closed: float = 0.35, open_: float = 0.6) -> list[tuple[int, int]]:
    """Blinks as [first, last] frames in which the mean lid opening is below `closed`.

    Lid opening is relative to the neutral one (1.0). Hysteresis: a blink ends when the opening exceeds `open_`, so
    that noise at the threshold does not make two of one. A track that starts or ends closed counts as a blink there.
    """
    opening = np.asarray(lids_T2, np.float64)
    opening = opening.mean(-1) if opening.ndim == 2 else opening
    found, start, last = [], None, 0
    for i, value in enumerate(opening):
        if value < closed:
            start = i if start is None else start
            last = i
        elif start is not None and value > open_:
            found.append((start, last))
            start = None
    if start is not None:
        found.append((start, last))
    return found


def blinks_per_minute(lids_T2: np.ndarray, frames_per_second: float = FRAMES_PER_SECOND, **thresholds: float) -> float:
    """Rate of `blinks`; 0.0 for an empty track."""
    if len(lids_T2) == 0:
        return 0.0
    return len(blinks(lids_T2, **thresholds)) * 60.0 * frames_per_second / len(lids_T2)


def closure(mouth_T: np.ndarray, truth_T: np.ndarray, closed: float = 0.02) -> tuple[float, float]:
    """(mean opening where the true mouth is closed, where it is not): how far lips really meet when they should.

    `closed` is an inner-lip distance over the inter-ocular one. nan where there is no such frame.
    """
    mouth_T, shut = np.asarray(mouth_T, np.float64), np.asarray(truth_T) < closed
    inside = float(mouth_T[shut].mean()) if shut.any() else float("nan")
    outside = float(mouth_T[~shut].mean()) if (~shut).any() else float("nan")
    return inside, outside


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarity along the last axis, broadcast over the others."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / np.maximum(size, 1e-12)


def verification_auc(same: np.ndarray, different: np.ndarray) -> float:
    """Chance that a pair of one person scores above a pair of two (area under the ROC curve; ties count half)."""
    same, different = np.asarray(same, np.float64).ravel(), np.sort(np.asarray(different, np.float64).ravel())
    below = np.searchsorted(different, same, side="left")
    not_above = np.searchsorted(different, same, side="right")
    return float((below + not_above).mean() / (2.0 * len(different)))


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; only where `mask` (same shape without channels) is true,
    if given.
    """
    error = np.square(np.asarray(image, np.float64) - np.asarray(truth, np.float64))
    if mask is not None:
        error = error[np.asarray(mask, bool)]
    mean = error.mean() if error.size else 0.0
    return float(10.0 * np.log10(1.0 / max(mean, 1e-10)))

"""Metrics of tracks: numbers that are computed once a face has been measured in every frame.

Tracks are numpy arrays over frames. They are read off a video (`vasa_jax.evaluation.face_readings`) or are the labels
of a rendered one. Nothing here looks at pixels: see `vasa_jax.evaluation.image_metrics`.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME, head_angles, rotation_matrices

OPEN_LIDS = 0.4  # mean lid opening; below it there is no gaze to be seen
CONFIDENCE = 0.95  # of a trend's interval

Metrics = dict[str, float]

# Correlation and offsets ----------------------------------------------------------------------------------------------


def pearson(x_T: ArrayLike, y_T: ArrayLike) -> float:
    """Returns Pearson's r of two tracks; 0.0 when one is constant (it then says nothing about the other).

    "Constant" is judged against the size of the values, so that float32 rounding of a still track does not count as
    movement. Raises ValueError for tracks of two lengths.
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
    """Returns Pearson's r over the frames of all clips together: differences between the clips' means count too."""
    if not pairs:
        return 0.0
    return pearson(np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))


def best_offset(track_T: np.ndarray, reference_T: np.ndarray, limit: int = 12) -> tuple[int, float]:
    """Returns (offset in frames, r there): the shift of `track` against `reference` with the largest r.

    Offsets up to `limit` either way are tried. Positive: the track comes late. The nearest to 0 wins a tie, and a
    constant track has offset 0. SyncNet searches audio against video alike; here both tracks are mouth openings.
    """
    return peak_offset(offset_correlations(track_T, reference_T, limit))


def peak_offset(curve: np.ndarray) -> tuple[int, float]:
    """Returns (offset, value there) of the largest of values for the offsets -n ... n; the nearest to 0 wins a tie."""
    centre = len(curve) // 2
    best = (0, float(curve[centre]))
    for size in range(1, centre + 1):
        for offset in (size, -size):
            if curve[centre + offset] > best[1] + 1e-9:
                best = (offset, float(curve[centre + offset]))
    return best


def offset_correlations(track_T: np.ndarray, reference_T: np.ndarray, limit: int = 12) -> np.ndarray:
    """Returns (2 n + 1,) Pearson's r of the track shifted against the reference by -n ... n frames.

    Positive offset: the track comes late. n is `limit`, or half the length of a short track.
    """
    track_T, reference_T = np.asarray(track_T), np.asarray(reference_T)
    if track_T.shape != reference_T.shape:
        raise ValueError(f"two tracks of one length are needed, not {track_T.shape} and {reference_T.shape}")
    frames = len(track_T)
    limit = min(limit, max(frames // 2 - 1, 0))
    curve = []
    for offset in range(-limit, limit + 1):
        late = slice(max(offset, 0), frames + min(offset, 0))
        early = slice(max(-offset, 0), frames - max(offset, 0))
        curve.append(pearson(track_T[late], reference_T[early]))
    return np.array(curve)


def mutual_correlation(tracks_ST: np.ndarray) -> float:
    """Returns the mean of Pearson's r over all pairs of S >= 2 takes."""
    pairs = [pearson(a, b) for i, a in enumerate(tracks_ST) for b in tracks_ST[:i]]
    return float(np.mean(pairs))


# Head and gaze --------------------------------------------------------------------------------------------------------


def rotation_error_degrees(a_T9: np.ndarray, b_T9: np.ndarray) -> np.ndarray | np.floating:
    """Returns (T,) the angle of the rotation that takes one head pose to the other; a number for single poses."""
    relative = np.einsum("...ij,...ik->...jk", rotation_matrices(a_T9), rotation_matrices(b_T9))
    cosine = (np.trace(relative, axis1=-2, axis2=-1) - 1.0) / 2.0
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def head_motion(pose_T9: np.ndarray) -> float:
    """Returns VASA-1's delta P: mean absolute difference of yaw, pitch and roll between adjacent frames, in degrees."""
    return float(turning(pose_T9).mean()) if len(pose_T9) > 1 else 0.0


def head_motion_geodesic(pose_T9: np.ndarray) -> float:
    """Returns the mean angle of the rotation between adjacent frames, in degrees: delta P without a choice of axes."""
    return float(rotation_error_degrees(pose_T9[1:], pose_T9[:-1]).mean()) if len(pose_T9) > 1 else 0.0


def turning(pose_T9: np.ndarray) -> np.ndarray:
    """Returns (T - 1,) the mean over yaw, pitch and roll of the absolute difference to the frame before, in degrees."""
    difference = np.diff(head_angles(pose_T9), axis=0)
    return np.abs((difference + 180.0) % 360.0 - 180.0).mean(-1)


def head_correlation(pose_T9: np.ndarray, truth_T9: np.ndarray) -> float:
    """Returns the mean over yaw, pitch and roll of Pearson's r with the true ones."""
    angles, true = head_angles(pose_T9), head_angles(truth_T9)
    return float(np.mean([pearson(angles[:, axis], true[:, axis]) for axis in range(3)]))


def head_diversity(poses_ST9: np.ndarray) -> float:
    """Returns how differently the head moves in S >= 2 takes: RMS degrees between two takes, over sqrt(2).

    Over yaw, pitch and roll, smoothed and without each take's own mean: where the head looks on the whole does not
    count. Takes with independent motion give its standard deviation over time; equal takes give 0.
    """
    angles = np.stack([smooth(head_angles(pose)) for pose in poses_ST9])
    angles = angles - angles.mean(1, keepdims=True)
    return float(np.sqrt(angles.var(axis=0, ddof=1).mean()))


def head_metrics(pose_T9: np.ndarray, truth_T9: np.ndarray) -> Metrics:
    """Returns how much the head moves (of poses smoothed over five frames), and its correlation with the true one."""
    motion, true = (head_motion(smooth(pose)) for pose in (pose_T9, truth_T9))
    return {
        "head_motion": motion,
        "head_motion_ratio": motion / max(true, 1e-6),
        "head_r": head_correlation(pose_T9, truth_T9),
    }


def shape_distance(a_TL2: Float[np.ndarray, "T L 2"], b_TL2: Float[np.ndarray, "T L 2"]) -> np.ndarray:
    """Returns how far the shapes of L points differ, (T,): 0 for equal ones, wherever, however large and rolled.

    Procrustes: `a` is moved, turned and sized to fit `b` best. The mean distance of points is over `b`'s radius, the
    root of its mean square distance from its middle.
    """
    a, b = ((points - points.mean(1, keepdims=True)).astype(np.float64) for points in (a_TL2, b_TL2))
    a, b = a[..., 0] + 1j * a[..., 1], b[..., 0] + 1j * b[..., 1]  # a turn and a size are one complex factor
    fitted = a * ((a.conj() * b).sum(1) / np.maximum((np.abs(a) ** 2).sum(1), 1e-12))[:, None]
    radius = np.sqrt((np.abs(b) ** 2).mean(1))
    return np.abs(fitted - b).mean(1) / np.maximum(radius, 1e-12)


def pose_audio_correlation(pose_T9: np.ndarray, level_T: np.ndarray, frames: int = 9) -> float:
    """Returns Pearson's r between how fast the head turns and how loud the speech is, both smoothed over `frames`.

    It needs no trained network (the paper's CAPP is a learned score without public weights). It is weak in true motion
    too. It is not zero for unrelated sound, as all speech starts and ends in silence: read it beside both.
    level_T: `log_level` of the sound.
    """
    speed = turning(smooth(pose_T9))
    return pearson(smooth(speed, frames), smooth(np.asarray(level_T)[1:], frames)) if len(speed) else 0.0


def gaze_in_head(gaze_T2: ArrayLike, pose_T9: ArrayLike) -> np.ndarray:
    """Returns (T, 2) yaw and pitch in degrees of a gaze in the camera frame, seen from a head of that pose.

    Both positive to image right and down; a head that turns takes its gaze along, and this does not change.
    """
    yaw, pitch = np.radians(np.asarray(gaze_T2, np.float64)).T
    direction = np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), -np.cos(yaw) * np.cos(pitch)], -1)
    x, y, z = np.einsum("tji,tj->ti", rotation_matrices(pose_T9), direction).T
    return np.degrees(np.stack([np.arctan2(x, -z), np.arcsin(np.clip(y, -1.0, 1.0))], -1))


def gaze_error(gaze_T2: np.ndarray, lids_T2: np.ndarray, wanted: tuple[float, float]) -> float:
    """Returns the degrees between the main gaze and the wanted one."""
    return float(np.linalg.norm(main_gaze(gaze_T2, lids_T2) - np.asarray(wanted)))


def main_gaze(gaze_T2: np.ndarray, lids_T2: np.ndarray) -> np.ndarray:
    """Returns (2,) the median gaze over the frames with open lids, or over all where there is none."""
    seen = lids_T2.mean(-1) > OPEN_LIDS
    return np.median(gaze_T2[seen] if seen.any() else gaze_T2, axis=0)


# Mouth and lids -------------------------------------------------------------------------------------------------------


def mouth_metrics(mouth_T: np.ndarray, truth_T: np.ndarray, offsets: bool = True) -> Metrics:
    """Returns the metrics of a mouth track; no offset is searched in a track with frames left out."""
    closed, open_ = closure(mouth_T, truth_T)
    found = {
        "mouth_r": pearson(mouth_T, truth_T),
        "mouth_mae": float(np.abs(mouth_T - truth_T).mean()),
        "mouth_closed": closed,
        "mouth_open": open_,
    }
    if offsets:
        offset, r = best_offset(mouth_T, truth_T)
        found |= {"mouth_offset": float(offset), "mouth_offset_size": float(abs(offset)), "mouth_r_at_offset": r}
    return found


def closure(mouth_T: ArrayLike, truth_T: ArrayLike, closed: float = 0.02) -> tuple[float, float]:
    """Returns (mean opening where the true mouth is closed, where it is not): do lips meet when they should?

    `closed` is an inner-lip distance over the inter-ocular one. nan where there is no such frame.
    """
    mouth_T, shut = np.asarray(mouth_T, np.float64), np.asarray(truth_T) < closed
    inside = float(mouth_T[shut].mean()) if shut.any() else float("nan")
    outside = float(mouth_T[~shut].mean()) if (~shut).any() else float("nan")
    return inside, outside


def lip_metrics(shape_T2: np.ndarray, truth_T2: np.ndarray) -> Metrics:
    """Returns the metrics of the lips' outline, whose width and height `lip_shape` gives: means over both."""
    return {
        "lip_shape_r": float(np.mean([pearson(a, b) for a, b in zip(shape_T2.T, truth_T2.T)])),
        "lip_shape_mae": float(np.abs(shape_T2 - truth_T2).mean()),
    }


def lip_shape(
    landmarks_TL2: np.ndarray,
    pose_T9: np.ndarray,
    lips: Sequence[int],
    left_eye: Sequence[int],
    right_eye: Sequence[int],
) -> np.ndarray:
    """Returns (T, 2) width and height of the lips' outline over the distance between the eyes, in any head pose.

    Distances in the image are taken back to the head's frontal plane; the pose is a weak perspective. This is exact for
    points of equal depth. lips: indices of left corner, right corner, top, bottom; an eye lies at its points' mean.
    """
    points = np.asarray(landmarks_TL2, np.float64)
    plane = rotation_matrices(pose_T9)[:, :2, :2] * np.exp(np.asarray(pose_T9, np.float64)[:, 6])[:, None, None]
    # Seen from the side a plane is a line: far beyond what is measured, and no reason to stop.
    frontal = np.linalg.pinv(plane, rcond=1e-3)

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.einsum("tij,tj->ti", frontal, a - b), axis=-1)

    left, right, top, bottom = (points[:, index] for index in lips)
    eyes = distance(*(points[:, list(eye)].mean(1) for eye in (left_eye, right_eye)))
    return np.stack([distance(left, right), distance(top, bottom)], -1) / max(float(np.median(eyes)), 1e-6)


def blinks(lids_T2: np.ndarray, closed: float = 0.35, open_: float = 0.6) -> list[tuple[int, int]]:
    """Returns blinks as [first, last] frames in which the mean lid opening is below `closed`.

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


def blinks_per_minute(lids_T2: np.ndarray, frames_per_second: float = FPS, **thresholds: float) -> float:
    """Returns the rate of `blinks`; 0.0 for an empty track."""
    if len(lids_T2) == 0:
        return 0.0
    return len(blinks(lids_T2, **thresholds)) * 60.0 * frames_per_second / len(lids_T2)


# Sound ----------------------------------------------------------------------------------------------------------------


def level(samples: Float[np.ndarray, "n"]) -> np.ndarray:
    """Returns (T,) the root mean square of the sound of each frame, of 640 T samples at 16 kHz."""
    return np.sqrt(_power(samples))


def log_level(samples: Float[np.ndarray, "n"]) -> np.ndarray:
    """Returns (T,) the log of `level`; silence is -60 dB."""
    return 0.5 * np.log(_power(samples) + 1e-6)


def _power(samples: np.ndarray) -> np.ndarray:
    return np.square(samples.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64)).mean(1)


# Statistics -----------------------------------------------------------------------------------------------------------


def smooth(track_T: np.ndarray, frames: int = 5) -> np.ndarray:
    """Returns a centred triangular mean over `frames` (odd) frames along the first axis, with the ends repeated.

    It is as long as the track. Raises ValueError for an even number of frames.
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


def cosine(a: ArrayLike, b: ArrayLike) -> np.ndarray | np.floating:
    """Returns the cosine similarity along the last axis, broadcast over the others."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / np.maximum(size, 1e-12)


def verification_auc(same: ArrayLike, different: ArrayLike) -> float:
    """Returns the chance that a pair of one person scores above a pair of two.

    It is the area under the ROC curve; ties count half.
    """
    same, different = np.asarray(same, np.float64).ravel(), np.sort(np.asarray(different, np.float64).ravel())
    below = np.searchsorted(different, same, side="left")
    not_above = np.searchsorted(different, same, side="right")
    return float((below + not_above).mean() / (2.0 * len(different)))


def spread(values: Iterable[float | None]) -> dict[str, float] | None:
    """Returns mean and standard error over heads; None where no head has a finite value."""
    known = np.array([value for value in values if value is not None and np.isfinite(value)], np.float64)
    if not known.size:
        return None
    error = float(known.std(ddof=1) / np.sqrt(known.size)) if known.size > 1 else 0.0
    return {"mean": float(known.mean()), "error": error}


def interval(values: Iterable[float | None]) -> dict[str, float] | None:
    """Returns mean, standard error, ends of Student's CONFIDENCE interval of the mean, and the number of finite values.

    None without any; a single value has no error and no ends.
    """
    from scipy.stats import t

    known = [value for value in values if value is not None and np.isfinite(value)]
    found = spread(known)
    if found is None:
        return None
    if len(known) == 1:
        return {"mean": found["mean"], "count": 1}
    half = float(t.ppf(0.5 + CONFIDENCE / 2.0, len(known) - 1)) * found["error"]
    return found | {"low": found["mean"] - half, "high": found["mean"] + half, "count": len(known)}


def mean_metrics(takes: Sequence[Metrics]) -> Metrics:
    """Returns the mean of each metric over several takes."""
    return {name: float(np.mean([take[name] for take in takes])) for name in takes[0]}


@dataclasses.dataclass(frozen=True)
class Trend:
    """Holds a least-squares line.

    `mean` is its value in the middle of the times, `slope` per unit of time; `low` and `high` are the ends of the
    slope's CONFIDENCE interval.
    """

    mean: float
    slope: float
    low: float
    high: float

    @property
    def drifts(self) -> bool:
        """Whether the interval leaves 0 out."""
        return not self.low <= 0.0 <= self.high


def fit_trend(time_N: ArrayLike, value_N: ArrayLike) -> Trend | None:
    """Fits a line to values at times; nan values are left out. None for fewer than three, or all at one time.

    The interval is Student's, for independent errors of one size: give values of sections much longer than what
    correlates within them. Values on one exact line have an interval without width.
    """
    from scipy.stats import t

    time_N, value_N = np.asarray(time_N, np.float64), np.asarray(value_N, np.float64)
    known = np.isfinite(value_N)
    time, value = time_N[known], value_N[known]
    if len(value) < 3 or np.ptp(time) == 0:
        return None
    centred = time - time.mean()
    variation = np.square(centred).sum()
    slope = float((centred * value).sum() / variation)
    residual = value - value.mean() - slope * centred
    error = np.sqrt(np.square(residual).sum() / (len(value) - 2) / variation)
    half = float(t.ppf(0.5 + CONFIDENCE / 2.0, len(value) - 2) * error)
    return Trend(float(value.mean()), slope, slope - half, slope + half)

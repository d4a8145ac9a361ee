"""Metrics of one video of a face by itself, and against a reference: a true video of the same speech, a portrait."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME, head_angles
from vasa_jax.evaluation import metrics
from vasa_jax.evaluation.face_readings import Measurements
from vasa_jax.evaluation.image_metrics import laplacian_sharpness
from vasa_jax.evaluation.metrics import Metrics
from vasa_jax.evaluation.report import Rows
from vasa_jax.evaluation.stage import lip_shape
from vasa_jax.preparation.av_sync import measure_offset

SEAM_BESIDE = (2, 3, 4)  # pixels from a border
SHARPNESS_STRIDE = 5  # every n-th frame
BACKGROUND = (0.12, 0.6)  # of the square: width of the strips at its left and right, their height from the top
# Parts of a face by the probe's landmarks, and how much larger than their box the part is.
PARTS = {"face": (("jaw", "brow", "forehead"), 1.0), "mouth": (("outer_lip",), 1.3), "eyes": (("eye",), 1.3)}

ROWS: Rows = {
    "sync_confidence": ("S_C, confidence of SyncNet", 3),
    "sync_distance": ("S_D, distance of SyncNet", 3),
    "sync_offset": ("offset of SyncNet, frames", 2),
    "probe_sync_confidence": ("confidence of the sync probe (ours; not S_C)", 3),
    "probe_sync_distance": ("distance of the sync probe (ours; not S_D)", 3),
    "probe_sync_offset": ("offset of the sync probe, frames (+: sound is early)", 2),
    "loudness_r": ("mouth opening against loudness, r at the best offset", 3),
    "loudness_offset": ("that offset, ms (+: sound is late)", 0),
    "capp": ("CAPP, our own weights", 3),
    "capp_other": ("CAPP with the sound of the other videos", 3),
    "delta_p": ("delta P, degrees per frame, mean of yaw, pitch, roll", 3),
    "delta_p_smooth": ("delta P of poses smoothed over five frames", 3),
    "delta_p_geodesic": ("head rotation per frame, degrees", 3),
    "pose_audio_r": ("speed of the head against loudness, r", 3),
    "gaze_yaw": ("main gaze, yaw in degrees", 1),
    "gaze_pitch": ("main gaze, pitch in degrees", 1),
    "distance": ("head distance in the picture, 1 = as the built-in corpus frames heads", 3),
    "blinks": ("blinks per minute", 1),
    "blink_seconds": ("length of a blink, median in seconds", 3),
    "mouth_mean": ("mouth opening, mean", 4),
    "mouth_deviation": ("mouth opening, standard deviation", 4),
    "identity_hold": ("identity, cosine to the video's own first second", 3),
    "sharpness_face": ("sharpness of the face", 4),
    "sharpness_mouth": ("sharpness of the mouth", 4),
    "sharpness_eyes": ("sharpness of the eyes", 4),
    "background_change": ("change of the background per frame, grey levels of 255", 3),
}
PAIR_ROWS: Rows = {
    "identity": ("identity, cosine to the reference", 3),
    "mouth_r": ("mouth opening, r", 3),
    "mouth_r_at_offset": ("mouth opening, r at the best offset", 3),
    "mouth_offset": ("best offset, frames (+ is late)", 2),
    "mouth_mae": ("mouth opening, mean absolute error", 4),
    "lip_shape_r": ("width and height of the lips, r", 3),
    "expression_distance": ("expression, distance of landmarks in % of the face (as AED)", 2),
    "aed": ("AED, expression coefficients of Deep3DFaceRecon", 4),
    "apd": ("APD, its angles in radians", 4),
    "head_r": ("head rotation, r", 3),
    "pose_distance": ("yaw, pitch, roll, mean absolute error in degrees (as APD)", 2),
    "rotation_error": ("head rotation, error in degrees", 2),
    "gaze_error": ("main gaze, error in degrees", 2),
    "distance_error": ("head distance, error", 3),
    "seam": ("seam of the pasted part, steps across its border over those beside it (1: none)", 2),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "csim": ("CSIM, ArcFace", 3),
    "identity_judge": ("identity, cosine by our loss network (not CSIM)", 3),
    "features_judge": ("distance of features, our loss network (not LPIPS)", 3),
    "features_vgg19": ("distance of features, VGG-19 (not LPIPS)", 3),
    "lpips_vgg16": ("LPIPS 0.1, VGG-16", 3),
    "lpips_alexnet": ("LPIPS 0.1, AlexNet", 3),
    "features_vgg16": ("distance of features, VGG-16 (as LPIPS, unlearnt weights)", 3),
    "features_alexnet": ("distance of features, AlexNet (as LPIPS, unlearnt weights)", 3),
}


def own_metrics(
    frames: UInt8[np.ndarray, "T n n 3"],
    reading: Measurements,
    points: tuple[str, ...],
    samples: Float[np.ndarray, "samples"] | None,
    framing: float = 1.0,
) -> Metrics:
    """Returns what a video says by itself; what needs sound is left out without it. `points`: the probe's landmarks.

    framing: the shorter side of the video's pictures over that of the squares `frames`, in the video's pixels.
    """
    pose, gaze = reading.pose, _main_gaze(reading)
    closed = metrics.blinks(reading.lids)
    embedding = reading.embedding / np.linalg.norm(reading.embedding, axis=-1, keepdims=True)
    first = embedding[:FPS].mean(0)
    found = {
        "delta_p": metrics.head_motion(pose),
        "delta_p_smooth": metrics.head_motion(metrics.smooth(pose)),
        "delta_p_geodesic": metrics.head_motion_geodesic(pose),
        "gaze_yaw": float(gaze[0]),
        "gaze_pitch": float(gaze[1]),
        "distance": framing * float(np.exp(-pose[:, 6].astype(np.float64)).mean()),
        "blinks": metrics.blinks_per_minute(reading.lids),
        "mouth_mean": float(reading.mouth.mean()),
        "mouth_deviation": float(reading.mouth.std()),
        "identity_hold": float(metrics.cosine(embedding, first).mean()),
        "background_change": background_change(frames),
    }
    if closed:
        found["blink_seconds"] = float(np.median([last - start + 1 for start, last in closed])) / FPS
    found |= {f"sharpness_{part}": value for part, value in sharpness(frames, reading.landmarks, points).items()}
    if samples is not None:
        found |= _with_sound(reading, samples)
    return found


def pair_metrics(reading: Measurements, truth: Measurements, points: tuple[str, ...]) -> Metrics:
    """Returns metrics of a video against the true one of the same speech, over the frames that both have."""
    frames = min(len(reading.mouth), len(truth.mouth))
    a, b = reading[:frames], truth[:frames]
    shapes = [lip_shape(part.landmarks, part.pose, list(points)) for part in (a, b)]
    known = metrics.mouth_metrics(a.mouth, b.mouth) | metrics.lip_metrics(*shapes)
    return {
        **{name: known[name] for name in PAIR_ROWS if name in known},
        "identity": identity(a, b),
        "expression_distance": 100.0 * float(metrics.shape_distance(a.landmarks, b.landmarks).mean()),
        "pose_distance": float(np.abs(head_angles(a.pose) - head_angles(b.pose)).mean()),
        "head_r": metrics.head_correlation(a.pose, b.pose),
        "rotation_error": float(metrics.rotation_error_degrees(a.pose, b.pose).mean()),
        "gaze_error": float(np.linalg.norm(_main_gaze(a) - _main_gaze(b))),
    }


def identity(reading: Measurements, person: Measurements) -> float:
    """Returns the mean cosine of a video's frames to the mean embedding of a person's pictures."""
    return float(metrics.cosine(reading.embedding, person.embedding.mean(0)).mean())


def sharpness(
    frames: UInt8[np.ndarray, "T n n 3"], landmarks: Float[np.ndarray, "T L 2"], points: tuple[str, ...]
) -> Metrics:
    """Returns `laplacian_sharpness` of face, mouth and eyes, means over every fifth frame."""
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    side = frames.shape[1]
    for frame, places in zip(frames[::SHARPNESS_STRIDE], landmarks[::SHARPNESS_STRIDE]):
        for part, (names, size) in PARTS.items():
            inside = places[[i for i, point in enumerate(points) if point.startswith(names)]]
            middle = (inside.min(0) + inside.max(0)) / 2.0
            half = (inside.max(0) - inside.min(0)).max() / 2.0 * size
            low, high = (np.rint((value + 1.0) / 2.0 * side).astype(int) for value in (middle - half, middle + half))
            low, high = np.maximum(low, 0), np.minimum(high, side)
            if (high - low).min() >= 8:
                found[part].append(laplacian_sharpness(frame[low[1] : high[1], low[0] : high[0]]))
    return {part: float(np.mean(values)) for part, values in found.items() if values}


def background_change(frames: UInt8[np.ndarray, "T n n 3"]) -> float:
    """Returns the mean absolute difference between adjacent frames, 0 to 255, in strips beside the head.

    Shoulders may reach into them, and a turning head: compare videos of one framing.
    """
    side = frames.shape[1]
    width, height = round(BACKGROUND[0] * side), round(BACKGROUND[1] * side)
    strips = np.concatenate([frames[:, :height, :width], frames[:, :height, -width:]], axis=2).astype(np.int16)
    return float(np.abs(np.diff(strips, axis=0)).mean(dtype=np.float64)) if len(frames) > 1 else 0.0


def seam(frames: Iterable[UInt8[np.ndarray, "h w 3"]], pasted: tuple[float, float, float, float]) -> float | None:
    """Returns how visible the border of a pasted part is: steps of grey across it over those of the lines beside it.

    pasted: left, top, right, bottom in pixels. Two to four pixels to either side of each border are beside it; 1 is a
    seam that nobody sees. Borders outside of the picture do not count; None where there are no others, or nothing but
    one colour beside them.
    """
    across, beside = [], []
    left, top, right, bottom = (round(edge) for edge in pasted)
    for frame in frames:
        grey = frame.mean(-1)
        for picture, edges, low, high in ((grey.T, (left, right), top, bottom), (grey, (top, bottom), left, right)):
            steps = np.abs(np.diff(picture, axis=0))[:, max(low, 0) : max(high, 0)].mean(1)  # i: between lines i, i + 1
            for edge in edges:
                if SEAM_BESIDE[-1] < edge <= len(steps) - SEAM_BESIDE[-1]:
                    across.append(steps[edge - 1])
                    beside += [steps[edge - 1 + sign * away] for away in SEAM_BESIDE for sign in (-1, 1)]
    return float(np.mean(across) / np.mean(beside)) if across and np.mean(beside) > 0 else None


def _with_sound(reading: Measurements, samples: np.ndarray) -> Metrics:
    frames = min(len(reading.mouth), len(samples) // SAMPLES_PER_FRAME)
    found = {}
    if frames > 1:
        level = metrics.log_level(samples[: frames * SAMPLES_PER_FRAME])
        found["pose_audio_r"] = metrics.pose_audio_correlation(reading.pose[:frames], level)
    offset = measure_offset(reading.mouth.astype(np.float64), samples)
    if offset is not None:
        found |= {"loudness_r": offset.score, "loudness_offset": 1000.0 * offset.offset}
    return found


def _main_gaze(reading: Measurements) -> np.ndarray:
    return metrics.main_gaze(reading.gaze, reading.lids).astype(np.float64)

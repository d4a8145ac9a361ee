"""Figures of moved photographs: numpy in, numbers out. Points are the 478 of `preparation.landmark_labels`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.evaluation.image_metrics import psnr
from vasa_jax.losses import ssim
from vasa_jax.preparation.landmark_labels import fit_pose, gaze_angles, lid_openings, mouth_opening

FACE_POINTS = 468
FACE_SIDE = 160  # pixels to which a face's box is brought
FINE = 3.0  # pixels of 256: standard deviation of the blur that fine detail is measured against
SSIM_WINDOW = 7
PARTS = {
    "mouth": (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    "left_eye": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    "right_eye": (362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398),
}
GROWN = 6.0 / 256  # of the picture's side, around a part
CLEAR, RIM = 0.05, 9 / 256  # share of a person that is background; of the side, around a matte
YAWS = (15.0, 30.0)  # degrees between groups of portraits
Curves = dict[str, np.ndarray]


def curves(points: Float[np.ndarray, "T 478 3"]) -> Curves:
    """Returns mouth (T,), lids (T,), gaze (T, 2) and pose (T, 9) of points in image coordinates."""
    pose = fit_pose(points)
    return {
        "mouth": mouth_opening(points),
        "lids": lid_openings(points, pose).mean(1),
        "gaze": gaze_angles(points, pose),
        "pose": pose,
    }


def followed(shown: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """Returns `size`, the spread over the asked one, and `r` of two tracks; nan for a track that stands still."""
    a, b = (np.asarray(x, np.float64) - np.mean(x) for x in (shown, asked))
    still = min(a.std(), b.std()) < 1e-6
    return {
        "size": float(a.std() / b.std()) if b.std() > 1e-6 else np.nan,
        "r": np.nan if still else float((a * b).mean() / (a.std() * b.std())),
    }


def deepest_blink(lids: np.ndarray, neutral: float = 75.0) -> float:
    """Returns the least opening of the eye over the open one (a percentile)."""
    return float(np.min(lids) / max(np.percentile(lids, neutral), 1e-6))


def sharpness(picture: UInt8[np.ndarray, "n n 3"], points: Float[np.ndarray, "478 3"]) -> float:
    """Returns the variance of the Laplacian of the face's box at FACE_SIDE pixels, grey of 255."""
    import cv2

    n = picture.shape[0]
    face = (points[:FACE_POINTS, :2] + 1.0) * n / 2.0
    low, high = np.clip(np.floor(face.min(0)), 0, n - 1).astype(int), np.clip(np.ceil(face.max(0)), 1, n).astype(int)
    box = picture[low[1] : max(high[1], low[1] + 1), low[0] : max(high[0], low[0] + 1)]
    way = cv2.INTER_AREA if box.shape[0] > FACE_SIDE else cv2.INTER_CUBIC
    grey = cv2.cvtColor(cv2.resize(box, (FACE_SIDE, FACE_SIDE), interpolation=way), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey.astype(np.float64), cv2.CV_64F).var())


def part_masks(points: Float[np.ndarray, "478 3"], size: int) -> dict[str, np.ndarray]:
    """Returns bool (n, n) of `face` (its hull), `mouth` and `eyes` with a little around them."""
    import cv2

    def drawn(outline):
        mask = np.zeros((size, size), np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(((outline + 1.0) * size / 2.0 - 0.5).round().astype(np.int32)), 1)
        return mask

    grow = max(round(GROWN * size), 1)
    around = np.ones((2 * grow + 1, 2 * grow + 1), np.uint8)
    parts = {name: cv2.dilate(drawn(points[list(ring), :2]), around) > 0 for name, ring in PARTS.items()}
    face = drawn(points[:FACE_POINTS, :2]) > 0
    return {"face": face, "mouth": parts["mouth"], "eyes": parts["left_eye"] | parts["right_eye"]}


def fine_r(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Returns the correlation of what a blur takes away from two grey pictures, within a mask."""
    import cv2

    sigma = FINE * picture.shape[0] / 256

    def fine(x):
        grey = x.astype(np.float64).mean(-1)
        return ((grey - cv2.GaussianBlur(grey, (0, 0), sigma)) * mask).ravel()

    a, b = fine(picture), fine(truth)
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-9))


def reconstruction(picture: np.ndarray, truth: np.ndarray, points: Float[np.ndarray, "478 3"]) -> dict[str, float]:
    """Returns PSNR (dB) of the whole picture, the face, mouth and eyes, SSIM of whole and face, and `fine_r`."""
    a, b = picture.astype(np.float64) / 255.0, truth.astype(np.float64) / 255.0
    masks = part_masks(points, len(picture))
    similar = np.asarray(ssim(a[None].astype(np.float32), b[None].astype(np.float32), SSIM_WINDOW)).mean(-1)[0]
    margin = SSIM_WINDOW // 2
    inner = masks["face"][margin:-margin, margin:-margin]
    return {
        "psnr": psnr(a, b),
        **{f"psnr_{name}": psnr(a, b, mask) for name, mask in masks.items()},
        "ssim": float(similar.mean()),
        "ssim_face": float(similar[inner].mean()) if inner.any() else np.nan,
        "fine_r": fine_r(picture, truth, masks["face"]),
    }


def flicker(frames: UInt8[np.ndarray, "T n n 3"]) -> float:
    """Returns the mean absolute second difference over time, of 255: what even motion does not have."""
    if len(frames) < 3:
        return np.nan
    values = frames.astype(np.int16)
    return float(np.mean([np.abs(a - 2 * b + c).mean() for a, b, c in zip(values, values[1:], values[2:])]))


def background_change(
    frames: np.ndarray, portrait: np.ndarray, mattes: Float[np.ndarray, "T n n"], own: Float[np.ndarray, "n n"]
) -> float:
    """Returns the mean absolute difference, of 255, outside both mattes and their rims; nan where they cover all."""
    import cv2

    reach = max(2 * round(RIM * len(own) / 2) + 1, 3)
    around = np.ones((reach, reach))
    clear = cv2.dilate(np.asarray(own, np.float32), around) < CLEAR
    changes = []
    for frame, matte in zip(frames, mattes):
        outside = clear & (cv2.dilate(np.asarray(matte, np.float32), around) < CLEAR)
        if outside.any():
            changes.append(np.abs(frame.astype(np.float64) - portrait)[outside].mean())
    return float(np.mean(changes)) if changes else np.nan


def is_grey(picture: np.ndarray, limit: float = 6.0) -> bool:
    """Tells a photograph without colours: red and blue differ by less than `limit` of 255 on average."""
    return bool(np.abs(picture[..., 0].astype(int) - picture[..., 2]).mean() < limit)


def yaw_group(degrees: float) -> str:
    """Names the group of a portrait's head turn."""
    low, high = YAWS
    size = abs(degrees)
    return f"yaw under {low:g}" if size < low else f"yaw {low:g} to {high:g}" if size < high else f"yaw over {high:g}"


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Returns {mean, error} of every figure over rows that have it; nan rows do not count."""
    names = dict.fromkeys(name for row in rows for name in row)
    result = {}
    for name in names:
        values = np.array([row[name] for row in rows if name in row and np.isfinite(row[name])], np.float64)
        if len(values):
            error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
            result[name] = {"mean": float(values.mean())} | ({"error": error} if np.isfinite(error) else {})
    return result

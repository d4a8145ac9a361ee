"""Face landmarks and mouth curves with known pose, gaze, lids and sound."""

import numpy as np

from vasa_jax.preparation import landmark_labels as labels

UPRIGHT = np.eye(3)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def face_points(turn=UPRIGHT, scale=1.0, shift=(0.0, 0.0), gaze=(0.0, 0.0), lids=0.1, mouth=0.1) -> np.ndarray:
    """(478, 3): the canonical points, irises that look along `gaze` (degrees, camera frame), lids and inner lips."""
    points = np.zeros((478, 3))
    for index, value in labels.CANONICAL_POINTS.items():
        points[index] = value
    width = np.linalg.norm(points[33] - points[133])
    for eye, pairs in zip(labels.EYES, labels.LIDS):
        middle = points[list(eye)].mean(0)
        for upper, lower in pairs:
            points[upper], points[lower] = middle - [0, lids * width / 2, 0], middle + [0, lids * width / 2, 0]
    between = np.linalg.norm(points[list(labels.EYES[0])].mean(0) - points[list(labels.EYES[1])].mean(0))
    points[13], points[14] = (0, 0.4, -0.27), (0, 0.4 + mouth * between, -0.27)
    points = scale * points @ turn.T + [*shift, 0.3]
    yaw, pitch = np.radians(gaze)
    line = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    for eye, iris in zip(labels.EYES, labels.IRIS):
        size = np.linalg.norm(points[eye[0]] - points[eye[1]])
        centre = points[list(eye)].mean(0) + turn @ [0, labels.EYEBALL_DROP, labels.EYEBALL_DEPTH] * size
        points[iris, :2] = centre[:2] + labels.EYEBALL_RADIUS * size * line
    return points.astype(np.float32)


def talk(seconds: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Syllables: mouth (T,) at 25 fps and sound whose loudness follows it."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum(rng.uniform(0.15, 0.45, int(seconds * 3.5)))
    heights = rng.uniform(0.3, 1.0, len(starts))

    def envelope(t):
        return sum(h * np.exp(-np.square((t - s) / 0.06)) for s, h in zip(starts, heights))

    t = np.arange(int(seconds * 16000)) / 16000
    sound = 0.2 * envelope(t) * np.sin(2 * np.pi * 300 * t) + 1e-3 * rng.standard_normal(len(t))
    mouth = envelope((np.arange(int(seconds * 25)) + 0.5) / 25) + 0.1 * rng.standard_normal(int(seconds * 25))
    return mouth, sound.astype(np.float32)

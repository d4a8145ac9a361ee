"""Where the eyes look: fixations, glances and saccades, and the geometry between head, eyes and camera.

Directions are (yaw, pitch) in degrees in the camera frame, positive = image right, image down. Motion angles are
radians in the y-up space of the renderer (see visemes.py).
"""

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.corpus.performance.noise import wander

EYE_REACH = (0.55, 0.38)  # radians that eyes turn in the head


def move_gaze(motion: dict[str, np.ndarray], rng: np.random.Generator, wanted: np.ndarray):
    """Sets gaze_yaw and gaze_pitch: fixations around the `wanted` direction (degrees) with glances away, held against
    the head's motion. Returns the seconds of the large shifts, and the direction (yaw, pitch) in degrees [T, 2]."""
    frames = len(motion["yaw"])
    time = (np.arange(frames) + 0.5) / FPS
    target = np.empty((frames, 2))
    shifts = []
    start, previous = 0.0, None
    while start < time[-1] + 1:
        if rng.random() < 0.2:  # a glance away, to remember or to think
            offset = rng.normal(0.0, (12.0, 6.0))
            length = rng.uniform(0.3, 1.1)
        else:
            offset = rng.normal(0.0, (1.3, 0.9))
            length = rng.gamma(3.0, 0.5) + 0.25
        if previous is None:
            target[:] = wanted + offset
        else:
            # a saccade of tens of milliseconds, longer when larger
            size = np.abs(offset - previous).max()
            step = np.clip((time - start) / (0.03 + 0.0022 * size) + 0.5, 0.0, 1.0)[:, None]
            target += (offset - previous) * step * step * (3 - 2 * step)
            if size > 9.0 and start < time[-1]:
                shifts.append(start)
        previous = offset
        start += length
    target += np.stack([wander(rng, frames, 0.15, 0.25), wander(rng, frames, 0.15, 0.2)], 1)  # never perfectly still
    eyes = eyes_towards(target, motion["yaw"], motion["pitch"], motion["roll"])
    motion["gaze_yaw"], motion["gaze_pitch"] = eyes[:, 0], eyes[:, 1]
    return shifts, gaze_direction(eyes, motion["yaw"], motion["pitch"], motion["roll"])


def _head_rotation(yaw, pitch, roll):
    """Head -> camera-facing y-up world, Ry(yaw) Rx(pitch) Rz(roll): [T, 3, 3]."""
    cy, sy, cx, sx, cz, sz = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    rows = [
        [cy * cz + sy * sx * sz, -cy * sz + sy * sx * cz, sy * cx],
        [cx * sz, cx * cz, -sx],
        [-sy * cz + cy * sx * sz, sy * sz + cy * sx * cz, cy * cx],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def eyes_towards(direction: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Returns the eyes' angles in the head, gaze_yaw and gaze_pitch in radians [T, 2], cut to EYE_REACH.

    They look along `direction` (degrees [T, 2], camera frame) from a head turned by yaw, pitch and roll.
    """
    right, down = np.radians(direction).T
    world = np.stack([np.sin(right) * np.cos(down), -np.sin(down), np.cos(right) * np.cos(down)], -1)
    local = np.einsum("tji,tj->ti", _head_rotation(yaw, pitch, roll), world)
    eyes = np.stack([np.arctan2(local[:, 0], local[:, 2]), np.arcsin(np.clip(local[:, 1], -1, 1))], -1)
    return np.clip(eyes, np.negative(EYE_REACH), EYE_REACH)


def gaze_direction(eyes: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Returns where the eyes look, yaw and pitch in degrees in the camera frame [T, 2]; undoes `eyes_towards`."""
    horizontal, up = eyes.T
    local = np.stack([np.sin(horizontal) * np.cos(up), np.sin(up), np.cos(horizontal) * np.cos(up)], -1)
    world = np.einsum("tij,tj->ti", _head_rotation(yaw, pitch, roll), local)
    return np.degrees(np.stack([np.arctan2(world[:, 0], world[:, 2]), -np.arcsin(np.clip(world[:, 1], -1, 1))], -1))

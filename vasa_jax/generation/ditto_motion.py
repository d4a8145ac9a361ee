"""Ditto's motion vectors: from what LivePortrait's network reads, and to a portrait's motion as Ditto's program does.

265 numbers a frame: scale - 1, 66 logits each of pitch, yaw and roll, t, and 63 displacements of the expression. Only
the lips and the eyes of a predicted expression are used; the eyes follow the turn of the head.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vasa_jax.generation.keypoint_driving import EYES, LIPS
from vasa_jax.models.keypoint_motion import POSE_BINS, RawMotion
from vasa_jax.models.keypoints import angle, rotation_from_angles

_ANGLES = tuple(slice(1 + POSE_BINS * i, 1 + POSE_BINS * (i + 1)) for i in range(3))  # pitch, yaw, roll
_SHIFT, _EXPRESSION = slice(199, 202), slice(202, 265)
GAZE_YAW, GAZE_PITCH = 0.26, 0.28  # units of gaze per degree that the head turns
_GAZE = 0.001, 0.0007  # displacement per unit of the eye towards which, and away from which, it goes
OPEN = 60, 100  # frames that eyes stay open between blinks: least, greatest
_LEFT_EYE, _RIGHT_EYE = 11, 15  # keypoints, on the image's left and right
# MediaPipe's points: outer and inner corner, three pairs of lids, centre of the iris.
_EYE_POINTS = (
    (33, 133, ((145, 159), (144, 160), (153, 158)), 468), (263, 362, ((374, 386), (373, 387), (380, 385)), 473),
)  # fmt: skip


class EyeState(NamedTuple):
    """A portrait's eyes as Ditto is told of them, image left first."""

    open: Float[np.ndarray, "2"]  # heights at three places over the width
    ball: Float[np.ndarray, "6"]  # x of both, y of both, z of both


def eye_state(points: Float[np.ndarray, "478 3"]) -> EyeState:
    """Returns how open eyes are and where they look, of MediaPipe's points over the square's side."""
    opened, moved = [], []
    for outer, inner, lids, iris in _EYE_POINTS:
        across = points[outer] - points[inner]
        width = np.linalg.norm(across) + 1e-8
        opened.append(sum(np.linalg.norm(points[a] - points[b]) for a, b in lids) / width)
        away = points[iris] - (points[outer] + points[inner]) / 2
        distance = np.linalg.norm(away)
        moved.append((away / (distance + 1e-8) - across / width) * distance)
    return EyeState(np.array(opened), np.stack(moved, -1).reshape(-1))


def source_vector(raw: RawMotion) -> Float[np.ndarray, "265"]:
    """Returns one face's motion vector."""
    parts = (raw.scale[0] - 1.0, raw.pitch[0], raw.yaw[0], raw.roll[0], raw.translation[0], raw.expression[0].ravel())
    return np.concatenate([np.asarray(part) for part in parts]).astype(np.float32)


def from_portrait(
    raw: RawMotion, predicted: Float[np.ndarray, "T 265"], amplitude: Float[np.ndarray, "T"], animate: str = "all",
    first: Float[np.ndarray, "265"] | None = None, blinks: Float[np.ndarray, "T 63"] | None = None,
) -> Float[np.ndarray, "T 265"]:  # fmt: skip
    """Returns the portrait's motion: its own, and what has changed since the first predicted frame.

    amplitude: of the change in pose; animate: as in `Controls`; first: that frame, where `predicted` goes on later;
    blinks: what blinks add to the expression, in the place of the predicted eyes.
    """
    own = source_vector(raw).astype(np.float64)
    change = predicted - (predicted[0] if first is None else first).astype(np.float64)
    result = np.tile(own, (len(predicted), 1))
    if animate != "dynamics":
        result[:, 1:202] += amplitude[:, None] * change[:, 1:202]
    if animate != "pose":
        moved = np.zeros((21, 3))
        moved[[*LIPS, *(EYES if blinks is None else ())]] = 1.0
        result[:, _EXPRESSION] += moved.ravel() * change[:, _EXPRESSION]
    if blinks is not None and animate != "pose":
        eyes = np.zeros((21, 3))
        eyes[[*EYES]] = 1.0
        result[:, _EXPRESSION] += eyes.ravel() * blinks
    return _with_gaze(own, result)


class Blinks:
    """Blinks at random times, one after another.

    blink: (N, 63), what each of its frames adds to the expression; seed: of the times.
    """

    def __init__(self, blink: Float[np.ndarray, "N 63"], seed: int):
        self._blink, self._rng = np.asarray(blink, np.float64), np.random.default_rng(seed)
        self._wait = self._gap()  # frames until the next begins; of the one under way: minus the frames that are over

    def frames(self, count: int) -> Float[np.ndarray, "{count} 63"]:
        """Returns what is added to each of the next `count` frames."""
        result = np.zeros((count, self._blink.shape[1]))
        for frame in result:
            if self._wait <= 0:
                frame += self._blink[-self._wait]
            self._wait -= 1
            if self._wait <= -len(self._blink):
                self._wait = self._gap()
        return result

    def _gap(self) -> int:
        return int(self._rng.integers(OPEN[0], OPEN[1] + 1))


def portrait_vectors(raw: RawMotion, moved: Float[np.ndarray, "T 265"]) -> Float[np.ndarray, "T 72"]:
    """Returns motion vectors of the codec of what `from_portrait` gives."""
    angles = [np.asarray(angle(moved[:, part])) for part in _ANGLES]
    rotation = np.asarray(rotation_from_angles(*angles))
    size = np.full((len(moved), 1), np.log(max(float(raw.scale[0, 0]), 1e-3)))
    shift, expression = moved[:, _SHIFT][:, :2], moved[:, _EXPRESSION]
    return np.concatenate([rotation[..., 0], rotation[..., 1], size, shift, expression], 1)


def _with_gaze(own: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Lets the eyes turn with the head."""
    yaw, pitch = (
        np.degrees(np.asarray(angle(moved[:, part])) - float(angle(own[part]))) for part in (_ANGLES[1], _ANGLES[0])
    )
    across, down = GAZE_YAW * yaw, GAZE_PITCH * pitch
    right = across > 0
    result = moved.copy()
    displaced = result[:, _EXPRESSION].reshape(-1, 21, 3)
    displaced[:, _LEFT_EYE, 0] += across * np.where(right, _GAZE[1], _GAZE[0])
    displaced[:, _RIGHT_EYE, 0] += across * np.where(right, _GAZE[0], _GAZE[1])
    displaced[:, [_LEFT_EYE, _RIGHT_EYE], 1] -= _GAZE[0] * down[:, None]
    result[:, _EXPRESSION] = displaced.reshape(len(moved), -1)
    return result

"""From a placed photograph to the arrays that `draw` poses and animates."""

from __future__ import annotations

import cv2
import numpy as np

from vasa_jax.corpus.photos import topology as T
from vasa_jax.corpus.photos.eyes import eye_patch
from vasa_jax.corpus.photos.fill import BACKGROUND, background, own_colours
from vasa_jax.corpus.photos.framing import CANVAS, Placed, canvas_pixels, from_canonical, to_canonical
from vasa_jax.corpus.photos.mouth import mouth_patch

PhotoHead = dict[str, np.ndarray]
BACK_OF_HEAD, BACK_BELOW = 0.26, 0.20  # canonical depth of the outermost rings: at the ears, and at the shoulders
_FIXED = (168, 6, 197, 195, 5, 4, 1, 2, 151, 9, 33, 133, 263, 362, 98, 327, 129, 358)
_CHIN = 199


class Builder:
    """Makes photo heads; the mesh's weights are computed once."""

    def __init__(self, mesh: T.Mesh):
        lips = {i for row in (*T.UPPER_LIP, *T.LOWER_LIP) for i in row}
        self._handles = np.array(sorted({*lips, *T.OVAL, *_FIXED, _CHIN}))
        self._weights = T.harmonic_weights(mesh.face, self._handles)

    def __call__(self, photo: Placed, rng: np.random.Generator) -> PhotoHead:
        """Returns a photo head; `rng` draws what a photograph does not tell, its hidden teeth.

        texture uint8 (CANVAS, CANVAS, 4) with alpha; square and background uint8 (256, 256, 3), the photograph as the
        codec sees it, and without its person; rest (468, 3) and rings (R, 3),
        canonical; ring_weight (R,), how far a ring's point follows the head and not the body; uv (468 + R, 2), each
        vertex's place in the photograph; pose (9,); bounds (4,); and the patches of `eyes` and `mouth`. At the
        photograph's own pose the mesh lies exactly on it.
        """
        points = to_canonical(photo.points, photo.pose)
        face = points[: T.FACE_POINTS]
        rest, (rings, weight) = self.closed(face), _rings(face)
        eyes = [eye_patch(points, photo, side) for side in range(2)]
        uv = from_canonical(np.concatenate([face, rings]), photo.pose)[:, :2]
        alpha = _alpha(photo.matte, uv[list(T.OVAL)])
        rgba = np.concatenate([own_colours(photo.texture, alpha), 255.0 * alpha[..., None]], -1)
        behind = background(photo.texture, alpha, photo.bounds)
        return {
            "texture": np.clip(rgba + 0.5, 0, 255).astype(np.uint8),
            "background": np.clip(behind + 0.5, 0, 255).astype(np.uint8),
            "square": cv2.resize(photo.square, (BACKGROUND, BACKGROUND), interpolation=cv2.INTER_AREA),
            "rest": rest.astype(np.float32),
            "rings": rings.astype(np.float32),
            "ring_weight": weight.astype(np.float32),
            "uv": uv.astype(np.float32),
            "pose": photo.pose,
            "bounds": photo.bounds,
            **{name: np.stack([eye[name] for eye in eyes]) for name in eyes[0]},
            **mouth_patch(face, rest, photo, rng),
        }

    def closed(self, face: np.ndarray) -> np.ndarray:
        """Returns a face (468, 3) with its lips together; a smile stays a smile."""
        upper, lower = (np.array(rows[3]) for rows in (T.UPPER_LIP, T.LOWER_LIP))
        gap = face[lower] - face[upper]
        gap[:, 1] = np.maximum(gap[:, 1], 0.0)
        move = np.zeros_like(face)
        for rows, share in ((T.UPPER_LIP, 0.3), (T.LOWER_LIP, -0.7)):
            for row in rows:
                move[list(row)] = share * gap
                move[[row[0], row[-1]]] = 0.0
        move[_CHIN] = -0.5 * gap[5]
        return face + self._weights @ move[self._handles]


def _alpha(matte: np.ndarray, oval: np.ndarray) -> np.ndarray:
    """The person's share of the canvas; the face is whole."""
    inside = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.fillPoly(inside, [canvas_pixels(oval).round().astype(np.int32)], 1)
    return np.where(inside > 0, 1.0, np.clip((matte.astype(np.float32) / 255.0 - 0.25) / 0.5, 0.0, 1.0))


def _rings(face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points around the oval for hair, ears, neck and shoulders, and how far each follows the head."""
    oval = face[list(T.OVAL)]
    middle, chin = np.array([0.0, 0.5 * (oval[:, 1].min() + oval[:, 1].max())]), oval[:, 1].max()
    positions, weights = [], []
    for factor in T.RINGS:
        away = oval[:, :2] - middle
        direction = away / np.linalg.norm(away, axis=1, keepdims=True)
        # The further out, the more alike in all directions: the square's corners are reached too.
        xy = middle + away * factor + 0.12 * direction * max(factor - 1.8, 0.0)
        down = _smoothstep((direction[:, 1] - 0.35) / 0.5)
        back = np.maximum(BACK_OF_HEAD * (1 - down) + BACK_BELOW * down, oval[:, 2] + 0.02)
        z = oval[:, 2] + (back - oval[:, 2]) * _smoothstep((factor - 1.0) / 0.35)
        positions.append(np.concatenate([xy, z[:, None]], 1))
        weights.append(1.0 - _smoothstep((xy[:, 1] - (chin - 0.02)) / 0.42))
    return np.concatenate(positions), np.concatenate(weights)


def _smoothstep(x):
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)

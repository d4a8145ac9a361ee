"""FaceAnalyzer on LiteRT: BlazeFace, FaceMesh, Iris and selfie segmentation, as graph files that the user provides.

`pip install ai-edge-litert` runs them. They are part of the mediapipe 0.10.21 wheel (Apache-2.0):

    pip download mediapipe==0.10.21 --no-deps -d /tmp/mediapipe
    unzip -j /tmp/mediapipe/*.whl 'mediapipe/modules/face_*/*.tflite' 'mediapipe/modules/*/iris_landmark.tflite' \
        'mediapipe/modules/*/selfie_segmentation.tflite' -d face_models

(On a Python that has no such wheel add `--python-version 3.11 --only-binary=:all: --platform manylinux_2_28_x86_64`.)
The pre- and post-processing follow the graphs of that release. About 8 ms per frame on one core; no network.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.preparation.face_backends.base import DetectedFace, FaceLandmarks

CHECKSUMS = {
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_detection_full_range_sparse.tflite": "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "iris_landmark.tflite": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
    "selfie_segmentation.tflite": "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
}  # SHA-256
RECIPE = (
    "the top of vasa_jax/preparation/face_backends/litert.py has the commands that fetch them; "
    "analyzer=haar crops without labels"
)

DETECTION_SCORE, MESH_SCORE = 0.6, 0.5  # after the sigmoid; folded hands make a detection of 0.54
OVERLAP = 0.3  # intersection over union above which two detections are one face
INSIDE = 0.6  # share of the smaller box, likewise
MESH_MARGIN, MESH_SIDE = 1.5, 192  # region over the box; pixels of the graph's input
IRIS_MARGIN, IRIS_SIDE = 2.3, 64
# FaceMesh indices. The first eye is the one on the image's left.
EYE_CORNERS = ((33, 133), (263, 362))  # outer, inner
# The iris graph's first 16 contour points: lower lid from the outer to the inner corner, then the upper lid between.
EYE_CONTOURS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
)
MESH_POINTS, IRIS_POINTS = 468, 5


class LitertAnalyzer:
    """Implements `base.FaceAnalyzer`. landmark_set `mediapipe_478`: 468 of the mesh, 5 of the left and right iris.

    Raises InputError for a missing package, folder or file, and for a file with another checksum.
    """

    name = "litert"
    landmark_set = "mediapipe_478"
    framing = (0.488, 0.530)  # means over 48 renders of the built-in corpus

    def __init__(self, folder: str | os.PathLike):
        if not folder:
            raise InputError(f"config.prepare.models: the litert analyzer needs a folder of graph files; {RECIPE}")
        graphs = {Path(name).stem: _Graph(Path(folder), name) for name in CHECKSUMS}
        self._detectors = (
            (graphs["face_detection_short_range"], _anchors(((16, 2), (8, 6)))),
            (graphs["face_detection_full_range_sparse"], _anchors(((48, 1),))),
        )
        self._mesh, self._iris = graphs["face_landmark"], graphs["iris_landmark"]
        self._segmentation = graphs["selfie_segmentation"]

    def detect(self, image: np.ndarray) -> list[DetectedFace]:
        """Finds faces from 5 % of the image's longer side up (the full-range graph), the largest first."""
        found = [face for detector in self._detectors for face in _detect(image, *detector)]
        return _merged(found)

    def landmarks(self, image: np.ndarray, previous: FaceLandmarks | None = None) -> FaceLandmarks | None:
        """Returns the face of `previous`, else the largest; a face that moved out of `previous` is searched anew."""
        if previous is not None:
            low, high = previous.points[:MESH_POINTS, :2].min(0), previous.points[:MESH_POINTS, :2].max(0)
            eyes = [previous.points[list(pair), :2].mean(0) for pair in EYE_CORNERS]
            result = self._points(image, (low + high) / 2, max(high - low), *eyes)
            if result is not None:
                return result
        faces = self.detect(image)
        if not faces:
            return None
        return self._points(image, np.array(faces[0].centre), faces[0].size, *faces[0].keypoints[:2])

    def matte(self, image: np.ndarray) -> np.ndarray:
        """Segments a person: the share of each pixel that is theirs, float32 (H, W)."""
        import cv2

        height, width = image.shape[:2]
        side = self._segmentation.side
        share = self._segmentation(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) / 255.0)[0][..., 0]
        return np.clip(cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR), 0.0, 1.0)

    def _points(self, image, centre, size, left_eye, right_eye) -> FaceLandmarks | None:
        across = np.asarray(right_eye) - left_eye
        patch, back = _region(image, centre, MESH_MARGIN * size, np.arctan2(across[1], across[0]), MESH_SIDE)
        raw, presence = self._mesh(patch / 255.0)
        score = float(_sigmoid(presence.reshape(())))
        if score < MESH_SCORE:
            return None
        points = np.empty((MESH_POINTS + 2 * IRIS_POINTS, 3), np.float32)
        points[:MESH_POINTS] = back(raw.reshape(-1, 3))
        for eye, (outer, inner) in enumerate(EYE_CORNERS):
            corners = points[[outer, inner]]
            contour, iris = self._eye(image, corners[:, :2], mirrored=eye == 1)
            points[list(EYE_CONTOURS[eye]), :2] = contour
            first = MESH_POINTS + eye * IRIS_POINTS
            points[first : first + IRIS_POINTS] = np.concatenate(
                [iris, np.full((IRIS_POINTS, 1), corners[:, 2].mean())], axis=1
            )
        return FaceLandmarks(points, score)

    def _eye(self, image, corners, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        """Lid contour (16, 2) and iris (5, 2: centre, then its border) in pixels. The graph knows one eye only."""
        across = corners[0] - corners[1] if mirrored else corners[1] - corners[0]
        size = IRIS_MARGIN * np.hypot(*across)
        patch, back = _region(image, corners.mean(0), size, np.arctan2(across[1], across[0]), IRIS_SIDE)
        raw = self._iris(patch[:, ::-1] / 255.0 if mirrored else patch / 255.0)
        contour, iris = sorted((part.reshape(-1, 3) for part in raw), key=len, reverse=True)
        points = np.concatenate([contour[: len(EYE_CONTOURS[0])], iris])
        if mirrored:
            points[:, 0] = IRIS_SIDE - points[:, 0]
            # An iris's border runs image right, up, left, down in both eyes of the set.
            points[[-4, -2]] = points[[-2, -4]]
        points = back(points)[:, :2]
        return points[:-IRIS_POINTS], points[-IRIS_POINTS:]


class _Graph:
    """One checked graph file: float32 (side, side, 3) -> its outputs without the batch axis."""

    def __init__(self, folder: Path, name: str):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise InputError("config.prepare.analyzer: litert is not installed; pip install ai-edge-litert") from None
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: is not there; {RECIPE}")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
            raise InputError(f"{path}: is not the file of mediapipe 0.10.21 (its checksum differs); {RECIPE}")
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()
        self.side = int(self._input["shape"][1])

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(image[None], dtype=np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output["index"])[0] for output in self._outputs]


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.clip(x, -80.0, 80.0)))


def _anchors(layers: tuple[tuple[int, int], ...]) -> np.ndarray:
    """(cells per side, anchors per cell) of each layer -> centres (N, 2) in [0, 1], row by row."""
    parts = []
    for cells, count in layers:
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells
        parts.append(np.repeat(centres, count, axis=0))
    return np.concatenate(parts).astype(np.float32)


def _detect(image: np.ndarray, graph: _Graph, anchors: np.ndarray) -> list[DetectedFace]:
    import cv2

    height, width = image.shape[:2]
    longer = max(height, width)
    inner = (max(1, round(width * graph.side / longer)), max(1, round(height * graph.side / longer)))
    left, top = (graph.side - inner[0]) // 2, (graph.side - inner[1]) // 2
    box = np.zeros((graph.side, graph.side, 3), np.float32)
    box[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    outputs = sorted(graph(box / 127.5 - 1.0), key=lambda part: part.shape[-1])
    scores = _sigmoid(outputs[0][:, 0])
    chosen = scores >= DETECTION_SCORE
    scale = longer / graph.side
    values = outputs[1][chosen].reshape(-1, 8, 2)
    anchor = anchors[chosen][:, None] * graph.side
    points = values.copy()
    points[:, [0, 2, 3, 4, 5, 6, 7]] += anchor  # row 1 is width and height
    points[:, [0, 2, 3, 4, 5, 6, 7]] -= (left, top)
    points *= scale
    return [
        DetectedFace(*(p[0] - p[1] / 2).tolist(), *p[1].tolist(), float(score), p[2:].astype(np.float32))
        for p, score in zip(points, scores[chosen])
    ]


def _merged(faces: list[DetectedFace]) -> list[DetectedFace]:
    """Weighted non-maximum suppression: overlapping boxes become their mean, weighted by score."""
    rest = sorted(faces, key=lambda face: -face.score)
    kept = []
    while rest:
        group = [face for face in rest if _same_face(rest[0], face)]
        rest = [face for face in rest if face not in group]
        weights = np.array([face.score for face in group])
        weights /= weights.sum()
        box = sum(w * np.array([f.x, f.y, f.width, f.height]) for w, f in zip(weights, group))
        points = sum(w * f.keypoints for w, f in zip(weights, group)).astype(np.float32)
        kept.append(DetectedFace(*box.tolist(), group[0].score, points))
    return sorted(kept, key=lambda face: -face.size)


def _same_face(a: DetectedFace, b: DetectedFace) -> bool:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(width, 0.0) * max(height, 0.0)
    areas = a.width * a.height, b.width * b.height
    return shared > OVERLAP * (sum(areas) - shared) or shared > INSIDE * min(areas)


def _region(image: np.ndarray, centre, size: float, angle: float, side: int):
    """The square of `size` pixels around `centre`, turned by `angle` -> (side, side, 3) and the way back for points.

    Coordinates are continuous (a pixel's centre is at 0.5) on both sides.
    """
    import cv2

    scale = size / side
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    shift = np.asarray(centre, np.float64) - turn @ (side / 2, side / 2)
    to_image = np.concatenate([turn, (shift + turn @ (0.5, 0.5) - 0.5)[:, None]], axis=1)
    source = image
    if scale > 2:  # average before sampling, else fine texture aliases
        factor = int(scale)
        height, width = (max(1, n // factor) for n in image.shape[:2])
        source = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        ratio = np.array([width / image.shape[1], height / image.shape[0]])
        to_image = np.concatenate([turn * ratio[:, None], ((shift + turn @ (0.5, 0.5)) * ratio - 0.5)[:, None]], axis=1)
    patch = cv2.warpAffine(source, to_image, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)

    def back(points: np.ndarray) -> np.ndarray:
        flat = points[:, :2] @ turn.T + shift
        return np.concatenate([flat, scale * points[:, 2:3]], axis=1).astype(np.float32)

    return patch, back

"""The mesh of a photo head: a face of 468 points with holes, rings around it, patches behind eyes and mouth.

The face's triangles are those of FaceMesh's tessellation. They are read from `face_mesh_connections.py` of the
mediapipe 0.10.21 wheel (Apache-2.0), which the user puts beside the analyzer's graph files:

    unzip -j /tmp/mediapipe/*.whl '*/face_mesh_connections.py' -d face_models

It lists three edges per triangle and leaves holes at the eyes and the mouth. Indices are FaceMesh's; "left" is the
image's left.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vasa_jax.errors import InputError

FACE_POINTS, FACE_TRIANGLES = 468, 852
CONNECTIONS = "face_mesh_connections.py"
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip  # clockwise in the picture, from the top
RINGS = (1.06, 1.14, 1.25, 1.38, 1.55, 1.8, 2.2, 2.9, 4.0)  # over the oval's distance from its middle
# Lips from the left corner to the right one: rows of 11 points from the outer to the inner edge.
UPPER_LIP = (
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291), (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292), (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
)  # fmt: skip
LOWER_LIP = (
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291), (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292), (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
)  # fmt: skip
# Per eye (left, right): lid points from the outer to the inner corner, without the corners.
UPPER_LID = ((246, 161, 160, 159, 158, 157, 173), (466, 388, 387, 386, 385, 384, 398))
LOWER_LID = ((7, 163, 144, 145, 153, 154, 155), (249, 390, 373, 374, 380, 381, 382))
EYE_CORNERS = ((33, 133), (263, 362))  # outer, inner
BROWS = (((70, 63, 105, 66, 107), (46, 53, 52, 65, 55)), ((300, 293, 334, 296, 336), (276, 283, 282, 295, 285)))
EYE_GRID, MOUTH_GRID = (7, 5), (9, 7)  # columns, rows of the patches behind the holes
SKIN, LIP, BROW, EYE_LEFT, EYE_RIGHT, MOUTH = range(6)  # materials of triangles


class Mesh(NamedTuple):
    """Vertices are the face's points, then the rings' from the inside, both eye patches and the mouth patch."""

    triangles: np.ndarray  # (T, 3) int32
    material: np.ndarray  # (T,) int32
    face: np.ndarray  # (F, 3): the face's own triangles, which come first


def face_mesh(folder: str | Path) -> Mesh:
    """Returns the mesh, with the face's triangles as `folder` / CONNECTIONS lists them.

    InputError where that file is missing or is another.
    """
    path = Path(folder) / CONNECTIONS
    recipe = "take it from the mediapipe 0.10.21 wheel as the top of vasa_jax/corpus/photos/topology.py says"
    if not path.is_file():
        raise InputError(f"{path}: is not there; {recipe}")
    text = path.read_text(errors="replace")
    pairs = re.findall(r"\((\d+),\s*(\d+)\)", text.partition("FACEMESH_TESSELATION")[2])
    edges = np.array(pairs[: 3 * FACE_TRIANGLES], int).reshape(-1, 2)
    if len(edges) != 3 * FACE_TRIANGLES or edges.max() >= FACE_POINTS:
        raise InputError(f"{path}: does not list {FACE_TRIANGLES} triangles of {FACE_POINTS} points; {recipe}")
    triangles = [sorted(set(edge.ravel().tolist())) for edge in edges.reshape(-1, 3, 2)]
    if any(len(triangle) != 3 for triangle in triangles):
        raise InputError(f"{path}: its edges do not close to triangles; {recipe}")
    return mesh_around(np.array(triangles))


def mesh_around(face: np.ndarray) -> Mesh:
    """Returns the mesh whose face has the triangles (F, 3) `face`."""
    lips = {i for row in (*UPPER_LIP, *LOWER_LIP) for i in row}
    brows = {i for pair in BROWS for row in pair for i in row}
    material = np.full(len(face), SKIN)
    material[[set(t) <= lips for t in face.tolist()]] = LIP
    material[[set(t) <= brows for t in face.tolist()]] = BROW
    parts, materials = [face], [material]
    count, inner = len(OVAL), np.array(OVAL)
    for k in range(len(RINGS)):
        outer = FACE_POINTS + k * count + np.arange(count)
        a, b, c, d = inner, np.roll(inner, -1), outer, np.roll(outer, -1)
        parts += [np.stack([a, b, c], 1), np.stack([b, d, c], 1)]
        materials += [np.full(2 * count, SKIN)]
        inner = outer
    first = FACE_POINTS + len(RINGS) * count
    for kind, grid in ((EYE_LEFT, EYE_GRID), (EYE_RIGHT, EYE_GRID), (MOUTH, MOUTH_GRID)):
        parts.append(_grid(first, *grid))
        materials.append(np.full(len(parts[-1]), kind))
        first += grid[0] * grid[1]
    return Mesh(np.concatenate(parts).astype(np.int32), np.concatenate(materials).astype(np.int32), face)


def harmonic_weights(triangles: np.ndarray, handles: np.ndarray) -> np.ndarray:
    """Returns (FACE_POINTS, handles): how values given at `handles` spread over the face, by the uniform Laplacian."""
    adjacency = np.zeros((FACE_POINTS, FACE_POINTS))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        adjacency[triangles[:, i], triangles[:, j]] = adjacency[triangles[:, j], triangles[:, i]] = 1.0
    laplacian = np.diag(adjacency.sum(1)) - adjacency
    free = np.setdiff1d(np.arange(FACE_POINTS), handles)
    weights = np.zeros((FACE_POINTS, len(handles)))
    weights[handles, np.arange(len(handles))] = 1.0
    weights[free] = np.linalg.solve(laplacian[np.ix_(free, free)], -laplacian[np.ix_(free, handles)])
    return weights


def _grid(first: int, columns: int, rows: int) -> np.ndarray:
    """Triangles of a grid of vertices that are numbered row by row from `first`."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel() + first
    upper = np.stack([corner, corner + 1, corner + columns], 1)
    lower = np.stack([corner + 1, corner + columns + 1, corner + columns], 1)
    return np.concatenate([upper, lower])

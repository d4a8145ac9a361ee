"""A drawn person as an analyzer would read it: picture, matte and 478 points; and a mesh for it.

The points are the median, in the canonical frame, of those that FaceMesh finds in 566 public-domain portraits.
"""

from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import Delaunay

from vasa_jax.corpus.photos import topology as T
from vasa_jax.corpus.photos.build import Builder, PhotoHead
from vasa_jax.corpus.photos.framing import place
from vasa_jax.preparation.photos import Portrait

MEDIAN = np.load(Path(__file__).with_name("median_face.npz"))["points"].astype(np.float64)
SKIN, WHITE, IRIS, LIPS, CLOTH, GROUND = (
    (205, 160, 135), (235, 235, 230), (70, 50, 35), (170, 80, 80), (60, 70, 110), (150, 170, 160),
)  # fmt: skip


def drawn_points(side: int = 256, scale: float = 0.9) -> np.ndarray:
    """(478, 3) in pixels of a square of `side`: the median face, straight ahead, a little above the middle."""
    points = MEDIAN * scale * side / 2
    points[:, :2] += side / 2
    points[:, 1] -= 0.05 * side
    return points.astype(np.float32)


def drawn_person(points: np.ndarray, side: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 (side, side, 3), matte uint8 (side, side)) of the person with these points."""
    image, matte = np.full((side, side, 3), GROUND, np.uint8), np.zeros((side, side), np.uint8)

    def fill(outline, colour):
        pixels = [(np.asarray(outline) * 16 - 8).round().astype(np.int32)]
        cv2.fillPoly(image, pixels, colour, cv2.LINE_AA, 4)
        if matte is not None:
            cv2.fillPoly(matte, pixels, 255, cv2.LINE_AA, 4)

    oval = points[list(T.OVAL), :2]
    middle, low = oval.mean(0), oval[:, 1].max()
    width = np.ptp(oval[:, 0])
    fill([(middle[0] - width, side), (middle[0] - 0.6 * width, low), (middle[0] + 0.6 * width, low),
          (middle[0] + width, side)], CLOTH)  # fmt: skip
    fill(middle + (oval - middle) * 1.12, (90, 60, 40))  # hair
    fill(oval, SKIN)
    for side_ in range(2):
        ring = [T.EYE_CORNERS[side_][0], *T.UPPER_LID[side_], T.EYE_CORNERS[side_][1], *T.LOWER_LID[side_][::-1]]
        fill(points[ring, :2], WHITE)
        centre, radius = points[468 + 5 * side_, :2], 0.2 * np.linalg.norm(np.subtract(*points[ring[::8], :2]))
        inside = np.zeros((side, side), np.uint8)
        cv2.fillPoly(inside, [(points[ring, :2] * 16 - 8).round().astype(np.int32)], 1, shift=4)
        disc = np.zeros((side, side), np.uint8)
        cv2.circle(disc, tuple((centre * 16 - 8).round().astype(int)), round(radius * 16), 1, -1, shift=4)
        image[(inside & disc) > 0] = IRIS
    for pair in T.BROWS:
        fill(points[[*pair[0], *pair[1][::-1]], :2], (80, 55, 40))
    fill(points[[*T.UPPER_LIP[0], *T.LOWER_LIP[0][-2:0:-1]], :2], LIPS)
    return image, matte


def drawn_mesh() -> T.Mesh:
    """A mesh of the median face, by Delaunay's triangulation of its front view, with holes at eyes and mouth."""
    front = MEDIAN[: T.FACE_POINTS, :2].copy()
    rings = [[*T.UPPER_LIP[3], *T.LOWER_LIP[3][-2:0:-1]]]
    rings += [[T.EYE_CORNERS[s][0], *T.UPPER_LID[s], T.EYE_CORNERS[s][1], *T.LOWER_LID[s][::-1]] for s in range(2)]
    front[:, 1] += np.where(front[:, 1] > front[[13, 14], 1].mean(), 0.1, 0.0)  # a mouth wide open is a hole
    for upper, lower in zip(T.UPPER_LIP, T.LOWER_LIP):
        front[list(upper[1:-1]), 1] = np.minimum(front[list(upper[1:-1]), 1], MEDIAN[list(upper[1:-1]), 1])
        front[list(lower[1:-1]), 1] = MEDIAN[list(lower[1:-1]), 1] + 0.1
        front[[upper[0], upper[-1]], 1] = MEDIAN[[upper[0], upper[-1]], 1] + 0.05
    triangles = Delaunay(front).simplices
    holes = [set(ring) for ring in rings]
    return T.mesh_around(np.array([t for t in triangles.tolist() if not any(set(t) <= hole for hole in holes)]))


def write_connections(folder: Path, triangles: np.ndarray) -> None:
    """Writes the file that lists FaceMesh's triangles, as the wheel has it."""
    edges = [f"({a}, {b}), ({b}, {c}), ({c}, {a})" for a, b, c in np.asarray(triangles).tolist()]
    (folder / T.CONNECTIONS).write_text(f"FACEMESH_TESSELATION = frozenset([{', '.join(edges)}])")


def as_many_triangles(mesh: T.Mesh) -> np.ndarray:
    """The face's triangles of a drawn mesh without the smallest, as many as FaceMesh has."""
    a, b, c = (MEDIAN[mesh.face[:, i], :2] for i in range(3))
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    return mesh.face[np.sort(np.argsort(-area, kind="stable")[: T.FACE_TRIANGLES])]


def drawn_head() -> PhotoHead:
    """The drawn person as a photo head."""
    points = drawn_points()
    image, matte = drawn_person(points)
    photo = place(image, matte, points, Portrait(image, matte, points).pose, 0.0, np.array([0.0, -0.05]))
    return Builder(drawn_mesh())(photo, np.random.default_rng(0))

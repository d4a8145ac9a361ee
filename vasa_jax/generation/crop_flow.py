"""Movement between two pictures of one square crop, also at its edges and beyond them.

What has come in over an edge cannot be found in the other picture: there the measured flow means nothing, and that of
the pixels further inside is continued. So hair that the square cuts goes on moving as the head does.
"""

from typing import NamedTuple

import numpy as np

BAND = 0.2  # of the side: how far from an edge a flow that explains nothing is replaced
SMALL = 48  # pixels per side at which flow is continued
SPREADS = (0.25, 0.08, 0.03)  # of the side: over which it is continued, nearer pixels first


class Edges(NamedTuple):
    """Which edges of the square lie inside of the picture: beyond them the photograph goes on."""

    left: bool
    right: bool
    top: bool
    bottom: bool

    def distance(self, x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
        """Returns how far places of the square are inside of these edges, in pixels; infinite without edges."""
        result = np.full(np.broadcast_shapes(np.shape(x), np.shape(y)), np.inf, np.float32)
        for inside, value in zip(self, (x, side - 1 - x, y, side - 1 - y), strict=True):
            result = np.minimum(result, value) if inside else result
        return result


def smooth_step(share: np.ndarray) -> np.ndarray:
    """Returns 0 below 0, 1 above 1, and a smooth way between."""
    share = np.clip(share, 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def mended(
    flow: np.ndarray, explained: np.ndarray, edges: Edges
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a flow float32 (n, n, 2) continued to the edges from within, and which of it stays in the square.

    explained: (n, n), 1 = the flow shows the same thing in both pictures. The second result is float32 (n, n): 0 = the
    flow points beyond an edge, where the square knows nothing and the photograph does.
    """
    import cv2

    side = len(flow)
    grid = np.arange(side, dtype=np.float32)

    def within(flow):
        return smooth_step(edges.distance(grid + flow[..., 0], grid[:, None] + flow[..., 1], side) / (0.03 * side))

    band = 1.0 - smooth_step(edges.distance(grid, grid[:, None], side) / (BAND * side))
    if not band.any():
        return flow, np.ones((side, side), np.float32)
    trust = explained * within(flow)
    small = cv2.resize(np.dstack([flow * trust[..., None], trust]), (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    guess = np.zeros((SMALL, SMALL, 2), np.float32)
    for spread in SPREADS:
        blurred = cv2.GaussianBlur(small, (0, 0), spread * SMALL)
        weight = blurred[..., 2:]
        guess += np.minimum(4.0 * weight, 1.0) * (blurred[..., :2] / np.maximum(weight, 1e-4) - guess)
    share = cv2.GaussianBlur((band * (1.0 - trust)).astype(np.float32), (0, 0), max(0.01 * side, 0.5))[..., None]
    result = flow + share * (cv2.resize(guess, (side, side), interpolation=cv2.INTER_CUBIC) - flow)
    return result.astype(np.float32), within(result).astype(np.float32)


def continued(flow: np.ndarray, rim: int) -> np.ndarray:
    """Returns a flow (n, n, 2) continued over a rim around it: that of its edge, ever smoother."""
    import cv2

    wide = cv2.copyMakeBorder(flow, *[rim] * 4, cv2.BORDER_REPLICATE)
    soft = cv2.blur(cv2.blur(wide, (rim, rim), borderType=cv2.BORDER_REPLICATE), (rim, rim))
    outside = np.maximum(np.abs(np.arange(len(wide)) + 0.5 - len(wide) / 2) - len(flow) / 2, 0.0)
    share = np.clip(np.maximum(outside, outside[:, None]) * (2.0 / rim), 0.0, 1.0).astype(np.float32)[..., None]
    return wide + share * (soft - wide)

"""Rendered frames put back into the whole photograph, at its own size and sharpness.

A codec sees a square of a few hundred pixels, makes it anew, and errs: it blurs, shifts colours, loses moles. Pasting
its frames as they are would show all that. So a frame only tells what has *changed* since the codec's own picture of
the portrait at rest: where each pixel has moved from (optical flow between the two), and what is new (an opened mouth,
a closed lid). The photograph's pixels are moved, and only what is new is painted. Nothing has changed in a portrait
that does not move: the photograph comes back as it is.

Paint fades out within the square, movement beyond its edges: the picture around continues without a seam, and
shoulders or hair that cross an edge bend instead of being cut.

With a frame F, the rest R, the photograph P, flow d (F(x) is R(x + d)), and fades m of paint and s of movement:

    A = P(x + s d)                              the photograph, moved
    N = F - R(x + d)                            what the flow does not explain
    w = exp(-blurred N^2 / NEW^2)               1 = the same thing is seen
    Q = R(x + d) + colour(x + d)                the codec's picture, its colour errors (P - R, blurred) taken back
    out = A + m (N + (1 - w) (Q - A))
"""

from typing import NamedTuple

import numpy as np

from vasa_jax.data.face_crop import Crop
from vasa_jax.generation.crop_flow import Edges, continued, mended, smooth_step
from vasa_jax.generation.landmark_crop import TurnedSquare, square_place

LONGEST = 4096  # pixels of the longer side of a picture that is written; larger ones are reduced
FADE = 0.1  # of the square's side, over which paint fades within edges that lie inside the picture
BEYOND = 0.3  # of the square's side, over which movement fades outside of it
HELD = 0.1  # of the square's side, over which movement across the picture's own edges fades
NEW = 14.0  # levels of 255: root mean square of what the flow does not explain, from which on it counts as new
NEIGHBOURS = 0.01  # of the square's side: over which that is pooled
COLOUR = 0.06  # of the square's side: standard deviation of the blur that makes errors colour errors
LARGE = 3.0  # pixels of the picture per pixel of the crop: from here on linear interpolation loses nothing visible
TILE = 256  # pixels of the picture that are made at once
LEAST_SHIFT, LEAST_SHARE, LEAST_CHANGE = 0.02, 1 / 512, 0.2  # pixels, share, levels: less is not seen


class Place(NamedTuple):
    """Where the pixels of a square crop lie in a picture: X = linear x + offset, both at pixel centres.

    linear: float64 (2, 2); offset: float64 (2,); crop coordinates count pixels of a crop of `side` pixels.
    """

    linear: np.ndarray
    offset: np.ndarray
    side: int

    @classmethod
    def of_crop(cls, crop: Crop, side: int) -> "Place":
        """Returns the place of an upright square that was brought to `side` pixels."""
        scale = crop.size / side
        return cls(scale * np.eye(2), np.array([crop.x, crop.y]) + 0.5 * scale - 0.5, side)

    @classmethod
    def of(cls, square: Crop | TurnedSquare, side: int) -> "Place":
        """Returns the place of a square that was cut out and brought to `side` pixels."""
        if isinstance(square, Crop):
            return cls.of_crop(square, side)
        return cls(*square_place(square, side), side)

    @property
    def scale(self) -> float:
        """Returns pixels of the picture per pixel of the crop."""
        return float(np.sqrt(abs(np.linalg.det(self.linear))))

    def brought_to(self, side: int) -> "Place":
        """Returns the place of the same square at another number of pixels."""
        ratio = self.side / side
        corner = self.offset - self.linear @ (0.5, 0.5)
        return Place(self.linear * ratio, corner + self.linear @ (0.5 * ratio, 0.5 * ratio), side)

    def in_reduced(self, factor: float) -> "Place":
        """Returns the place in the picture at `factor` times its size."""
        return Place(self.linear * factor, (self.offset + 0.5) * factor - 0.5, self.side)

    def widened(self, rim: int) -> "Place":
        """Returns the place of the square with a rim of so many pixels around it."""
        return Place(self.linear, self.offset - self.linear @ (rim, rim), self.side + 2 * rim)

    def points(self, crop_points: np.ndarray) -> np.ndarray:
        """Returns places in the picture (N, 2) of points of the crop (N, 2)."""
        return np.asarray(crop_points, np.float64) @ self.linear.T + self.offset


def writable(picture: np.ndarray, place: Place) -> tuple[np.ndarray, Place]:
    """Returns a picture uint8 (H, W, 3) and a place in it as a video can hold them.

    Sides are even (H.264 keeps colour for 2 x 2 pixels): of odd ones the last row or column is left out. A longer side
    over LONGEST is reduced to it.
    """
    import cv2

    factor = LONGEST / max(picture.shape[:2])
    if factor < 1:
        height, width = (max(round(n * factor), 2) for n in picture.shape[:2])
        picture, place = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), place.in_reduced(factor)
    height, width = (n // 2 * 2 for n in picture.shape[:2])
    return picture[:height, :width], place


class Paste:
    """One portrait's place in its photograph. Calling it with a rendered frame returns the whole picture.

    Attributes:
      picture: uint8 (H, W, 3), as `writable` returns it.
      mark: levels that are added to every frame, or None.
    """

    def __init__(self, picture: np.ndarray, place: Place, portrait: np.ndarray, rest: np.ndarray, mark=None):
        """portrait, rest: uint8 (n, n, 3), the crop as the codec saw it and its own picture of it, unmarked.

        mark: float32 (H, W), levels that are added to every frame (`picture_mark.py`); None = unmarked.
        """
        import cv2

        side = min(place.side, max(round(place.side * place.scale), 1))  # small pictures get no more than they hold
        self.picture, self._place, self.mark = picture, place.brought_to(side), mark
        self._rest = self._sized(rest)
        errors = self._sized(portrait).astype(np.float32) - self._rest
        self._colour = cv2.GaussianBlur(errors, (0, 0), max(COLOUR * side, 0.5))
        self._edges = _inner_edges(self._place, picture.shape[:2])
        self._fade = _fade(side, self._edges)
        self._beyond = max(round(BEYOND * side), 1)
        self._wide = self._place.widened(self._beyond)
        self._reach = _reach(side, self._beyond)[..., None] * _held(self._wide, picture.shape[:2], HELD * side)
        self._grid = np.stack(np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2), -1)
        self._still = picture if mark is None else _rounded(picture.astype(np.float32) + mark[..., None])
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    @property
    def size(self) -> tuple[int, int]:
        """Returns height and width of the pictures."""
        return self.picture.shape[:2]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Returns the whole picture, uint8 (H, W, 3), with a rendered frame, uint8 (n, n, 3) and unmarked, in it."""
        import cv2

        shift, fresh, paint = self._changes(self._sized(frame))
        active = (np.abs(shift).max(-1) > LEAST_SHIFT) | (fresh > LEAST_SHARE)
        active |= np.abs(paint).max(-1) > LEAST_CHANGE
        result = self._still.copy()
        if not active.any():
            return result
        active = cv2.dilate(active.astype(np.uint8), np.ones((5, 5), np.uint8))
        rows, columns = np.nonzero(active.any(1))[0], np.nonzero(active.any(0))[0]
        around = [(x, y) for x in (columns[0] - 1, columns[-1] + 1) for y in (rows[0] - 1, rows[-1] + 1)]
        corners = self._wide.points(np.array(around))
        height, width = self.picture.shape[:2]
        left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (width, height))
        right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, (width, height))
        moves = np.concatenate([shift, fresh[..., None]], -1)
        for y in range(top, bottom, TILE):
            for x in range(left, right, TILE):
                self._make(result, (x, y, min(x + TILE, right), min(y + TILE, bottom)), moves, paint, active)
        return result

    def _sized(self, image: np.ndarray) -> np.ndarray:
        import cv2

        side = self._place.side
        return image if len(image) == side else cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)

    def _changes(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what is to be done in the crop and the rim around it: s d (h, w, 2) in pixels of the picture,
        m (1 - w) (h, w), and m (N + (1 - w) Q) (h, w, 3)."""
        import cv2

        if min(frame.shape[:2]) < 12 or np.array_equal(frame, self._rest):  # the flow needs some pixels
            flow = np.zeros((*frame.shape[:2], 2), np.float32)
        else:
            grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (frame, self._rest)]
            flow = self._flow.calc(*grey, None)
        rest = self._rest.astype(np.float32)
        flow, within = mended(flow, self._explained(frame, self._moved(rest, flow)), self._edges)
        moved, colour = self._moved(rest, flow), self._moved(self._colour, flow)
        fade = self._fade * within  # what comes in over an edge the photograph shows, not the codec
        fresh = fade * (1.0 - self._explained(frame, moved))
        paint = fade[..., None] * (frame - moved) + fresh[..., None] * (moved + colour)
        shift = (continued(flow, self._beyond) @ self._place.linear.T.astype(np.float32)) * self._reach
        rim = [(self._beyond, self._beyond)] * 2  # where paint is 0, but beyond the picture
        return shift, np.pad(fresh, rim, "edge"), np.pad(paint, [*rim, (0, 0)], "edge")

    def _moved(self, image: np.ndarray, flow: np.ndarray) -> np.ndarray:
        """Returns an image of the square with the pixels that a flow points at."""
        import cv2

        return cv2.remap(image, self._grid + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _explained(self, frame: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Returns w, float32 (n, n): 1 where a frame shows what was moved there."""
        import cv2

        blur = max(NEIGHBOURS * len(frame), 0.3)
        pooled = cv2.GaussianBlur(np.square(frame - moved).mean(-1), (0, 0), blur)
        return cv2.GaussianBlur(np.exp(-pooled / NEW**2), (0, 0), blur)

    def _make(self, result: np.ndarray, box: tuple[int, int, int, int], moves, paint, active) -> None:
        """Makes the pixels of a box (left, top, right, bottom) of the result."""
        import cv2

        left, top, right, bottom = box
        back = np.linalg.inv(self._wide.linear)
        shift = back @ (np.array([left, top]) - self._wide.offset)
        seen = np.array([(x, y) for x in (left, right) for y in (top, bottom)]) - self._wide.offset
        low, high = np.floor((seen @ back.T).min(0)).astype(int), np.ceil((seen @ back.T).max(0)).astype(int) + 1
        low, high = np.clip(low, 0, self._wide.side - 1), np.clip(high, 1, self._wide.side)
        part = np.s_[low[1] : high[1], low[0] : high[0]]
        if not active[part].any():
            return
        inverse, size = np.concatenate([back, shift[:, None]], 1), (right - left, bottom - top)

        def enlarged(image, method):
            flags = method | cv2.WARP_INVERSE_MAP
            return cv2.warpAffine(image, inverse, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

        smooth = enlarged(moves, cv2.INTER_LINEAR)
        x = smooth[..., 0] + np.arange(left, right, dtype=np.float32)
        y = smooth[..., 1] + np.arange(top, bottom, dtype=np.float32)[:, None]
        sampling = cv2.INTER_LINEAR if self._wide.scale > LARGE else cv2.INTER_CUBIC
        made = cv2.remap(self.picture, x, y, sampling, borderMode=cv2.BORDER_REPLICATE)
        if moves[part][..., 2].max() > LEAST_SHARE or np.abs(paint[part]).max() > LEAST_CHANGE:
            kept = 1.0 - smooth[..., 2]
            made = cv2.multiply(made, cv2.merge([kept] * 3), dtype=cv2.CV_32F)
            made += enlarged(paint, cv2.INTER_CUBIC)
        if self.mark is not None:
            made = made + self.mark[top:bottom, left:right, None]
        result[top:bottom, left:right] = made if made.dtype == np.uint8 else _rounded(made)


def _inner_edges(place: Place, shape: tuple[int, int]) -> Edges:
    """Returns which edges of the square lie inside of a picture of this height and width."""
    height, width = shape
    last, middle = place.side - 0.5, place.side / 2 - 0.5
    ends = place.points(np.array([(-0.5, middle), (last, middle), (middle, -0.5), (middle, last)]))
    return Edges(*((ends > 0.5).all(1) & (ends < (width - 1.5, height - 1.5)).all(1)))


def _fade(side: int, edges: Edges) -> np.ndarray:
    """Returns m, float32 (n, n): 1 within the square, 0 at those of its edges that lie inside the picture."""
    way = np.arange(side)
    far = FADE * max(side - 1, 1)
    across = edges._replace(top=False, bottom=False).distance(way, np.zeros(1), side)
    down = edges._replace(left=False, right=False).distance(np.zeros(1), way, side)
    return (smooth_step(down / far)[:, None] * smooth_step(across / far)).astype(np.float32)


def _reach(side: int, rim: int) -> np.ndarray:
    """Returns s, float32 (n, n) of a square with a rim: 1 within the square, 0 at the outer edge."""
    outside = np.maximum(np.abs(np.arange(side + 2 * rim) + 0.5 - side / 2 - rim) - side / 2, 0.0)
    return smooth_step(1.0 - np.hypot(outside, outside[:, None]) / rim).astype(np.float32)


def _held(place: Place, shape: tuple[int, int], width: float) -> np.ndarray:
    """Returns shares of movement along x and y, float32 (n, n, 2): nothing is pulled in from beyond the picture.

    shape: height and width of the picture; width: in pixels of the crop, of the zone at its edges.
    """
    grid = np.stack(np.meshgrid(*[np.arange(place.side)] * 2), -1).reshape(-1, 2)
    places, last = place.points(grid), np.array(shape[::-1]) - 1.0
    share = smooth_step(np.minimum(places, last - places) / (width * place.scale))
    return share.reshape(place.side, place.side, 2).astype(np.float32)


def _rounded(levels: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.convertScaleAbs(np.maximum(levels, 0.0))  # rounds, and ends at 255

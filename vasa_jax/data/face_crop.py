"""Where the face is, and the square around head and shoulders that the models see.

Detection uses the Haar cascades inside opencv-python-headless < 5: no download, about 0.1 s per image, frontal to
half-profile. It is a convenience for framing, not a measurement; `--config.crop` overrides it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vasa_jax.errors import InputError

# How the built-in corpus is framed: medians over its frontal renders of the same cascades' boxes (deviation 0.04 of the
# width, 0.013 of the height). The profile cascade's box is wider and reaches to the ear: 0.62, over its renders at yaw
# of 0.4 and 0.8.
FRONTAL_FRACTION = 0.555  # box side over frame side
PROFILE_FRACTION = 0.62
CENTRE_HEIGHT = 0.478  # box centre below the frame's upper edge, over frame side; horizontally it is the middle

COARSE_SIDE, FINE_SIDE = 480, 960  # pixels of the longer side during detection
MIN_FACE = 36  # pixels at those sizes
LARGE_SIDES = (1920, 3840)  # of large pictures, where nothing was found at those sizes
LARGE_FACES = (56, 200)  # pixels at these sizes: larger ones have been looked for
LARGE_PICTURE = 2400  # pixels of the longer side
SMALL_SHARE = 0.2  # of the longer side
LOOK_AGAIN = 130  # pixels of a doubtful face when it is looked at again, with half its size around it
SMALL_FACE = 64  # pixels of the image; below, the result is visibly soft
CUT_FACE = 0.1  # of its box beyond the image
SURE_WEIGHT = 56.0  # alt2's last stage: faces give 56 to 58, texture 54.9 to 55.7
CLOSEST = 0.64  # of a frontal face's box over the frame's side; beyond, hair and chin are cut
MOST_SHIFT = 0.15  # of the frame's side
SOFT = 0.04  # of the frame's side: over which the picture turns into the blurred colour beyond it
TILTS = (-25, 25)  # degrees; the cascades themselves tolerate about 15
LARGEST_CROP = 2  # times the longer side of the image


@dataclass(frozen=True)
class FaceBox:
    """A face as a square from brow to chin: upper left corner and side in pixels, `view` "frontal" or "profile".

    note: what the user should be told (several faces, a very small one), or None.
    """

    x: float
    y: float
    size: float
    view: str = "frontal"
    note: str | None = None


class Crop(NamedTuple):
    """A square in pixels of the image; it may reach beyond its edges. `str()` is what --config.crop takes."""

    x: int
    y: int
    size: int

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.size}"


class _Candidate(NamedTuple):
    x: float
    y: float
    size: float
    eyes: int
    weight: float
    cascades: int
    view: str


def find_face(image: np.ndarray, source: str = "the picture") -> FaceBox:
    """Finds the largest face of uint8 RGB (H, W, 3); among equally large ones the most central. `source` names the
    image.

    A frontal face needs two cascades that agree and eyes inside (or a very sure second cascade); else a profile with an
    eye; else, with stricter proof, a small face, one that the image's edge cuts, or a tilted one. What rests on little
    is looked at again in the full picture: texture is rarely a face twice.
    Raises InputError where there is none.
    """
    height, width = image.shape[:2]
    for found in _attempts(image):
        found = [face for face in found if _is_sure(face) or _found_again(image, face)]
        if not found:
            continue
        centre = np.array([width, height]) / 2
        largest = max(face.size for face in found)
        close = [face for face in found if face.size > 0.85 * largest]
        chosen = min(close, key=lambda face: np.hypot(*(np.array([face.x, face.y]) + face.size / 2 - centre)))
        others = [_frame_within(*face[:3], face.view, height, width) for face in found if face is not chosen]
        # A few pixels of the reduced picture are many of a large one.
        rough = max(height, width) > LARGE_PICTURE and chosen.size < SMALL_SHARE * max(height, width)
        best = (_nearer(image, chosen) if rough else None) or chosen
        notes = []
        if others:
            crops = " or ".join(f"--config.crop={crop}" for crop in others[:3])
            notes.append(f"{len(found)} faces were found, using the largest; for another set {crops}")
        if best.size < SMALL_FACE:
            notes.append(f"the face is only {best.size:.0f} pixels wide, the video will be soft")
        outside = max(-best.x, -best.y, best.x + best.size - width, best.y + best.size - height) / best.size
        if outside > CUT_FACE:
            notes.append("the picture's edge cuts the face, what is missing cannot be invented")
        note = f"{source}: {'; '.join(notes)}" if notes else None
        return FaceBox(best.x, best.y, best.size, best.view, note)
    raise InputError(
        f"{source}: no face was found; set --config.crop=x,y,size (a square around head and shoulders, in pixels) "
        "or --config.crop=center"
    )


def find_faces(image: np.ndarray) -> list[FaceBox]:
    """Finds the frontal faces of uint8 RGB (H, W, 3), else the profiles, largest first: the quick half of `find_face`.
    """
    for found in itertools.islice(_attempts(image), 2):
        if found:
            return [FaceBox(f.x, f.y, f.size, f.view) for f in sorted(found, key=lambda face: -face.size)]
    return []


def frontal_quality(image: np.ndarray) -> tuple[int, int, float]:
    """Returns how good a portrait uint8 RGB (H, W, 3) makes, to be compared: cascades and eyes that agree, sharpness.

    Zeros without a frontal face. Sharpness is the variance of the Laplacian of the largest face, grey values squared.
    """
    import cv2

    grey, _ = _grey(image, COARSE_SIDE)
    face = max(_frontal(grey), key=lambda face: face.size, default=None)
    if face is None:
        return 0, 0, 0.0
    x, y, side = (max(round(value), 0) for value in face[:3])
    return face.cascades, min(face.eyes, 2), float(cv2.Laplacian(grey[y : y + side, x : x + side], cv2.CV_32F).var())


def corpus_box(side: int) -> FaceBox:
    """Returns where the face of the built-in corpus's frames, of `side` pixels, usually is."""
    size = FRONTAL_FRACTION * side
    return FaceBox((side - size) / 2, CENTRE_HEIGHT * side - size / 2, size, "frontal")


def portrait_crop(box: FaceBox) -> Crop:
    """Returns the head-and-shoulders square that frames `box` as the built-in corpus frames its heads."""
    return _frame(box.x, box.y, box.size, box.view)


def crop_within(box: FaceBox, height: int, width: int) -> Crop:
    """Returns the square of a picture (height, width) that is seen of a face: that of `portrait_crop`, if it can be.

    Where that square reaches beyond the picture, the largest one within the picture is taken if it shows the head
    nearly as well: up to `CLOSEST` of its side is face, and the face is up to `MOST_SHIFT` of the side off its place.
    """
    return _frame_within(box.x, box.y, box.size, box.view, height, width)


def parse_crop(text: str, height: int, width: int, source: str = "the picture") -> Crop:
    """Reads a crop: `x,y,size` in pixels (may reach beyond the image) or `center` (the largest central square).

    Raises InputError for another form, a size that is not positive or absurdly large, and a square beside the image.
    """
    if text.strip().lower() in ("center", "centre"):
        size = min(height, width)
        return Crop((width - size) // 2, (height - size) // 2, size)
    try:
        x, y, size = (round(float(part)) for part in text.split(","))
    except (ValueError, OverflowError):  # not three numbers; infinite
        raise InputError(
            f"{source}: --config.crop={text} is no crop; give three numbers x,y,size in pixels, or center"
        ) from None
    limit = LARGEST_CROP * max(height, width)
    if not 1 <= size <= limit:
        raise InputError(f"{source}: --config.crop={text} has size {size}; give a size from 1 to {limit} pixels")
    if x >= width or y >= height or x + size <= 0 or y + size <= 0:
        raise InputError(
            f"{source}: --config.crop={text} lies beside the picture; it is {width} pixels wide and {height} high"
        )
    return Crop(x, y, size)


def crop_square(
    image: np.ndarray, where: FaceBox | Crop | str, out_size: int, source: str = "the picture"
) -> tuple[np.ndarray, Crop]:
    """Cuts a square out of uint8 RGB (H, W, 3): (uint8 (out_size, out_size, 3), the square taken).

    `where` is a face (framed as the corpus is), a Crop, or the text of --config.crop (see `parse_crop`). Beyond the
    image is the colour of its edge, blurred. Shrinking averages areas, enlarging is bicubic.
    """
    import cv2

    height, width = image.shape[:2]
    if isinstance(where, str):
        where = parse_crop(where, height, width, source)
    crop = crop_within(where, height, width) if isinstance(where, FaceBox) else where
    # Resized before it is padded: memory stays that of the image, whatever the square.
    left, right, x0, x1 = _span(crop.x, crop.size, width, out_size)
    top, bottom, y0, y1 = _span(crop.y, crop.size, height, out_size)
    inner = (right - left, bottom - top)
    method = cv2.INTER_AREA if crop.size > out_size else cv2.INTER_CUBIC
    pixels = cv2.resize(np.ascontiguousarray(image[y0:y1, x0:x1]), inner, interpolation=method)
    edges = (top, out_size - bottom, left, out_size - right)
    return _extended(pixels, edges), crop


def _extended(pixels: np.ndarray, edges: tuple[int, int, int, int]) -> np.ndarray:
    """Surrounds uint8 (h, w, 3) by (top, bottom, left, right) pixels: its own edge at the seam, then a blur of it.

    The edge alone, repeated, would give streaks.
    """
    import cv2

    wide = cv2.copyMakeBorder(pixels, *edges, cv2.BORDER_REPLICATE)
    if not any(edges):
        return wide
    size = max(wide.shape[:2])
    outside = cv2.copyMakeBorder(np.zeros(pixels.shape[:2], np.uint8), *edges, cv2.BORDER_CONSTANT, value=1)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    share = np.clip(distance / (SOFT * size), 0.0, 1.0)[..., None]
    # Blurred at an eighth of the size: the same result in a fraction of the time.
    small = cv2.resize(wide, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA) if size >= 64 else wide
    blurred = cv2.GaussianBlur(small, (0, 0), max(small.shape[:2]) / 10, borderType=cv2.BORDER_REPLICATE)
    blurred = cv2.resize(blurred, wide.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    mixed = np.rint(wide + share * (blurred.astype(np.float32) - wide)).astype(np.uint8)
    return np.where(distance[..., None] > 0, mixed, wide)


def _span(start: int, size: int, length: int, out_size: int) -> tuple[int, int, int, int]:
    """Along one axis: from, to in the result; from, to in the image. Neither is empty."""
    first, last = max(start, 0), min(start + size, length)
    begin = min(round((first - start) * out_size / size), out_size - 1)
    end = max(round((last - start) * out_size / size), begin + 1)
    return begin, end, first, last


def _frame_within(x: float, y: float, side: float, view: str, height: int, width: int) -> Crop:
    framed = _frame(x, y, side, view)
    size = min(framed.size, height, width)
    centre_x, centre_y = x + side / 2, y + side / 2
    left = min(max(round(centre_x - size / 2), 0), width - size)
    top = min(max(round(centre_y - CENTRE_HEIGHT * size), 0), height - size)
    if size == framed.size:  # rounded as the frame is
        left, top = min(max(framed.x, 0), width - size), min(max(framed.y, 0), height - size)
    fraction = FRONTAL_FRACTION if view == "frontal" else PROFILE_FRACTION
    shift = max(abs((centre_x - left) / size - 0.5), abs((centre_y - top) / size - CENTRE_HEIGHT))
    if framed.size * fraction > CLOSEST / FRONTAL_FRACTION * fraction * size or shift > MOST_SHIFT:
        return framed
    return Crop(left, top, size)


def _frame(x: float, y: float, side: float, view: str) -> Crop:
    size = side / (FRONTAL_FRACTION if view == "frontal" else PROFILE_FRACTION)
    left = x + side / 2 - size / 2
    top = y + side / 2 - CENTRE_HEIGHT * size
    return Crop(round(left), round(top), max(1, round(size)))


def _is_sure(face: _Candidate) -> bool:
    return face.view == "frontal" and face.cascades == 2 and (face.eyes >= 2 or face.weight >= SURE_WEIGHT)


def _found_again(image: np.ndarray, face: _Candidate) -> bool:
    """Whether a doubtful face is one at another size too, cut out of the full picture with what is around it."""
    return _nearer(image, face) is not None


def _nearer(image: np.ndarray, face: _Candidate) -> _Candidate | None:
    """The same face as it is found in the full picture, in its pixels; None where none is."""
    scale = face.size / LOOK_AGAIN
    around = Crop(round(face.x - face.size / 2), round(face.y - face.size / 2), max(round(2 * face.size), 2))
    height, width = image.shape[:2]
    if around.x >= width or around.y >= height or around.x + around.size <= 0 or around.y + around.size <= 0:
        return None
    grey, _ = _grey(crop_square(image, around, 2 * LOOK_AGAIN)[0], 2 * LOOK_AGAIN)
    expected = ((face.x - around.x) / scale, (face.y - around.y) / scale, LOOK_AGAIN)
    if face.view == "profile":
        found = _profile(grey)
    else:
        found = [f for f in _frontal(grey) if f.cascades == 2 and (f.eyes >= 2 or f.weight >= SURE_WEIGHT)]
    best = max(found, key=lambda other: _overlap(expected, other), default=None)
    if best is None or _overlap(expected, best) <= 0.4:
        return None
    (placed,) = _scaled([best], scale)
    return placed._replace(x=placed.x + around.x, y=placed.y + around.y)


def _attempts(image: np.ndarray) -> Iterator[list[_Candidate]]:
    """Faces in pixels of the image, from the likely ways of looking for them to the unlikely."""
    import cv2

    coarse, scale = _grey(image, COARSE_SIDE)
    yield _scaled(_frontal(coarse), scale)
    yield _scaled(_profile(coarse), scale)
    fine, fine_scale = _grey(image, FINE_SIDE)
    yield _scaled([face for face in _frontal(fine) if face.eyes >= 2], fine_scale)
    for side in LARGE_SIDES:
        if max(image.shape) > 0.7 * side:
            large, large_scale = _grey(image, min(side, max(image.shape)))
            yield _scaled([face for face in _frontal(large, LARGE_FACES) if face.cascades == 2], large_scale)
    # A face cut by the edge, or one that fills the image, lacks the surroundings that the cascades expect.
    edge = COARSE_SIDE // 4
    padded = cv2.copyMakeBorder(coarse, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    faces = [face for face in _frontal(padded) if face.eyes >= 2 and face.cascades == 2]
    yield _scaled([face._replace(x=face.x - edge, y=face.y - edge) for face in faces], scale)
    height, width = coarse.shape
    for tilt in TILTS:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), tilt, 1.0)
        turned = cv2.warpAffine(coarse, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        back = cv2.invertAffineTransform(turn)
        faces = [face for face in _frontal(turned) if face.eyes >= 2 and face.cascades == 2]
        centres = [back @ (face.x + face.size / 2, face.y + face.size / 2, 1.0) for face in faces]
        yield _scaled([f._replace(x=c[0] - f.size / 2, y=c[1] - f.size / 2) for f, c in zip(faces, centres)], scale)


def _grey(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """One channel with the longer side `side`, and pixels of the image per pixel of it."""
    import cv2

    height, width = image.shape[:2]
    scale = max(height, width) / side
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return cv2.cvtColor(cv2.resize(image, size, interpolation=method), cv2.COLOR_RGB2GRAY), scale


def _scaled(faces: list[_Candidate], scale: float) -> list[_Candidate]:
    return [face._replace(x=face.x * scale, y=face.y * scale, size=face.size * scale) for face in faces]


_of_thread = threading.local()  # a cascade keeps what it searches: two threads that share one break each other's search


def _cascade(name: str):
    import cv2

    if not hasattr(cv2, "CascadeClassifier"):
        raise InputError(f"OpenCV {cv2.__version__}: has no cascades; pip install 'opencv-python-headless<5'")
    opened = _of_thread.__dict__
    if name not in opened:
        opened[name] = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")
    return opened[name]


def _detect(
    name: str, grey: np.ndarray, sizes: tuple[int, int] = (MIN_FACE, 2**15)
) -> list[tuple[int, int, int, float]]:
    """(x, y, side, weight of the last stage) of each hit of one cascade; sides from and to `sizes`."""
    if min(grey.shape) < sizes[0]:
        return []
    least, most = ((side, side) for side in sizes)
    boxes, _, weights = _cascade(name).detectMultiScale3(
        grey, scaleFactor=1.08, minNeighbors=4, minSize=least, maxSize=most, outputRejectLevels=True
    )
    return [(int(x), int(y), int(w), float(q)) for (x, y, w, _), q in zip(boxes, np.ravel(weights))]


def _eyes(grey: np.ndarray, x: int, y: int, side: int) -> int:
    """Eyes in the upper part of a box."""
    upper = grey[max(y, 0) : y + round(0.6 * side), max(x, 0) : x + side]
    least = max(side // 8, 4)
    return len(_cascade("eye").detectMultiScale(upper, 1.05, 4, minSize=(least, least)))


def _overlap(a: tuple, b: tuple) -> float:
    """Intersection over union of two squares (x, y, side, ...)."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[2], b[1] + b[2]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] ** 2 + b[2] ** 2 - shared)


def _frontal(grey: np.ndarray, sizes: tuple[int, int] = (MIN_FACE, 2**15)) -> list[_Candidate]:
    """Frontal faces: both cascades and an eye, or both and a sure weight or a large size, or one and two eyes."""
    first = _detect("frontalface_default", grey, sizes)
    second = _detect("frontalface_alt2", grey, sizes)
    found = []
    for box in second:
        partner = max(first, key=lambda other: _overlap(box, other), default=None)
        paired = partner is not None and _overlap(box, partner) > 0.4
        x, y, side = ((box[i] + partner[i]) / 2 for i in range(3)) if paired else box[:3]
        found.append(_Candidate(x, y, side, _eyes(grey, *box[:3]), box[3], 1 + paired, "frontal"))
    for box in first:
        if not any(_overlap(box, face) > 0.3 for face in found):
            found.append(_Candidate(*box[:3], _eyes(grey, *box[:3]), 0.0, 1, "frontal"))
    large = 0.4 * min(grey.shape)
    return _distinct(
        [
            face
            for face in found
            if face.eyes >= 2
            or (face.cascades == 2 and (face.eyes == 1 or face.weight >= SURE_WEIGHT or face.size >= large))
        ]
    )


def _profile(grey: np.ndarray) -> list[_Candidate]:
    """Faces seen from the side: the cascade knows those that look left, so the mirrored image is searched too."""
    mirrored = np.ascontiguousarray(grey[:, ::-1])
    found = [(box, False) for box in _detect("profileface", grey)]
    found += [(box, True) for box in _detect("profileface", mirrored)]
    faces = []
    for (x, y, side, weight), mirror in sorted(found, key=lambda item: -item[0][3]):
        x = grey.shape[1] - x - side if mirror else x
        eyes = _eyes(grey, x, y, side)
        if eyes and weight >= 1.0:
            faces.append(_Candidate(x, y, side, eyes, weight, 1, "profile"))
    return _distinct(faces)


def _distinct(faces: list[_Candidate]) -> list[_Candidate]:
    """Drops what overlaps a better supported face, so that one head counts once."""
    kept: list[_Candidate] = []
    for face in sorted(faces, key=lambda f: (f.cascades, f.size), reverse=True):
        if not any(_contains(other, face) for other in kept):
            kept.append(face)
    return kept


def _contains(a: _Candidate, b: _Candidate) -> bool:
    """Whether the centre of the smaller square lies in the larger."""
    small, large = sorted((a, b), key=lambda f: f.size)
    x, y = small.x + small.size / 2, small.y + small.size / 2
    return large.x < x < large.x + large.size and large.y < y < large.y + large.size

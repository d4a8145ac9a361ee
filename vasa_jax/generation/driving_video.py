"""A driving video: one face in one take, seen through a fixed square that holds the head's motion."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vasa_jax.data.containers import open_container
from vasa_jax.data.face_crop import Crop, FaceBox, crop_square, crop_within, find_face, find_faces, parse_crop
from vasa_jax.data.image_files import NotAPicture, read_image
from vasa_jax.data.scenes import find_cuts, thumbnail
from vasa_jax.data.video_files import Video, read_video
from vasa_jax.errors import InputError
from vasa_jax.generation.framing import VideoFraming
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

LOOK_SECONDS = 0.4  # between two looks for the face
RIVAL = 0.5  # a second face of this size, over the first, makes it unclear whose motion is meant
ROOM = 1.2  # sides of the face that the square must hold around every position of it
NEAR = 0.6  # of the face's size between two looks: further away it is another face


@dataclasses.dataclass(frozen=True)
class DrivingVideo:
    """What moves a portrait. crop: the square of it that is seen; still: a single picture; notes for the user.

    count: frames.
    """

    path: Path
    fps: float
    crop: Crop
    still: bool
    notes: tuple[str, ...]
    limits: InputLimits
    count: int = 1

    def pictures(self) -> Iterator[np.ndarray]:
        """Yields every frame, uint8 (H, W, 3)."""
        if self.still:
            yield read_image(self.path, self.limits)
            return
        with contextlib.closing(read_video(self.path, self.fps, self.limits).frames) as frames:
            yield from frames

    def frames(self, size: int) -> Iterator[np.ndarray]:
        """Yields the square of every frame, uint8 (size, size, 3)."""
        with contextlib.closing(self.pictures()) as pictures:
            for picture in pictures:
                yield crop_square(picture, self.crop, size)[0]


def open_driving(
    path: str | Path,
    fps: float = 0.0,
    crop: str = "",
    limits: InputLimits = DEFAULT_LIMITS,
    setting: str = "driving_crop",
    framing: VideoFraming | None = None,
    watch: Watch = unwatched,
) -> DrivingVideo:
    """Looks through a driving video, or a picture, and finds the face and the square around its motion.

    Args:
      fps: of the frames that are taken, the nearest in time; 0 = as the video has them.
      crop: `x,y,size` in pixels, `center`, or empty to find the face.
      setting: what a person sets the crop with.
      framing: of LivePortrait's square; None = as portraits are framed, see `crop_within`.
      watch: sees the frames pass that are looked through; what it raises ends that.

    Raises InputError for what is neither, without a face in the first frame, with several faces, and with cuts.
    """
    try:
        picture = read_image(path, limits)
    except NotAPicture:
        pass
    else:
        square, notes = _first_square(picture, crop, str(path), setting, framing)
        return DrivingVideo(Path(path), fps or 25.0, square, True, notes, limits)
    video = read_video(path, fps or None, limits)
    with contextlib.closing(video.frames) as frames:
        return _looked_through(Path(path), video, watch(frames, 0), crop, limits, setting, framing)


def check_driving(path: str | Path, crop: str = "", limits: InputLimits = DEFAULT_LIMITS) -> None:
    """Raises InputError where the first frame already shows that a file cannot drive: see `open_driving`."""
    try:
        first = read_image(path, limits)
    except NotAPicture:
        with contextlib.closing(read_video(path, None, limits).frames) as frames:
            first = next(frames)
    _first_square(first, crop, str(path), "driving_crop")


def has_sound(path: str | Path) -> bool:
    """Returns whether a video file has a sound track; False for what is no such file."""
    try:
        with open_container(Path(path)) as container:
            return bool(container.streams.audio)
    except InputError:
        return False


def _first_square(
    image: np.ndarray, crop: str, source: str, setting: str, framing: VideoFraming | None = None
) -> tuple[Crop, tuple[str, ...]]:
    if crop:
        return parse_crop(crop, *image.shape[:2], source), ()
    face = _one_face(image, source, setting)
    if framing:
        framing.look(image)
    return _framed(face, image.shape[:2], framing), (face.note,) if face.note else ()


def _one_face(image: np.ndarray, source: str, setting: str) -> FaceBox:
    """The face of a first frame; InputError without one, or with a second one that is nearly as large."""
    try:
        face = find_face(image, source)
    except InputError:
        raise InputError(
            f"{source}: no face was found in its first frame; cut it so that it begins with one, or set "
            f"--config.{setting}=x,y,size (a square around head and shoulders)"
        ) from None
    others = [other for other in find_faces(image) if _apart(other, face) > NEAR and other.size > RIVAL * face.size]
    if others:
        crops = " or ".join(str(crop_within(one, *image.shape[:2])) for one in (face, *others[:2]))
        raise InputError(
            f"{source}: {1 + len(others)} faces are in its first frame; choose one with --config.{setting}={crops}"
        )
    return face


def _looked_through(
    path: Path, video: Video, frames: Iterator[np.ndarray], crop: str, limits: InputLimits, setting: str,
    framing: VideoFraming | None,
) -> DrivingVideo:  # fmt: skip
    every, boxes, small, notes = max(round(LOOK_SECONDS * video.fps), 1), [], [], []
    face, square, shape = None, None, None
    for number, frame in enumerate(frames):
        small.append(thumbnail(frame))
        if number == 0:
            shape = frame.shape[:2]
            if crop:
                square = parse_crop(crop, *shape, str(path))
                continue
            face = _one_face(frame, str(path), setting)
            notes += [face.note] if face.note else []
            boxes.append(face)
        elif face and number % every == 0:
            near = [one for one in find_faces(frame) if _apart(one, boxes[-1]) < NEAR]
            boxes += near[:1]
        if framing and face and number % every == 0:
            framing.look(frame)
    cuts = find_cuts(np.stack(small))
    if cuts:
        times = ", ".join(f"{cut / video.fps:.1f} s" for cut in itertools.islice(cuts, 5))
        raise InputError(
            f"{path}: the scene is cut ({times}); give one take, e.g. ffmpeg -i IN -t {cuts[0] / video.fps:.2f} OUT"
        )
    square = square or _square_around(boxes, shape, framing)
    return DrivingVideo(path, video.fps, square, False, tuple(notes), limits, len(small))


def _framed(face: FaceBox, shape: tuple[int, int], framing: VideoFraming | None) -> Crop:
    return framing.square(face) if framing else crop_within(face, *shape)


def _square_around(boxes: list[FaceBox], shape: tuple[int, int], framing: VideoFraming | None) -> Crop:
    """Returns the square that frames the median face, and holds every position of it."""
    values = np.array([(box.x + box.size / 2, box.y + box.size / 2, box.size) for box in boxes])
    x, y, size = np.median(values, axis=0)
    view = max(("frontal", "profile"), key=[box.view for box in boxes].count)
    framed = _framed(FaceBox(x - size / 2, y - size / 2, size, view), shape, framing)
    low, high = values[:, :2].min(0), values[:, :2].max(0)
    needed = float((high - low).max()) + ROOM * size
    if needed <= framed.size:
        return framed
    centre = (low + high) / 2
    return Crop(*np.rint(centre - needed / 2).astype(int).tolist(), round(needed))


def _apart(a: FaceBox, b: FaceBox) -> float:
    """Returns the distance of two faces' centres over the larger size."""
    gap = np.hypot(a.x + a.size / 2 - b.x - b.size / 2, a.y + a.size / 2 - b.y - b.size / 2)
    return float(gap / max(a.size, b.size))

"""One video in front of the evaluator: frames of a fixed square around the head, what a face probe reads, and sound."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.config import VideosConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE
from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.face_crop import Crop, FaceBox, crop_square, crop_within, find_face, find_faces
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.face_readings import FaceReader, Measurements
from vasa_jax.generation.portraits import read_portrait
from vasa_jax.limits import InputLimits

SHORTEST = 2  # frames


@dataclasses.dataclass(frozen=True)
class WatchedVideo:
    """T frames at 25 fps."""

    path: Path
    crop: Crop  # in pixels of the video
    width: int
    height: int
    fps: float  # of the file
    frames: np.ndarray  # uint8 (T, n, n, 3), the square
    reading: Measurements
    samples: np.ndarray | None  # float32 at 16 kHz from the first frame on; None without sound
    notes: tuple[str, ...]

    def in_pixels(self, points: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
        """Moves points from [-1, 1] over the square to pixels of the video."""
        return (np.asarray(points) + 1.0) / 2.0 * self.crop.size + np.array([self.crop.x, self.crop.y])


def watch(path: Path, settings: VideosConfig, limits: InputLimits, reader: FaceReader) -> WatchedVideo:
    """Reads and measures a video. InputError for one that does not decode, that is too short or shows no face."""
    video = read_video(path, limits=limits)
    fps = video.fps
    video.frames.close()
    crop, shape = _square(path, settings, limits)
    whole = whole_frames(path, settings.seconds, limits, shape)
    frames = [crop_square(frame, crop, settings.size)[0] for frame in whole]
    if len(frames) < SHORTEST:
        raise InputError(f"{path}: has {len(frames)} frame; give a video")
    samples, notes = _sound(path, limits, settings.seconds)
    stacked = np.stack(frames)
    return WatchedVideo(path, crop, shape[1], shape[0], fps, stacked, reader.measure(stacked), samples, notes)


def whole_frames(
    path: Path, seconds: float, limits: InputLimits, shape: tuple[int, int]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yields the frames of a video at 25 fps up to `seconds`; those of another size than `shape` are resized."""
    import cv2

    for frame in itertools.islice(read_video(path, FPS, limits).frames, round(seconds * FPS)):
        same = frame.shape[:2] == shape
        yield frame if same else cv2.resize(frame, shape[::-1], interpolation=cv2.INTER_AREA)


def portrait_reading(path: Path, settings: VideosConfig, limits: InputLimits, reader: FaceReader) -> Measurements:
    """Measures a picture's face; InputError for a file that is none, or shows no face."""
    return reader.measure(read_portrait(path, settings.size, limits=limits).pixels[None])


def _square(path: Path, settings: VideosConfig, limits: InputLimits) -> tuple[Crop, tuple[int, int]]:
    """The square around the face, by the median of the faces in some frames; height and width of the first frame."""
    boxes: list[FaceBox] = []
    first, looked = None, 0
    frames = itertools.islice(read_video(path, FPS, limits).frames, round(settings.seconds * FPS))
    for number, frame in enumerate(frames):
        first = frame if first is None else first
        if number % FPS == 0 and frame.shape == first.shape:
            boxes += find_faces(frame)[:1]
            looked += 1
        if looked == settings.faces:
            break
    if not boxes:
        boxes = [_only_face(first, path, looked)]
    views = [box.view for box in boxes]
    view = max(sorted(set(views)), key=views.count)
    x, y, size = np.median([(box.x, box.y, box.size) for box in boxes if box.view == view], axis=0)
    return crop_within(FaceBox(float(x), float(y), float(size), view), *first.shape[:2]), first.shape[:2]


def _only_face(frame: np.ndarray, path: Path, looked: int) -> FaceBox:
    """The face that only the thorough search finds."""
    try:
        return find_face(frame, str(path))
    except InputError:
        raise InputError(f"{path}: no face was found in {looked} of its frames; give a video of a face") from None


def _sound(path: Path, limits: InputLimits, seconds: float) -> tuple[np.ndarray | None, tuple[str, ...]]:
    try:
        audio = read_audio(path, limits)
    except InputError as error:
        return None, (f"sound not measured: {error}",)
    late = round(audio.start * SAMPLE_RATE)
    samples = np.pad(audio.samples, (late, 0)) if late > 0 else audio.samples[-late:]
    # What follows a semicolon tells a generation what comes of it.
    return samples[: round(seconds * SAMPLE_RATE)], tuple(note.partition("; ")[0] for note in audio.notes)

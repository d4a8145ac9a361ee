"""What was measured in one file, kept in the workdir, so that an interrupted or repeated run does not measure again."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.config import VideosConfig
from vasa_jax.conventions import head_angles
from vasa_jax.data.image_files import existing_file
from vasa_jax.errors import InputError, one_line
from vasa_jax.evaluation import capp, frechet, sheets
from vasa_jax.evaluation.face_readings import Measurements
from vasa_jax.evaluation.picture_features import EVERY, EXPRESSIONS
from vasa_jax.evaluation.protocol import Instruments
from vasa_jax.evaluation.sound_scores import sound_scores
from vasa_jax.evaluation.sync import face_crops
from vasa_jax.evaluation.video_list import File
from vasa_jax.evaluation.video_metrics import own_metrics
from vasa_jax.evaluation.watched_video import WatchedVideo, portrait_reading, watch, whole_frames
from vasa_jax.files import as_json, cached, fingerprint, sha256
from vasa_jax.limits import InputLimits

STRIP = 8  # frames of a video on its sheet
_READING = tuple(field.name for field in dataclasses.fields(Measurements))


@dataclasses.dataclass(frozen=True)
class Measured:
    """A file's measures. fault: why there are none, or empty."""

    file: File
    fault: str
    reading: Measurements | None = None
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    curves: dict[str, float] = dataclasses.field(default_factory=dict)  # CAPP against shift and scale
    readings_24: np.ndarray | None = None  # (clips, 24), see frechet.reading_features
    expressions: np.ndarray | None = None  # (frames, 7), see frechet.expression_features
    logits: np.ndarray | None = None  # (clips, 400) of I3D
    pictures: np.ndarray | None = None  # (every fifth frame, 120), see FaceReader.picture_features
    inception: np.ndarray | None = None  # (the same, 2048)
    coefficients: np.ndarray | None = None  # (the same, 67), see picture_features.FaceModel
    capp_poses: np.ndarray | None = None  # float16 (windows, code)
    capp_sounds: np.ndarray | None = None  # the same of the sound
    strip: np.ndarray | None = None  # uint8 (128, 8 * 128, 3)
    about: dict[str, Any] = dataclasses.field(default_factory=dict)  # size, rate, square, notes

    @property
    def expression_coefficients(self) -> np.ndarray | None:
        """The 64 of expression of `coefficients`."""
        return None if self.coefficients is None else self.coefficients[:, :EXPRESSIONS]


def measured(
    file: File, kind: str, settings: VideosConfig, limits: InputLimits, tools: Instruments, folder: Path
) -> Measured:
    """Measures a file, or reads what an earlier run with the same file and protocol has left in `folder`.

    kind: video or portrait. A file that cannot be measured is one with a fault, not an error.
    """
    try:
        content = sha256(existing_file(file.path, kind))
    except InputError as error:
        return Measured(file, str(error).replace(str(file.path), file.name))
    except OSError as error:
        return Measured(file, f"{file.name}: cannot be read ({(error.strerror or str(error)).lower()})")
    key = {"file": content, "kind": kind, "protocol": fingerprint(as_json(tools.protocol)), "limits": str(limits)}
    path = folder / f"{file.key}-{fingerprint(key):08x}.npz"
    try:
        arrays = cached(path, key, lambda: _arrays(file, kind, settings, limits, tools))
    except InputError:  # of the workdir: nothing could be kept
        raise
    except Exception as error:  # whatever a file does to a decoder, the others are measured
        text = f"{type(error).__name__}: {error}".replace(str(file.path), file.name)
        return Measured(file, one_line(f"{file.name}: {text}"))
    told = json.loads(str(arrays.pop("told")))
    if told["fault"]:
        return Measured(file, told["fault"])
    reading = Measurements(**{name: arrays.pop(name) for name in _READING})
    return Measured(file, "", reading, told["metrics"], told["curves"], about=told["about"], **arrays)


def _arrays(
    file: File, kind: str, settings: VideosConfig, limits: InputLimits, tools: Instruments
) -> dict[str, np.ndarray]:
    try:
        return _measure(file, kind, settings, limits, tools)
    except InputError as error:
        fault = str(error).replace(str(file.path), file.name)
        return {"told": np.array(json.dumps({"fault": fault}))}


def _measure(
    file: File, kind: str, settings: VideosConfig, limits: InputLimits, tools: Instruments
) -> dict[str, np.ndarray]:
    if kind == "portrait":
        reading = portrait_reading(file.path, settings, limits, tools.reader)
        return _stored(reading, {"fault": "", "metrics": {}, "curves": {}, "about": {}})
    video = watch(file.path, settings, limits, tools.reader)
    framing = min(video.height, video.width) / video.crop.size
    found = own_metrics(video.frames, video.reading, tools.reader.points, video.samples, framing)
    curves: dict[str, float] = {}
    if video.samples is not None:
        crops = functools.partial(_face_crops, video, settings, limits)
        found |= sound_scores(video.frames, video.reading, video.samples, tools.reader.points, tools, crops)
    windows = None
    if tools.capp and video.samples is not None:
        windows = tools.capp.windows(video.reading.pose, video.samples)
        whole = head_angles(video.reading.pose), tools.capp.hear(video.samples)
        parts = capp.stretches(*whole, capp.RESPONSE_FRAMES)
        curves = capp.response_curves(tools.capp, *parts) if parts else {}
    arrays = {
        "readings_24": frechet.reading_features(video.reading),
        "expressions": frechet.expression_features(video.reading, tools.reader.points),
    }
    chosen = video.frames[::EVERY]
    arrays["pictures"] = tools.reader.picture_features(chosen)
    if tools.fid:
        arrays["inception"] = tools.fid(chosen)
    if tools.face_model:
        arrays["coefficients"] = tools.face_model(chosen, video.reading.landmarks[::EVERY], tools.reader.points)
    if tools.fvd:
        arrays["logits"] = tools.fvd(video.frames)
    if windows is not None:
        arrays |= {name: part.astype(np.float16) for name, part in zip(("capp_poses", "capp_sounds"), windows)}
    rows = np.linspace(0, len(video.frames) - 1, STRIP).round().astype(int)
    about = {
        "frames": len(video.frames), "width": video.width, "height": video.height, "fps": video.fps,
        "square": str(video.crop), "notes": [note.replace(str(file.path), file.name) for note in video.notes],
    }  # fmt: skip
    known = {name: float(value) for name, value in found.items() if np.isfinite(value)}
    told = {"fault": "", "metrics": known, "curves": curves, "about": about}
    return _stored(video.reading, told) | arrays | {"strip": sheets.grid([list(video.frames[rows])])}


def _stored(reading: Measurements, told: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(reading, name)) for name in _READING} | {"told": np.array(json.dumps(told))}


def _face_crops(video: WatchedVideo, settings: VideosConfig, limits: InputLimits) -> Iterable[np.ndarray]:
    """What SyncNet looks at: crops of the video as it is."""
    points = video.in_pixels(video.reading.landmarks)
    boxes = np.concatenate([points.min(1), points.max(1)], axis=1)
    return face_crops(whole_frames(video.path, settings.seconds, limits, (video.height, video.width)), boxes)

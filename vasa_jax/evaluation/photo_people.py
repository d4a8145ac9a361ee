"""The photographs and clips that `evaluate_photos` measures on: read, cropped, fitted, grouped."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.config import PhotosEvaluationConfig
from vasa_jax.conventions import FPS, head_angles
from vasa_jax.corpus.photos.build import Builder, PhotoHead
from vasa_jax.corpus.photos.framing import place
from vasa_jax.data.face_crop import crop_square, find_face
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.photo_figures import is_grey, yaw_group
from vasa_jax.evaluation.recognition import Recogniser
from vasa_jax.files import read_table
from vasa_jax.generation.framing import PortraitFraming
from vasa_jax.generation.portraits import read_portrait
from vasa_jax.preparation.face_backends.base import FaceAnalyzer
from vasa_jax.preparation.landmark_labels import fit_pose
from vasa_jax.preparation.photos import SUFFIXES
from vasa_jax.preparation.prepare import SUFFIXES as VIDEO_SUFFIXES

BINS = 3  # groups of a column of numbers
Framings = Mapping[str, PortraitFraming | None]  # by name: LivePortrait's square, None = the built-in corpus's
MOST_GROUPS = 8  # values of a column that make groups


@dataclasses.dataclass(frozen=True)
class Person:
    """A photograph as a codec sees it."""

    name: str
    portrait: UInt8[np.ndarray, "n n 3"]
    points: Float[np.ndarray, "478 3"]  # image coordinates
    matte: Float[np.ndarray, "n n"]
    head: PhotoHead | None  # fitted to this very square; None where its points are not sure
    groups: dict[str, str]

    @property
    def yaw(self) -> float:
        """Returns the head's turn in degrees."""
        return float(head_angles(fit_pose(self.points[None]))[0, 0])


def read_points(analyzer: FaceAnalyzer, frames: np.ndarray) -> list[np.ndarray | None]:
    """Returns the points of each frame in image coordinates, float32 (478, 3); None: no face."""
    result = []
    for frame in frames:
        found = analyzer.landmarks(frame)
        if found is None:
            result.append(None)
            continue
        half = frame.shape[0] / 2.0
        points = found.points / half
        result.append(np.concatenate([points[:, :2] - 1.0, points[:, 2:]], 1).astype(np.float32))
    return result


def people(
    settings: PhotosEvaluationConfig, analyzer: FaceAnalyzer, builder: Builder, size: int, framings: Framings
) -> tuple[list[dict[str, Person]], dict[str, str]]:
    """Returns the photographs that show a face, spread over the folder, and why others are left out, by name.

    Each as the codecs of every framing see it, its groups those of the first. InputError for a folder without any.
    """
    folder = Path(settings.stills)
    if not folder.is_dir():
        raise InputError(f"config.photos_evaluation.stills: no folder '{settings.stills}'; give one of photographs")
    table = _table(settings.table)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if table:
        files = [p for p in files if p.name in table]
    chosen = files[:: max(len(files) // settings.portraits, 1)][: settings.portraits]
    found, left_out = [], {}
    for path in chosen:
        name = path.relative_to(folder).as_posix()
        try:
            pictures = {
                framing: [read_portrait(path, n * size, framing=square).pixels for n in (1, 2)]
                for framing, square in framings.items()
            }
        except InputError as error:
            left_out[name] = str(error).removeprefix(f"{path}: ")
            continue
        groups: dict[str, str] = {}
        seen = {framing: _person(name, *both, analyzer, builder, groups) for framing, both in pictures.items()}
        if None in seen.values():
            left_out[name] = "no points of a face"
            continue
        groups.update(_groups(next(iter(seen.values())), table.get(path.name, {})))
        found.append(seen)
    if not found:
        raise InputError(f"{folder}: no photograph with a face; {next(iter(left_out.values()), 'it holds none')}")
    _binned([next(iter(seen.values())) for seen in found])
    return found, left_out


def _person(
    name: str, portrait: np.ndarray, large: np.ndarray, analyzer: FaceAnalyzer, builder: Builder, groups: dict[str, str]
) -> Person | None:
    """A photograph in a square, `large` at twice the size; None where it has no points of a face there."""
    points = read_points(analyzer, portrait[None])[0]
    if points is None:
        return None
    matte = analyzer.matte(portrait)
    if matte is None:
        raise InputError(f"config.photos.analyzer: {analyzer.name} gives no matte; choose litert")
    return Person(name, portrait, points, matte, _fitted(large, analyzer, builder), groups)


def known_faces(who: Recogniser, folder: str, size: int) -> Float[np.ndarray, "N 128"]:
    """Describes the portraits of a folder; InputError where none shows a face."""
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    described = []
    for path in files:
        try:
            found = who(read_portrait(path, size).pixels)
        except InputError:
            continue
        if found is not None:
            described.append(found)
    if not described:
        raise InputError(f"config.photos_evaluation.training: '{folder}' holds no photograph with a face; name another")
    return np.stack(described)


def _fitted(square: np.ndarray, analyzer: FaceAnalyzer, builder: Builder) -> PhotoHead | None:
    """The photo head of a square, placed so that the canvas's square is that square."""
    found = analyzer.landmarks(square)
    found = found and analyzer.landmarks(square, found)
    if found is None:
        return None
    side, unit = len(square), 100.0  # the fit expects coordinates of order one
    pose = fit_pose((found.points / unit)[None])[0].astype(np.float64)
    pose = np.concatenate([pose[:6], [pose[6] + np.log(unit)], pose[7:9] * unit])
    half = side / 2.0
    log_scale, shift = float(pose[6] - np.log(half)), (pose[7:9] - half) / half
    matte = (analyzer.matte(square) * 255.0 + 0.5).astype(np.uint8)
    return builder(place(square, matte, found.points, pose, log_scale, shift), np.random.default_rng(0))


def _table(path: str) -> dict[str, dict[str, str]]:
    """Rows by file name of a table with a column `file`, tab- or comma-separated; {} without one."""
    if not path:
        return {}
    rows = read_table(path, ("file",), "give a table whose column 'file' names photographs")
    return {Path(row["file"]).name: row for row in rows}


def _groups(person: Person, row: dict[str, str]) -> dict[str, str]:
    own = {"turn": yaw_group(person.yaw), "colour": "grey" if is_grey(person.portrait) else "colour"}
    return own | {name: value for name, value in row.items() if value and name not in ("file", *own)}


def _binned(found: list[Person]) -> list[Person]:
    """Columns of numbers become BINS groups of equal size; columns with too many or too few values are left out."""
    for name in dict.fromkeys(name for person in found for name in person.groups):
        values = {person.name: person.groups[name] for person in found if name in person.groups}
        distinct = set(values.values())
        numbers = _numbers(values)
        if numbers and len(distinct) > BINS:
            edges = np.quantile(list(numbers.values()), np.linspace(0, 1, BINS + 1)[1:-1])
            for person in found:
                if name in person.groups:
                    which = int(np.searchsorted(edges, numbers[person.name], side="right"))
                    low, high = [-np.inf, *edges][which], [*edges, np.inf][which]
                    person.groups[name] = (
                        f"under {high:.3g}" if which == 0 else f"over {low:.3g}" if which == len(edges)
                        else f"{low:.3g} to {high:.3g}"
                    )  # fmt: skip
        elif not 2 <= len(distinct) <= MOST_GROUPS:
            for person in found:
                person.groups.pop(name, None)
    return found


def _numbers(values: dict[str, str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in values.items()}
    except ValueError:
        return {}


def clips(
    settings: PhotosEvaluationConfig, analyzer: FaceAnalyzer, size: int, framings: Framings
) -> Iterator[tuple[str, dict[str, tuple[np.ndarray, list[np.ndarray]]]]]:
    """Yields a clip's name and, for every framing, frames uint8 (K, n, n, 3) of one face in one crop with their points.

    K frames are spread over each clip. The crop is that of a portrait, found in the first frame; clips in which a frame
    has no face are left out.
    """
    folder = Path(settings.clips)
    if not folder.is_dir():
        raise InputError(f"config.photos_evaluation.clips: no folder '{settings.clips}'; give one of videos")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not files:
        raise InputError(f"{folder}: holds no videos; give a folder of {', '.join(VIDEO_SUFFIXES)}")
    for path in files[:: max(len(files) // settings.most_clips, 1)][: settings.most_clips]:
        try:
            whole = list(itertools.islice(read_video(path, FPS).frames, round(settings.clip_seconds * FPS)))
            if len(whole) < settings.clip_frames:
                continue
            chosen = [whole[i] for i in np.linspace(0, len(whole) - 1, settings.clip_frames).round().astype(int)]
            seen = {}
            for framing, square in framings.items():
                where = square(chosen[0], str(path)).upright if square else find_face(chosen[0], str(path))
                frames = np.stack([crop_square(frame, where, size, str(path))[0] for frame in chosen])
                seen[framing] = frames, read_points(analyzer, frames)
        except InputError:
            continue
        if all(p is not None for _, points in seen.values() for p in points):
            yield path.relative_to(folder).as_posix(), seen

"""From faces per frame to tracks: spans of frames with one usable face, each with one fixed crop."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vasa_jax.data.face_crop import Crop
from vasa_jax.preparation.face_backends.base import DetectedFace

RIVAL_SIZE = 0.4  # a second face of this size, over the first, makes it unclear who speaks
JUMP = 0.6  # of the face's size between two looks: another face
BLIP = 2  # looks: shorter losses and rivals are taken for mistakes of the detector
ROOM = 1.25  # sides of the face that the crop must hold around every position of it
EDGE = 0.15  # of the crop: how far it is moved to stay inside the image
OUTSIDE = 0.3  # share of the crop that may lie beyond the image, its edge is repeated there
FACE_OUTSIDE = 0.2  # of the face's side
NO_FACE, SEVERAL, SMALL, SIDE_VIEW, CUT_OFF = (
    "no face", "several faces", "face too small", "profile beyond the limit", "face cut off by the picture's edge",
)  # fmt: skip


@dataclass(frozen=True)
class Span:
    """Frames [start, stop) that are discarded, and why."""

    reason: str
    start: int
    stop: int


@dataclass(frozen=True)
class Track:
    """Frames [start, stop) of one face. boxes: float64 (stop - start, 3), centre x, y and size in pixels."""

    start: int
    stop: int
    boxes: np.ndarray
    profile: bool = False

    def part(self, start: int, stop: int) -> Track:
        """Cuts out frames `start` to `stop` of the video."""
        return Track(start, stop, self.boxes[start - self.start : stop - self.start], self.profile)


def find_tracks(
    looks: Sequence[tuple[int, Sequence[DetectedFace]]],
    frames: int,
    cuts: Sequence[int],
    min_face: float,
) -> tuple[list[Track], list[Span]]:
    """Joins faces found in some frames into tracks; returns them and the spans between, with their reason.

    looks: (frame, faces) in order; frames: number of frames; cuts: first frames of new scenes; min_face: least side of
    a face in pixels. Every frame is in exactly one track or span.
    """
    tracks, spans = [], []
    bounds = [0, *cuts, frames]
    for start, stop in itertools.pairwise(bounds):
        scene = [(index, faces) for index, faces in looks if start <= index < stop]
        if not scene:
            spans.append(Span(NO_FACE, start, stop))
            continue
        chosen, states = _follow(scene, min_face)
        first = 0
        for i in range(1, len(scene) + 1):
            if i < len(scene) and states[i] == states[first]:
                continue
            begin = start if first == 0 else scene[first][0]
            end = stop if i == len(scene) else scene[i][0]
            kind = states[first]
            if isinstance(kind, str):
                spans.append(Span(kind, begin, end))
            else:
                tracks.append(_track(begin, end, scene[first:i], chosen[first:i]))
            first = i
    return tracks, spans


def _follow(scene, min_face: float):
    """The face chosen at each look (or None), and its state: a reason for discarding, or the number of the track."""
    chosen: list[DetectedFace | None] = []
    last = None
    for _, faces in scene:
        near = [face for face in faces if last is not None and _distance(face, last) < JUMP]
        face = min(near, key=lambda f: _distance(f, last)) if near else (faces[0] if faces else None)
        if face is not None and faces[0].size * RIVAL_SIZE > face.size:
            face = faces[0]  # what was followed is small against another face
        chosen.append(face)
        last = face or last
    lost = _without_blips([face is None for face in chosen])
    rivals = _without_blips(
        [
            face is not None and any(f is not face and f.size > RIVAL_SIZE * face.size for f in faces)
            for face, (_, faces) in zip(chosen, scene)
        ]
    )
    states, number, last = [], 0, None
    for face, none, rival in zip(chosen, lost, rivals):
        if face is not None and last is not None and _distance(face, last) >= JUMP:
            number += 1
        last = face or last
        small = face is not None and face.size < min_face
        states.append(NO_FACE if none else SEVERAL if rival else SMALL if small else number)
    return chosen, states


def _without_blips(flags: list[bool]) -> list[bool]:
    """Clears runs of True of up to BLIP looks that have False on both sides."""
    flags = list(flags)
    i = 0
    while i < len(flags):
        end = i
        while end < len(flags) and flags[end]:
            end += 1
        if i > 0 and end < len(flags) and 0 < end - i <= BLIP:
            flags[i:end] = [False] * (end - i)
        i = max(end, i + 1)
    return flags


def _distance(a: DetectedFace, b: DetectedFace) -> float:
    """Between the centres, over the size."""
    return float(np.hypot(*np.subtract(a.centre, b.centre)) / max(a.size, b.size))


def _track(start: int, stop: int, scene, faces) -> Track:
    known = [(index, face) for (index, _), face in zip(scene, faces) if face is not None]
    at = np.array([index for index, _ in known], np.float64)
    values = np.array([(*face.centre, face.size) for _, face in known])
    frames = np.arange(start, stop)
    boxes = np.stack([np.interp(frames, at, column) for column in values.T], axis=-1)
    return Track(start, stop, boxes, sum(face.view == "profile" for _, face in known) > len(known) / 2)


def fixed_crop(track: Track, height: int, width: int, framing: tuple[float, float], zoom: float = 1.0) -> Crop | None:
    """Returns one square for all frames of a track, so that the head's motion stays in the image (architecture D.5).

    framing: the face box's side over the square's, and the height of its centre below the square's upper edge (see
    FaceAnalyzer). The median face is framed so, `zoom` times as large; wider motion widens the square. Where the
    image is smaller than that (clips that were cropped before), the square shrinks with it as far as the motion
    allows. None where the face itself, or too much of the square, would lie outside.
    """
    x, y, face = np.median(track.boxes, axis=0)
    fraction, centre_height = framing
    low, high = np.percentile(track.boxes[:, :2], (2, 98), axis=0)
    framed, needed = face / fraction / zoom, float((high - low).max()) + ROOM * face
    size = max(min(framed, height, width), needed)
    centre_x, centre_y = (low + high) / 2 if needed > framed else (x, y)
    left, top = centre_x - size / 2, centre_y - centre_height * size
    left += np.clip(_inward(left, size, width), -EDGE * size, EDGE * size)
    top += np.clip(_inward(top, size, height), -EDGE * size, EDGE * size)
    inside = max(0.0, min(left + size, width) - max(left, 0)) * max(0.0, min(top + size, height) - max(top, 0))
    beyond = max(-(x - face / 2), -(y - face / 2), x + face / 2 - width, y + face / 2 - height)
    if inside < (1 - OUTSIDE) * size * size or beyond > FACE_OUTSIDE * face:
        return None
    return Crop(round(left), round(top), max(2, round(size)))


def _inward(start: float, size: float, length: int) -> float:
    """The move that brings [start, start + size] into [0, length], or centres it where it is longer."""
    if size >= length:
        return (length - size) / 2 - start
    return max(0.0, -start) - max(0.0, start + size - length)

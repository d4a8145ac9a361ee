"""One video file -> labelled clips, and what was discarded: the unit of work of data preparation.

Two passes over the picture, so that memory stays bounded: the first looks for scenes and faces, the second cuts and
labels. Nothing here writes files.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vasa_jax.config import PrepareConfig
from vasa_jax.data import labels, sync
from vasa_jax.data.face_analysis import FaceAnalyzer, FaceLandmarks
from vasa_jax.data.face_crop import Crop, crop_square
from vasa_jax.data.media import FPS, FRAME_SAMPLES, read_audio, read_video
from vasa_jax.data.records import Record, encode_jpeg, encode_matte
from vasa_jax.data.scenes import find_cuts, thumbnail
from vasa_jax.data.tracking import CUT_OFF, NO_FACE, SIDE_VIEW, Span, Track, find_tracks, fixed_crop
from vasa_jax.errors import InputError

ANALYSIS_SIDE = 512  # pixels: landmarks of larger faces are not better
SHARPNESS_SIDE = 128
MAX_GAP = 5  # frames without landmarks, or beyond the yaw limit, that do not end a clip
CORRECTED_FROM = 0.06  # seconds: the measure itself is 0.03 off
MUTE_FROM, MUTE_HEIGHT = 12.0, 1.3  # seconds, SyncMeasure.height: in so long a clip a speaking mouth stands out more
UNREADABLE, SHORT, BLURRED, NO_SOUND, NO_SPEECH, OUT_OF_SYNC = (
    "not readable", "too short", "too blurred", "no sound", "no speech", "sound out of step with the mouth",
)  # fmt: skip


@dataclass(frozen=True)
class Discard:
    """A time range of the video, in seconds, that gives no clip."""

    reason: str
    start: float
    stop: float
    detail: str = ""


@dataclass(frozen=True)
class PreparedClip:
    """A record whose distance is still 1 / pose scale (not yet over the set's mean), and figures for the report."""

    record: Record
    start: float  # seconds in the video
    stop: float
    figures: dict[str, float]


@dataclass
class VideoResult:
    """What one video gave. seconds: of its picture at 25 fps."""

    seconds: float = 0.0
    clips: list[PreparedClip] = field(default_factory=list)
    discards: list[Discard] = field(default_factory=list)
    sync: sync.SyncMeasure | None = None
    notes: list[str] = field(default_factory=list)

    def discard(self, reason: str, start: int, stop: int, detail: str = "") -> None:
        if stop > start:
            self.discards.append(Discard(reason, start / FPS, stop / FPS, detail))


@dataclass
class _Scan:
    """First pass: faces of some frames, the scenes, the size of the picture."""

    looks: list
    cuts: list[int]
    frames: int
    height: int
    width: int


@dataclass
class _Shot:
    """Second pass: one track, cropped and analysed. points (T, N, 3) in image coordinates of the crop, or None."""

    track: Track
    crop: Crop
    pictures: list[bytes] = field(default_factory=list)
    mattes: list[bytes] = field(default_factory=list)
    points: list[np.ndarray | None] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    last: FaceLandmarks | None = None


def clips_of_video(
    path: Path, clip_prefix: str, person: str, split: str, settings: PrepareConfig, analyzer: FaceAnalyzer, emotion=None
) -> VideoResult:
    """Runs the whole chain on one file. Never raises for bad media: that is a discard with its reason.

    clip_prefix: clips are named PREFIX-000, ...; emotion: function of a uint8 picture to float32 (8,), or None.
    """
    result = VideoResult()
    try:
        scan = _scan(path, settings, analyzer)
    except InputError as error:
        result.discards.append(Discard(UNREADABLE, 0.0, 0.0, str(error)))
        return result
    result.seconds = scan.frames / FPS
    samples = _sound(path, scan.frames, result)
    if samples is None:
        return result
    tracks, spans = find_tracks(scan.looks, scan.frames, scan.cuts, settings.min_face)
    for span in spans:
        result.discard(span.reason, span.start, span.stop)
    shots = _cut_out(path, scan, list(_planned(tracks, scan, clip_prefix, settings, result)), settings, analyzer)
    kept = [part for shot in shots for part in _usable(shot, settings, analyzer, result)]
    samples = _in_step(samples, kept, scan.frames, analyzer, result)
    if samples is None:
        return result
    identity = {"person_id": person, "split": split, "source": f"prepared from {path.name}"}
    for shot, start, stop in kept:
        clip_id = f"{clip_prefix}-{len(result.clips):03d}"
        sound = samples[start * FRAME_SAMPLES : stop * FRAME_SAMPLES]
        share = sync.speech_share(sound)
        if share < settings.min_speech:
            result.discard(NO_SPEECH, start, stop, f"{share:.0%} of it is as loud as speech")
            continue
        result.clips.append(_clip(clip_id, identity, shot, start, stop, sound, share, analyzer, emotion))
    result.discards.sort(key=lambda discard: discard.start)
    return result


def _scan(path: Path, settings: PrepareConfig, analyzer: FaceAnalyzer) -> _Scan:
    looks, thumbnails, shape, index = [], [], (0, 0), -1
    for index, frame in enumerate(read_video(path, fps=FPS).frames):
        if index and frame.shape[:2] != shape:
            raise InputError(f"{path}: its pictures change their size after {index / FPS:.1f} s; split the file there")
        shape = frame.shape[:2]
        thumbnails.append(thumbnail(frame))
        if index % settings.detect_every == 0:
            looks.append((index, analyzer.detect(frame)))
    return _Scan(looks, find_cuts(np.stack(thumbnails)), index + 1, *shape)


def _sound(path: Path, frames: int, result: VideoResult) -> np.ndarray | None:
    """Samples of exactly these frames, in step with the picture as the file's timestamps say; None: discarded."""
    try:
        audio = read_audio(path)
    except InputError as error:
        result.discard(NO_SOUND, 0, frames, str(error))
        return None
    result.notes += audio.notes
    needed = frames * FRAME_SAMPLES
    late = round(audio.start * sync.RATE)
    samples = np.concatenate([np.zeros(max(late, 0), np.float32), audio.samples[max(-late, 0) :]])[:needed]
    if sync.speech_share(samples) == 0.0:
        result.discard(NO_SPEECH, 0, frames, "the sound track is silent")
        return None
    return np.pad(samples, (0, needed - len(samples)))


def _planned(tracks, scan: _Scan, prefix: str, settings: PrepareConfig, result: VideoResult) -> Iterator[_Shot]:
    """Tracks divided into parts of at most max_seconds, each with its crop."""
    for track in tracks:
        length = track.stop - track.start
        if length < settings.min_seconds * FPS:
            result.discard(SHORT, track.start, track.stop)
            continue
        parts = -(-length // round(settings.max_seconds * FPS))
        bounds = np.linspace(track.start, track.stop, parts + 1).round().astype(int)
        for start, stop in itertools.pairwise(bounds.tolist()):
            part = track.part(start, stop)
            draw = int.from_bytes(hashlib.sha256(f"{prefix}:{start}".encode()).digest()[:4], "big") / 2**31 - 1.0
            crop = fixed_crop(part, scan.height, scan.width, analyzer_framing(result, settings), settings_zoom(draw))
            if crop is None:
                result.discard(CUT_OFF, start, stop)
            else:
                yield _Shot(part, crop)

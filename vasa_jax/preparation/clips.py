"""One video file -> labelled clips, and what was discarded: the unit of work of data preparation.

Two passes over the frames, so that memory stays bounded: the first looks for scenes and faces, the second cuts and
labels. Nothing here writes files.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vasa_jax.config import PrepareConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, head_angles
from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.face_crop import Crop, crop_square
from vasa_jax.data.records import Record, encode_jpeg, encode_matte
from vasa_jax.data.scenes import find_cuts, thumbnail
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.preparation import av_sync, landmark_labels
from vasa_jax.preparation.face_backends.base import FaceAnalyzer, FaceLandmarks
from vasa_jax.preparation.onnx_labels.user_models import NO_MODELS, UserModels
from vasa_jax.preparation.prosody import prosody
from vasa_jax.preparation.syncnet import SyncCurve
from vasa_jax.preparation.tracking import CUT_OFF, NO_FACE, SIDE_VIEW, Span, Track, find_tracks, fixed_crop

ANALYSIS_SIDE = 512  # pixels: landmarks of larger faces are not better
SHARPNESS_SIDE = 128
MIN_RATE = 12.0  # different pictures per second; with fewer, speech has no lip movements
REPEATED = 0.1  # grey values: mean difference of a picture that was shown again, whatever the codec made of it
MAX_GAP = 5  # frames without landmarks, or beyond the yaw limit, that do not end a clip
CORRECTED_FROM = 0.02  # seconds: half a frame is heard in how well a mouth follows
MUTE_FROM, MUTE_HEIGHT = 15.0, 1.3  # seconds, SyncMeasure.height: in so long a clip a speaking mouth stands out more
STILL_LIPS = 0.01  # of `lip_motion`: photographs, zoomed, panned or faded, have up to 0.007, mouths that speak 0.014
UNREADABLE, SHORT, BLURRED, NO_SOUND, NO_SPEECH, OUT_OF_SYNC, SLOW, STILL = (
    "not readable", "too short", "too blurred", "no sound", "no speech", "sound out of step with the mouth",
    "low frame rate", "mouth at rest while there is speech",
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
    """A record whose distance is not yet over the set's mean, and figures for the report."""

    record: Record
    start: float  # seconds in the video
    stop: float
    metrics: dict[str, float]


@dataclass
class VideoResult:
    """What one video gave. seconds: of its frames at 25 fps."""

    seconds: float = 0.0
    clips: list[PreparedClip] = field(default_factory=list)
    discards: list[Discard] = field(default_factory=list)
    sync: av_sync.SyncMeasure | None = None
    notes: list[str] = field(default_factory=list)

    def discard(self, reason: str, start: int, stop: int, detail: str = "") -> None:
        """Notes that frames `start` to `stop` are left out, unless there are none."""
        if stop > start:
            self.discards.append(Discard(reason, start / FPS, stop / FPS, detail))


@dataclass
class _Scan:
    """First pass: faces of some frames, the scenes, the size of the frames."""

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
    images: list[bytes] = field(default_factory=list)
    mattes: list[bytes] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)  # whether the face's picture is not the one before
    points: list[np.ndarray | None] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    last: FaceLandmarks | None = None
    before: np.ndarray | None = None  # the last picture


@dataclass(frozen=True)
class _Part:
    """Frames start to stop of the video, all of one shot. confidence: that of a sync model."""

    shot: _Shot
    start: int
    stop: int
    confidence: float | None = None

    @property
    def at(self) -> slice:
        return slice(self.start - self.shot.track.start, self.stop - self.shot.track.start)


def clips_of_video(
    path: Path,
    clip_prefix: str,
    person: str,
    split: str,
    settings: PrepareConfig,
    analyzer: FaceAnalyzer,
    models: UserModels = NO_MODELS,
    name: str = "",
) -> VideoResult:
    """Runs the whole chain on one file. Never raises for bad media: that is a discard with its reason.

    clip_prefix: clips are named PREFIX-000, ...; name: of the file in its records, where that is not the path's.
    """
    result = VideoResult()
    try:
        scan = _scan(path, settings, analyzer)
    except InputError as error:
        result.discards.append(Discard(UNREADABLE, 0.0, 0.0, str(error).removeprefix(f"{path}: ")))
        return result
    result.seconds = scan.frames / FPS
    samples = _sound(path, scan.frames, result)
    if samples is None:
        return result
    tracks, spans = find_tracks(scan.looks, scan.frames, scan.cuts, settings.min_face)
    for span in spans:
        result.discard(span.reason, span.start, span.stop)
    shots = list(_planned(tracks, scan, clip_prefix, settings, analyzer.framing, result))
    _cut_out(path, shots, settings, analyzer)
    kept = [part for shot in shots for part in _usable(shot, settings, analyzer, result)]
    if models.sync is not None:
        samples, kept = _in_step_by_model(samples, kept, models.sync, settings, result)
    else:
        samples, kept = _in_step(samples, kept, scan.frames, analyzer, models.heard, result)
    identity = {"person_id": person, "split": split, "source": f"prepared from {name or path.name}"}
    for part in kept:
        clip_id = f"{clip_prefix}-{len(result.clips):03d}"
        sound = _sound_of(part, samples)
        share = av_sync.speech_share(sound)
        if share < settings.min_speech:
            result.discard(NO_SPEECH, part.start, part.stop, f"{share:.0%} of it is as loud as speech")
            continue
        if analyzer.landmark_set:
            moved = landmark_labels.lip_motion(_without_gaps(part.shot.points[part.at]))
            if moved < STILL_LIPS:
                result.discard(STILL, part.start, part.stop, f"lips move by {moved:.4f} of the eyes' distance a frame")
                continue
        result.clips.append(_clip(clip_id, identity, part, sound, share, analyzer, models))
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
    """Samples of exactly these frames, in step with the frames as the file's timestamps say; None: discarded."""
    try:
        audio = read_audio(path)
    except InputError as error:
        result.discard(NO_SOUND, 0, frames, str(error).removeprefix(f"{path}: "))
        return None
    needed = frames * SAMPLES_PER_FRAME
    late = round(audio.start * SAMPLE_RATE)
    samples = np.concatenate([np.zeros(max(late, 0), np.float32), audio.samples[max(-late, 0) :]])[:needed]
    if av_sync.speech_share(samples) == 0.0:
        result.discard(NO_SPEECH, 0, frames, "the sound track is silent")
        return None
    result.notes += [note.removeprefix(f"{path}: ") for note in audio.notes]
    return np.pad(samples, (0, needed - len(samples)))


def _planned(tracks, scan: _Scan, prefix: str, settings, framing, result: VideoResult) -> Iterator[_Shot]:
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
            zoom = (1.0 + settings.zoom_spread) ** draw
            crop = fixed_crop(part, scan.height, scan.width, framing, zoom)
            if crop is None:
                result.discard(CUT_OFF, start, stop)
            else:
                yield _Shot(part, crop)


def _cut_out(path: Path, shots: list[_Shot], settings: PrepareConfig, analyzer: FaceAnalyzer) -> None:
    """Fills the shots from a second pass over the frames."""
    if not shots:
        return
    waiting = sorted(shots, key=lambda shot: shot.track.start)
    for index, frame in enumerate(read_video(path, fps=FPS).frames):
        if index >= waiting[0].track.stop:
            waiting.pop(0)
        if not waiting:
            break
        if index >= waiting[0].track.start:
            _add(waiting[0], frame, settings, analyzer)


def _add(shot: _Shot, frame: np.ndarray, settings: PrepareConfig, analyzer: FaceAnalyzer) -> None:
    import cv2

    side = max(settings.size, min(shot.crop.size, ANALYSIS_SIDE))
    large, _ = crop_square(frame, shot.crop, side)
    small = cv2.resize(large, (settings.size, settings.size), interpolation=cv2.INTER_AREA)
    shot.images.append(encode_jpeg(small, settings.jpeg_quality))
    change = np.inf if shot.before is None else np.abs(small.astype(np.int16) - shot.before).mean()
    shot.fresh.append(bool(change > REPEATED))
    shot.before = small
    x, y, size = shot.track.boxes[len(shot.sharpness)]
    shot.sharpness.append(_sharpness(frame, x, y, size))
    if analyzer.landmark_set:
        shot.last = analyzer.landmarks(large, shot.last)
        shot.points.append(None if shot.last is None else _image_coordinates(shot.last.points, side))
    matte = analyzer.matte(small) if settings.matte else None
    if matte is not None:
        shot.mattes.append(encode_matte(matte))


def _image_coordinates(points: np.ndarray, side: int) -> np.ndarray:
    """Continuous pixels -> [-1, 1]; depth in the same unit."""
    result = points * (2.0 / side)
    result[:, :2] -= 1.0
    return result.astype(np.float32)


def _sharpness(frame: np.ndarray, x: float, y: float, size: float) -> float:
    """Variance of the Laplacian of the face's grey values at 128 pixels, over their own variance."""
    import cv2

    face, _ = crop_square(frame, Crop(round(x - size / 2), round(y - size / 2), max(2, round(size))), SHARPNESS_SIDE)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / (grey.var() + 1.0))


def _usable(shot: _Shot, settings, analyzer: FaceAnalyzer, result: VideoResult) -> list[_Part]:
    """Spans of a shot (frames of the video) that keep every limit; the rest is discarded with its reason."""
    first = shot.track.start
    stop = first + len(shot.images)  # the second pass may end early where the file is damaged
    result.discard(UNREADABLE, stop, shot.track.stop, "these frames do not decode a second time")
    if stop == first:
        return []
    rate = FPS * float(np.mean(shot.fresh))
    if rate < MIN_RATE:
        result.discard(SLOW, first, stop, f"{rate:.1f} different pictures per second; {MIN_RATE:g} are needed")
        return []
    sharp = float(np.median(shot.sharpness))
    if sharp < settings.min_sharpness:
        result.discard(BLURRED, first, stop, f"sharpness {sharp:.3f}")
        return []
    states = np.array([""] * (stop - first), dtype=object)
    if shot.track.profile:
        states[:] = SIDE_VIEW
    if analyzer.landmark_set:
        known = np.array([points is not None for points in shot.points])
        states[~known] = NO_FACE
        if known.any():
            pose = landmark_labels.fit_pose(np.stack([points for points in shot.points if points is not None]))
            states[np.flatnonzero(known)[np.abs(head_angles(pose)[:, 0]) > settings.max_yaw]] = SIDE_VIEW
    kept = []
    for span in _spans(states, first):
        if span.reason:
            result.discard(span.reason, span.start, span.stop)
        elif span.stop - span.start < settings.min_seconds * FPS:
            result.discard(SHORT, span.start, span.stop, "between frames that are discarded")
        else:
            kept.append(_Part(shot, span.start, span.stop))
    return kept


def _spans(states: np.ndarray, first: int) -> list[Span]:
    """Runs of one state; up to MAX_GAP bad frames between good ones count as good."""
    runs = [[state, len(list(group))] for state, group in itertools.groupby(states)]
    for i in range(1, len(runs) - 1):
        if runs[i][0] and runs[i][1] <= MAX_GAP and not runs[i - 1][0] and not runs[i + 1][0]:
            runs[i][0] = ""
    spans, at = [], first
    for state, group in itertools.groupby(runs, key=lambda run: run[0]):
        length = sum(run[1] for run in group)
        spans.append(Span(state, at, at + length))
        at += length
    return spans


def _sound_of(part: _Part, samples: np.ndarray) -> np.ndarray:
    return samples[part.start * SAMPLES_PER_FRAME : part.stop * SAMPLES_PER_FRAME]


def _in_step(
    samples, kept: list[_Part], frames: int, analyzer: FaceAnalyzer, heard: Callable | None, result: VideoResult
) -> tuple[np.ndarray, list[_Part]]:
    """The sound, moved where its offset is certain, and the parts; none of them where it does not follow the mouth."""
    if not analyzer.landmark_set or not kept:
        return samples, kept
    mouth = np.full(frames, np.nan)
    for part in kept:
        for index, points in enumerate(part.shot.points[part.at], part.start):
            if points is not None:
                mouth[index] = landmark_labels.lip_height(points[None])[0]
    measure = result.sync = av_sync.measure_offset(mouth, samples, heard and heard(samples))
    if measure is None:
        return samples, kept
    seen = np.isfinite(mouth).sum() / FPS
    if seen >= MUTE_FROM and measure.height < MUTE_HEIGHT:
        for part in kept:
            result.discard(OUT_OF_SYNC, part.start, part.stop, f"best correlation {measure.score:.2f} in {seen:.0f} s")
        return samples, []
    return _corrected(samples, result), kept


def _in_step_by_model(
    samples, kept: list[_Part], model: Callable, settings: PrepareConfig, result: VideoResult
) -> tuple[np.ndarray, list[_Part]]:
    """The sound, moved where its offset is certain, and the parts that are in step with it by a sync model.

    The offset is the file's: that of all parts which have a certain one; where no part has, none is in step. Parts
    without speech are left to the rule that discards them.
    """
    curves: list[SyncCurve | None] = []
    for part in kept:
        curve = None
        if av_sync.speech_share(_sound_of(part, samples)) >= settings.min_speech:
            points = _without_gaps(part.shot.points[part.at])
            curve = model(part.shot.images[part.at], points, samples, part.start)
        curves.append(curve if curve is not None and curve.best_shift() is not None else None)
    measured = [curve for curve in curves if curve is not None]
    if not measured:
        return samples, kept
    certain = [curve for curve in measured if curve.certain(settings.min_sync)]
    whole = functools.reduce(operator.add, certain or measured)
    shift = whole.best_shift()
    result.sync = av_sync.SyncMeasure(shift / FPS, whole.confidence(shift), bool(certain))
    in_step = []
    for part, curve in zip(kept, curves):
        confidence = None if curve is None else curve.confidence(shift)
        if confidence is not None and (not certain or confidence < settings.min_sync):
            detail = f"confidence {confidence:.1f} by the sync model at {1000 * shift / FPS:+.0f} ms"
            result.discard(OUT_OF_SYNC, part.start, part.stop, detail)
        else:
            in_step.append(dataclasses.replace(part, confidence=confidence))
    return _corrected(samples, result), in_step


def _corrected(samples: np.ndarray, result: VideoResult) -> np.ndarray:
    measure = result.sync
    if not measure.certain or abs(measure.offset) < CORRECTED_FROM:
        return samples
    result.notes.append(f"the sound was {1000 * measure.offset:+.0f} ms late; corrected")
    return av_sync.shifted(samples, measure.offset)


def _clip(clip_id, identity, part: _Part, sound, share, analyzer: FaceAnalyzer, models: UserModels) -> PreparedClip:
    shot, at = part.shot, part.at
    images = shot.images[at]
    metrics = {
        "seconds": (part.stop - part.start) / FPS,
        "face pixels": float(np.median(shot.track.boxes[at, 2])),
        "sharpness": float(np.median(shot.sharpness[at])),
        "loudness dB": float(20 * np.log10(max(np.sqrt(np.mean(np.square(sound))), 1e-4))),
        "speech share": share,
        **prosody(sound),
    }
    if part.confidence is not None:
        metrics["sync confidence"] = part.confidence
    values = {}
    if analyzer.landmark_set:
        values = _labels(_without_gaps(shot.points[at]), metrics)
        values["landmark_set"] = analyzer.landmark_set
        if models.distance is not None:
            metrics["distance"] = models.distance(images, values["landmarks"], values["pose"])
        values["distance"] = np.float32(metrics["distance"]).reshape(())
    if models.gaze is not None:
        values["gaze"] = models.gaze(images, values.get("landmarks"))
    if "gaze" in values:
        main, metrics["near main gaze"] = landmark_labels.main_gaze(values["gaze"], values.get("lids"))
        if main is not None:
            values["main_gaze"] = main
            metrics |= {"gaze yaw": float(main[0]), "gaze pitch": float(main[1])}
    if shot.mattes:
        values["matte"] = tuple(shot.mattes[at])
    if models.emotion is not None:
        values["emotion"] = models.emotion(images)
    audio = np.round(np.clip(sound, -1.0, 1.0) * 32767).astype(np.int16)
    record = Record(clip_id=clip_id, fps=float(FPS), frames=tuple(images), audio=audio, **identity, **values)
    return PreparedClip(record.check(), part.start / FPS, part.stop / FPS, metrics)


def _labels(points: np.ndarray, metrics: dict[str, float]) -> dict[str, np.ndarray]:
    pose = landmark_labels.fit_pose(points)
    gaze = landmark_labels.gaze_angles(points, pose)
    lids = landmark_labels.relative_lids(landmark_labels.lid_openings(points, pose))
    mouth = landmark_labels.mouth_opening(points)
    yaw, pitch, roll = head_angles(pose).mean(0).tolist()
    metrics |= {"yaw": yaw, "pitch": pitch, "roll": roll, "distance": landmark_labels.clip_distance(pose)}
    metrics |= {"mouth": float(mouth.mean()), "eyes closed": float((lids.min(-1) < 0.3).mean())}
    values = {"landmarks": points, "pose": pose, "gaze": gaze, "lids": lids, "mouth": mouth}
    return values


def _without_gaps(points: list[np.ndarray | None]) -> np.ndarray:
    """(T, N, 3); the few frames without landmarks are interpolated."""
    known = np.array([i for i, p in enumerate(points) if p is not None])
    values = np.stack([points[i] for i in known])
    if len(known) == len(points):
        return values
    place = np.interp(np.arange(len(points)), known, np.arange(len(known)))
    low = np.minimum(place.astype(int), len(known) - 2) if len(known) > 1 else np.zeros(len(points), int)
    share = (place - low)[:, None, None]
    high = np.minimum(low + 1, len(known) - 1)
    return (values[low] * (1 - share) + values[high] * share).astype(np.float32)

"""What becomes of one video: its clips and its outcome in files, which any scheduler may make and read.

Clips go to WORK/KEY.clips; then WORK/KEY.json, the outcome, says that they are complete.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from pathlib import Path
from typing import Any

import jax

from vasa_jax.config import PrepareConfig
from vasa_jax.data.records import Record
from vasa_jax.errors import InputError
from vasa_jax.files import read_json, replacing, write_json
from vasa_jax.preparation.clips import Discard, VideoResult, clips_of_video
from vasa_jax.preparation.face_backends.factory import open_analyzer
from vasa_jax.preparation.heard_mouth import HeardMouth
from vasa_jax.preparation.onnx_labels.deep3d import load_distance_model
from vasa_jax.preparation.onnx_labels.hsemotion import load_emotion_model
from vasa_jax.preparation.onnx_labels.l2cs import load_gaze_model
from vasa_jax.preparation.onnx_labels.user_models import UserModels
from vasa_jax.preparation.syncnet import load_sync_model
from vasa_jax.schema import Each, Flag, Maybe, Real, Text, Whole, With, check

FAILED = "failed"
_LENGTH = struct.Struct("<Q")
_SECONDS, _NAME, _NUMBER = Real(0.0, 1e9), Text(longest=5000), Real(-1e12, 1e12)
_OUTCOME = {
    "video": _NAME,
    "key": _NAME,
    "person": _NAME,
    "seconds": _SECONDS,
    "bytes": Whole(0, 2**60),
    "clips": Each(With({"clip_id": _NAME, "start": _SECONDS, "stop": _SECONDS, "seconds": _SECONDS}, _NUMBER)),
    "discards": Each({"reason": _NAME, "start": _SECONDS, "stop": _SECONDS, "detail": Text(0, 5000)}),
    "sync": Maybe(With({"offset": _NUMBER, "score": _NUMBER, "certain": Flag()}, _NUMBER)),
    "notes": Each(Text(0, 5000)),
}


@dataclasses.dataclass(frozen=True)
class VideoJob:
    """One video and where its outcome goes. name: relative to the folder; key: file name of the outcome."""

    path: Path
    name: str
    key: str
    person: str
    split: str


_TOOLS: dict[str, Any] = {}  # the analyzer and the user's models of this process


def start_worker(settings: PrepareConfig) -> None:
    """Opens the analyzer and the user's models in this process; InputError for what is missing or does not fit."""
    import cv2

    cv2.setNumThreads(1)
    analyzer = open_analyzer(settings.analyzer, settings.models)
    for name in ("distance_model", "sync_model"):
        if getattr(settings, name) and not analyzer.landmark_set:
            raise InputError(
                f"config.prepare.{name}: needs landmarks, analyzer {settings.analyzer} gives none; choose litert"
            )
    heard = None
    if settings.voice == "lips" and analyzer.landmark_set and not settings.sync_model:
        # The reader is small, and this process one of many: accelerators are not for them.
        jax.config.update("jax_platforms", "cpu")
        heard = HeardMouth()
    _TOOLS["analyzer"] = analyzer
    _TOOLS["models"] = UserModels(
        load_emotion_model(settings.emotion_model) if settings.emotion_model else None,
        load_gaze_model(settings.gaze_model) if settings.gaze_model else None,
        load_distance_model(settings.distance_model) if settings.distance_model else None,
        load_sync_model(settings.sync_model) if settings.sync_model else None,
        heard,
    )


def prepare_video(job: VideoJob, work: Path, settings: PrepareConfig) -> None:
    """Makes the clips and the outcome of one video; may run in any order and more than once."""
    write_outcome(work, job, result_of_video(job, settings))


def result_of_video(job: VideoJob, settings: PrepareConfig) -> VideoResult:
    """Returns the clips of one video. Whatever goes wrong with it becomes a discard with the reason `failed`."""
    if not _TOOLS:
        start_worker(settings)
    try:
        return clips_of_video(job.path, job.key, job.person, job.split, settings, **_TOOLS, name=Path(job.name).name)
    except Exception as error:  # one video must not stop thousands
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        return VideoResult(discards=[Discard(FAILED, 0.0, 0.0, fault)])


def write_outcome(work: Path, job: VideoJob, result: VideoResult) -> None:
    """Writes the clips, then the outcome that says they are complete."""
    clips = work / f"{job.key}.clips"
    with replacing(clips) as part, open(part, "wb") as file:
        for clip in result.clips:
            data = clip.record.to_bytes()
            file.write(_LENGTH.pack(len(data)) + data)
    outcome = {
        "video": job.name,
        "key": job.key,
        "person": job.person,
        "seconds": result.seconds,
        "bytes": clips.stat().st_size,
        "clips": [{"clip_id": c.record.clip_id, "start": c.start, "stop": c.stop, **c.metrics} for c in result.clips],
        "discards": [dataclasses.asdict(discard) for discard in result.discards],
        "sync": None if result.sync is None else dataclasses.asdict(result.sync),
        "notes": result.notes,
    }
    write_json(work / f"{job.key}.json", outcome)


def read_outcome(work: Path, job: VideoJob) -> dict[str, Any] | None:
    """Returns what became of a video, or None where it is not done, or not to be read: it is then done again."""
    path = work / f"{job.key}.json"
    try:
        outcome = check(read_json(path, "delete it"), _OUTCOME, str(path), "delete it")
        if outcome["key"] == job.key and (work / f"{job.key}.clips").stat().st_size == outcome["bytes"]:
            return {**outcome, "split": job.split}
    except (OSError, InputError):
        pass
    return None


def read_clip(work: Path, key: str, index: int) -> Record:
    """Returns record number `index` of WORK/KEY.clips; InputError names a file that is damaged."""
    path = work / f"{key}.clips"
    try:
        with open(path, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            for number in range(index + 1):
                (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
                if file.tell() + length > total:
                    raise struct.error("it is cut off")
                if number < index:
                    file.seek(length, os.SEEK_CUR)
            return Record.from_bytes(file.read(length))
    except (OSError, struct.error, InputError) as error:
        raise InputError(
            f"{path}: clip {index} is damaged ({error}); delete the file and run the same command again"
        ) from error


def readable_name(name: str) -> str:
    """Returns a file's name as text for records and reports: what is not UTF-8, and control characters, escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

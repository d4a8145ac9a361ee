"""Job `prepare`: a folder of videos becomes labelled shards (`data.shards`), a report and a contact sheet.

Each video is one unit of work: its clips go to OUTPUT/work/NAME.clips, then OUTPUT/work/NAME.json says that it is done.
Both appear by renaming, so a run that was killed at any point goes on with the videos that are not done. When all are,
the distance labels are divided by the set's mean and the shards are written. OUTPUT/work may be deleted afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import re
import struct
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.config import PrepareConfig, VASAConfig
from vasa_jax.data.records import SPLITS, Record
from vasa_jax.data.shards import FORMATS, MANIFEST, Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.preparation.clips import Discard, UserModels, VideoResult, clips_of_video
from vasa_jax.preparation.face_backends.base import open_analyzer

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".flv", ".ts", ".wmv", ".3gp", ".ogv")
VOXCELEB_PERSON = re.compile(r"id\d{5}")
PART_NUMBER = re.compile(r"([_-](clip[_-])?\d+)+$")  # HDTF and CelebV: NAME_000, NAME_0_clip_0
FAILED = "failed"
ANYWHERE = ("workers", "models", "beam")  # settings that decide where and how fast, not what the records are
_LENGTH = struct.Struct("<Q")


@dataclasses.dataclass(frozen=True)
class VideoJob:
    """One video and where its outcome goes. name: relative to the folder; key: file name of the outcome."""

    path: Path
    name: str
    key: str
    person: str
    split: str


def prepare(config: VASAConfig) -> Path:
    """Runs the job and returns the path of the report (with Beam, of the TFDS build).

    Raises InputError for settings and folders that cannot work."""
    from vasa_jax.preparation.report import write_report

    settings = config.prepare
    if not config.output:
        raise InputError("config.output: is empty; give the directory for the records")
    output = Path(config.output)
    _start_worker(settings)  # an unusable analyzer is found here, not once per video
    jobs = find_videos(config.videos, settings)
    work = output / "work"
    if settings.beam:
        from vasa_jax.preparation.beam.vasa_videos_dataset_builder import build_with_beam

        bucket = "://" in config.output
        if not bucket:
            same_settings(work, settings, "config.output")
        builder = build_with_beam(jobs, config.output, settings, "" if bucket else str(work))
        return Path(builder.data_dir)
    same_settings(work, settings, "config.output")
    outcomes = run_jobs(jobs, work, settings)
    # Of a small set a split should not go to the one person of whom nothing is left.
    jobs = split_jobs(jobs, {outcome["person"] for outcome in outcomes if outcome["clips"]}, settings)
    outcomes = [{**outcome, "split": job.split} for outcome, job in zip(outcomes, jobs)]
    statistics = write_shards(jobs, outcomes, output, settings)
    report = write_report(output, outcomes, statistics)
    print(f"{report}: {statistics['clips']} clips, {statistics['seconds']:.0f} s, of {len(jobs)} videos")
    return report


def find_videos(folder: str, settings: PrepareConfig) -> list[VideoJob]:
    """All video files below a folder (or the one given), sorted by name; InputError where there are none."""
    if not folder:
        raise InputError("config.videos: is empty; give a folder of videos")
    root = Path(folder)
    if not root.exists():
        raise InputError(f"{root}: does not exist; give a folder of videos")
    found = [root] if root.is_file() else sorted(_files(root))
    paths = [path for path in found if path == root or (path.suffix.lower() in SUFFIXES and path.name[0] != ".")]
    if not paths:
        raise InputError(f"{root}: holds no video; known endings are {' '.join(SUFFIXES)}")
    base = root.parent if root.is_file() else root
    jobs = []
    for path in paths:
        name = path.relative_to(base).as_posix()
        slug = re.sub(r"[^A-Za-z0-9]+", "_", str(Path(name).with_suffix(""))).strip("_")[-60:]
        key = f"{slug}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        jobs.append(VideoJob(path, name, key, person_of(Path(name), settings.person), "train"))
    return split_jobs(jobs, {job.person for job in jobs}, settings)


def split_jobs(jobs: list[VideoJob], persons: set[str], settings: PrepareConfig) -> list[VideoJob]:
    """The jobs with their splits, where these persons have clips; the others count for training."""
    splits = _splits(persons, {"heldout": settings.heldout, "test": settings.test})
    return [dataclasses.replace(job, split=splits.get(job.person, "train")) for job in jobs]


def _splits(persons: set[str], shares: dict[str, float]) -> dict[str, str]:
    """The split of each person, by a draw that only the name decides.

    In a small set every split with a share still gets one person, as long as one is left for training.
    """
    result, low = dict.fromkeys(persons, "train"), 0.0
    for split, share in shares.items():
        free = sorted((person for person in persons if result[person] == "train"), key=_draw)
        chosen = [person for person in free if low <= _draw(person) < low + share]
        if not chosen and share and len(free) > 1:
            chosen = free[:1]
        result |= dict.fromkeys(chosen, split)
        low += share
    return result


def _files(root: Path) -> Iterator[Path]:
    """All files below a folder, through links to folders too (large sets are often linked together)."""
    for folder, _, names in os.walk(root, followlinks=True):
        yield from (Path(folder, name) for name in names)


def person_of(name: Path, rule: str) -> str:
    """The person in a video of this relative path (see PrepareConfig.person)."""
    folders = name.parts[:-1]
    if rule == "folder" and folders:
        return folders[-1]
    if rule == "auto":
        for part in folders:
            if VOXCELEB_PERSON.fullmatch(part):
                return part
        return PART_NUMBER.sub("", name.stem) or name.stem
    return name.stem


def run_jobs(jobs: list[VideoJob], work: Path, settings: PrepareConfig) -> list[dict[str, Any]]:
    """Does what is not done yet, in processes, with a progress bar; the outcomes of all, in the order of `jobs`.

    A video that kills its process (a decoder's crash, memory) is tried once more in a process of its own, and if that
    dies too it is recorded as failed.
    """
    from tqdm import tqdm

    work.mkdir(parents=True, exist_ok=True)
    for part in work.glob("*.part"):
        part.unlink()
    todo = [job for job in jobs if read_outcome(work, job) is None]
    workers = min(settings.workers or os.cpu_count() or 1, max(len(todo), 1))
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), unit="video", disable=None) as bar:
        broken = _in_processes(todo, work, settings, workers, bar)
        for job in broken:
            if _in_processes([job], work, settings, 1, bar):
                lost = VideoResult(discards=[Discard(FAILED, 0.0, 0.0, "its process died twice")])
                _write_outcome(work, job, lost)
                bar.update()
    return [read_outcome(work, job) for job in jobs]


def _in_processes(jobs, work: Path, settings: PrepareConfig, workers: int, bar) -> list[VideoJob]:
    """Runs the jobs; the list of those whose process died."""
    if not jobs:
        return []
    context = multiprocessing.get_context("spawn")
    broken = []
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(settings,)) as pool:
        futures = {pool.submit(prepare_video, job, work, settings): job for job in jobs}
        for future in as_completed(futures):
            try:
                future.result()
                bar.update()
            except BrokenProcessPool:
                broken.append(futures[future])
    return broken


_TOOLS: dict[str, Any] = {}  # the analyzer and the user's models of this process


def _start_worker(settings: PrepareConfig) -> None:
    import cv2

    from vasa_jax.preparation.onnx_labels.deep3d import load_distance_model
    from vasa_jax.preparation.onnx_labels.hsemotion import load_emotion_model
    from vasa_jax.preparation.onnx_labels.l2cs import load_gaze_model
    from vasa_jax.preparation.syncnet import load_sync_model

    cv2.setNumThreads(1)
    analyzer = open_analyzer(settings.analyzer, settings.models)
    for name in ("distance_model", "sync_model"):
        if getattr(settings, name) and not analyzer.landmark_set:
            raise InputError(
                f"config.prepare.{name}: needs landmarks, analyzer {settings.analyzer} gives none; choose litert"
            )
    _TOOLS["analyzer"] = analyzer
    _TOOLS["models"] = UserModels(
        load_emotion_model(settings.emotion_model) if settings.emotion_model else None,
        load_gaze_model(settings.gaze_model) if settings.gaze_model else None,
        load_distance_model(settings.distance_model) if settings.distance_model else None,
        load_sync_model(settings.sync_model) if settings.sync_model else None,
    )


def prepare_video(job: VideoJob, work: Path, settings: PrepareConfig) -> None:
    """One video to OUTPUT/work: may run in any order and more than once."""
    _write_outcome(work, job, result_of_video(job, settings))


def result_of_video(job: VideoJob, settings: PrepareConfig) -> VideoResult:
    """The unit of work that any scheduler may run. Whatever goes wrong with the video becomes its outcome."""
    if not _TOOLS:
        _start_worker(settings)
    try:
        return clips_of_video(job.path, job.key, job.person, job.split, settings, **_TOOLS)
    except Exception as error:  # one video must not stop thousands
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        return VideoResult(discards=[Discard(FAILED, 0.0, 0.0, fault)])


def _write_outcome(work: Path, job: VideoJob, result: VideoResult) -> None:
    """The clips first, then the outcome that says they are complete."""
    clips = work / f"{job.key}.clips"
    with _replacing(clips) as part, open(part, "wb") as file:
        for clip in result.clips:
            data = clip.record.to_bytes()
            file.write(_LENGTH.pack(len(data)) + data)
    outcome = {
        "video": job.name,
        "key": job.key,
        "person": job.person,
        "seconds": result.seconds,
        "bytes": clips.stat().st_size,
        "clips": [{"clip_id": c.record.clip_id, "start": c.start, "stop": c.stop, **c.figures} for c in result.clips],
        "discards": [dataclasses.asdict(discard) for discard in result.discards],
        "sync": None if result.sync is None else dataclasses.asdict(result.sync),
        "notes": result.notes,
    }
    with _replacing(work / f"{job.key}.json") as part:
        part.write_text(json.dumps(outcome, indent=1) + "\n")


class _replacing:
    """A path beside `path` to write to; it takes the name of `path` when the block ends without an error."""

    def __init__(self, path: Path):
        self._path, self._part = path, path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")

    def __enter__(self) -> Path:
        return self._part

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            os.replace(self._part, self._path)
        else:
            self._part.unlink(missing_ok=True)


def read_outcome(work: Path, job: VideoJob) -> dict[str, Any] | None:
    """What became of a video, or None where it is not done."""
    try:
        outcome = json.loads((work / f"{job.key}.json").read_text())
        if (work / f"{job.key}.clips").stat().st_size == outcome["bytes"]:
            return {**outcome, "split": job.split}
    except (OSError, ValueError, KeyError):
        pass
    return None


def read_clip(work: Path, key: str, index: int) -> Record:
    """Record number `index` of OUTPUT/work/KEY.clips."""
    with open(work / f"{key}.clips", "rb") as file:
        for _ in range(index):
            file.seek(*_LENGTH.unpack(file.read(_LENGTH.size)), os.SEEK_CUR)
        return Record.from_bytes(file.read(*_LENGTH.unpack(file.read(_LENGTH.size))))


def write_shards(jobs: list[VideoJob], outcomes, output: Path, settings: PrepareConfig) -> dict[str, Any]:
    """OUTPUT/*.array_record, *.tfrecord, manifest.json and statistics.json; the statistics.

    Shards left from a set of other videos or settings are replaced.
    """
    statistics = set_statistics(outcomes)
    if not statistics["clips"]:
        return statistics
    work = output / "work"
    clips = [
        (job, clip["clip_id"], index)
        for job, outcome in zip(jobs, outcomes)
        for index, clip in enumerate(outcome["clips"])
    ]
    names = [(clip_id, job.split) for job, clip_id, _ in clips]
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    made_with = {**_deciding(settings), "clips": digest, "distance_mean": statistics["distance_mean"]}
    if _other_settings(output, made_with):
        _remove_shards(output)
    for split in SPLITS:
        # Shuffled once by name, so that a shard is no single person.
        chosen = sorted((clip for clip in clips if clip[0].split == split), key=lambda clip: _draw(clip[1]))
        count = -(-len(chosen) // settings.clips_per_shard)
        for index in range(count):
            records = _normalised(work, chosen[index::count], statistics["distance_mean"])
            write_shard(output, Shard(split, index, count), records, FORMATS, made_with)
    write_manifest(output)
    with _replacing(output / "statistics.json") as part:
        part.write_text(json.dumps(statistics, indent=1) + "\n")
    return statistics


def _other_settings(output: Path, made_with: dict[str, Any]) -> bool:
    plain = json.loads(json.dumps(made_with))
    return any(json.loads(path.read_text()).get("settings") != plain for path in output.glob("*-of-*.json"))


def _remove_shards(output: Path) -> None:
    (output / MANIFEST).unlink(missing_ok=True)
    for path in output.glob("*-of-*.json"):
        path.unlink()
        for name in FORMATS:
            path.with_suffix(f".{name}").unlink(missing_ok=True)


def _normalised(work: Path, members: list[tuple[VideoJob, str, int]], distance_mean: float | None) -> Iterator[Record]:
    """The records of a shard in its order; distance over the set's mean."""
    for job, _, index in members:
        record = read_clip(work, job.key, index)
        changes: dict[str, Any] = {"split": job.split}  # a set that grew may be split otherwise
        if record.distance is not None:
            changes["distance"] = np.float32(record.distance / distance_mean).reshape(())
        yield dataclasses.replace(record, **changes)


def set_statistics(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of the whole set; distance_mean is what the distance labels are divided by (None without labels)."""
    clips = [clip for outcome in outcomes for clip in outcome["clips"]]
    discards = [(outcome, discard) for outcome in outcomes for discard in outcome["discards"]]
    reasons = sorted({discard["reason"] for _, discard in discards})
    statistics: dict[str, Any] = {
        "videos": len(outcomes),
        "clips": len(clips),
        "seconds": float(sum(clip["seconds"] for clip in clips)),
        "persons": len({outcome["person"] for outcome in outcomes if outcome["clips"]}),
        "splits": _split_counts(outcomes),
        "discarded": {
            reason: {
                "ranges": sum(discard["reason"] == reason for _, discard in discards),
                "videos": len({outcome["video"] for outcome, discard in discards if discard["reason"] == reason}),
                "seconds": float(sum(d["stop"] - d["start"] for _, d in discards if d["reason"] == reason)),
            }
            for reason in reasons
        },
        "distance_mean": None,
        "figures": {},
    }
    for name in sorted({name for clip in clips for name in clip} - {"clip_id", "start", "stop"}):
        values = np.array([clip[name] for clip in clips if name in clip])
        statistics["figures"][name] = {
            "mean": float(values.mean()), "deviation": float(values.std()),
            "p5": float(np.percentile(values, 5)), "p95": float(np.percentile(values, 95)),
        }  # fmt: skip
    if "distance" in statistics["figures"]:
        statistics["distance_mean"] = statistics["figures"]["distance"]["mean"]
    return statistics


def _split_counts(outcomes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each split holds. The split is that of the present run: a set that grew may be split otherwise."""
    result = {}
    for split in SPLITS:
        members = [outcome for outcome in outcomes if outcome["split"] == split]
        clips = [clip for outcome in members for clip in outcome["clips"]]
        if members:
            result[split] = {
                "videos": len(members),
                "persons": len({outcome["person"] for outcome in members if outcome["clips"]}),
                "clips": len(clips),
                "seconds": float(sum(clip["seconds"] for clip in clips)),
            }
    return result


def _draw(text: str) -> float:
    """A number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _deciding(settings: PrepareConfig) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in ANYWHERE}


def same_settings(work: Path, settings: PrepareConfig, where: str) -> None:
    """InputError where `work` was made with settings that give other clips; `where` is the setting that chose it."""
    path = work / "settings.json"
    now = {name: value for name, value in _deciding(settings).items() if name != "clips_per_shard"}
    if path.is_file():
        made = json.loads(path.read_text())
        if made != now:
            names = ", ".join(f"{k} {made.get(k)!r}, now {now.get(k)!r}" for k in now if made.get(k) != now[k])
            raise InputError(f"{work}: made with other settings ({names}); choose another {where} or delete it")
        return
    work.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as part:
        part.write_text(json.dumps(now, indent=1) + "\n")

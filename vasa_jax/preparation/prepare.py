"""Job `prepare`: a folder of videos becomes labelled shards (`data.shards`), a report and a contact sheet.

Each video is one unit of work: its clips go to OUTPUT/work/NAME.clips, then OUTPUT/work/NAME.json says that it is done.
Both appear by renaming, so a run that was killed at any point goes on with the videos that are not done. When all are,
the distance labels are divided by the set's mean and the shards are written. OUTPUT/work may be deleted afterwards.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.config import PrepareConfig, VASAConfig
from vasa_jax.data.records import SPLITS, Record
from vasa_jax.data.shards import FORMATS, MANIFEST, Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.files import as_json, difference, read_json, run_in_processes, write_json
from vasa_jax.preparation.clips import Discard, VideoResult
from vasa_jax.preparation.report import write_report
from vasa_jax.preparation.statistics import set_statistics
from vasa_jax.preparation.work import (
    FAILED,
    VideoJob,
    prepare_video,
    read_clip,
    read_outcome,
    readable_name,
    start_worker,
    write_outcome,
)
from vasa_jax.schema import Named, check

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".flv", ".ts", ".wmv", ".3gp", ".ogv")
VOXCELEB_PERSON = re.compile(r"id\d{5}")
PART_NUMBER = re.compile(r"([_-](clip[_-])?\d+)+$")  # HDTF and CelebV: NAME_000, NAME_0_clip_0
_UNKNOWN_SETTINGS = "nobody can tell what made the clips beside it: choose another output, or delete the folder work"
ANYWHERE = ("workers", "models", "beam")  # settings that decide where and how fast, not what the records are


def prepare(config: VASAConfig, workdir: str | Path = "") -> Path:
    """Runs the job and returns the path of the report (with Beam, of the TFDS build).

    Raises InputError for settings and folders that cannot work.
    """
    settings = config.prepare
    if not config.output:
        raise InputError("config.output: is empty; give the directory for the records")
    output = Path(config.output)
    start_worker(settings)  # an unusable analyzer is found here, not once per video
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
    """Returns all videos below a folder (or the one given), sorted by name; InputError where there are none."""
    if not folder:
        raise InputError("config.videos: is empty; give a folder of videos")
    root = Path(folder)
    if not os.path.exists(root):
        raise InputError(f"{root}: does not exist; give a folder of videos")
    paths = [root] if root.is_file() else sorted(_videos(root))
    if not paths:
        raise InputError(f"{root}: holds no video; known endings are {' '.join(SUFFIXES)}")
    base = root.parent if root.is_file() else root
    jobs = []
    for path in paths:
        name = path.relative_to(base).as_posix()
        slug = re.sub(r"[^A-Za-z0-9]+", "_", str(Path(name).with_suffix(""))).strip("_")[-60:]
        key = f"{slug}_{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
        name = readable_name(name)
        jobs.append(VideoJob(path, name, key, person_of(Path(name), settings.person), "train"))
    return split_jobs(jobs, {job.person for job in jobs}, settings)


def split_jobs(jobs: list[VideoJob], persons: set[str], settings: PrepareConfig) -> list[VideoJob]:
    """Returns the jobs with their splits, where these persons have clips; the others count for training."""
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


def _videos(root: Path) -> Iterator[Path]:
    """Every video below a folder once, through links too: large sets are often linked together.

    A link may lead to its own parent, or to what is found without it; real names come before links.
    """
    folders, links = [root], []
    entered: set[Any] = set()
    files: list[Path] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if (place := _place(folder)) in entered:
            continue
        entered.add(place)
        for path in sorted(Path(folder, name) for name in _names(folder)):
            if os.path.isdir(path):
                (links if path.is_symlink() else folders).append(path)
            elif path.suffix.lower() in SUFFIXES and path.name[0] != ".":
                files.append(path)
    seen: set[Any] = set()
    for path in sorted(files, key=lambda path: path.is_symlink()):
        if (place := _place(path)) not in seen:
            seen.add(place)
            yield path


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        print(f"{folder}: cannot be read ({(error.strerror or str(error)).lower()}); its videos are left out")
        return []


def _place(path: Path) -> Any:
    """What two names of one file or folder share."""
    try:
        found = path.stat()
    except OSError:
        return path
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)


def person_of(name: Path, rule: str) -> str:
    """Returns the person in a video of this relative path (see PrepareConfig.person)."""
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
    """Prepares the videos that are not done yet, in processes; returns all outcomes, in the order of `jobs`.

    A video that kills its process (a crash in a decoder, memory) is tried once more in a process of its own. If that
    dies too, the video is recorded as failed. Other videos lose nothing by it (`files.run_in_processes`).
    """
    from tqdm import tqdm

    work.mkdir(parents=True, exist_ok=True)
    for part in work.glob("*.part"):
        part.unlink()
    todo = [job for job in jobs if read_outcome(work, job) is None]
    workers = min(settings.workers or os.cpu_count() or 1, max(len(todo), 1))
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), unit="video", disable=None) as bar:
        prepare_one = functools.partial(prepare_video, work=work, settings=settings)
        fail = functools.partial(_record_failure, work=work)
        for _ in run_in_processes(prepare_one, todo, workers, start_worker, (settings,), fail):
            bar.update()
    return [read_outcome(work, job) for job in jobs]


def _record_failure(job: VideoJob, work: Path) -> None:
    write_outcome(work, job, VideoResult(discards=[Discard(FAILED, 0.0, 0.0, "its process died twice")]))


def write_shards(jobs: list[VideoJob], outcomes, output: Path, settings: PrepareConfig) -> dict[str, Any]:
    """Writes OUTPUT/*.array_record, *.tfrecord, manifest.json and statistics.json; returns the statistics.

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
    write_json(output / "statistics.json", statistics)
    return statistics


def _other_settings(output: Path, made_with: dict[str, Any]) -> bool:
    """Whether a shard is of other settings, or its entry is damaged."""
    plain = as_json(made_with)
    for path in output.glob("*-of-*.json"):
        try:
            entry = read_json(path, "delete it")
        except InputError:
            return True
        if not isinstance(entry, dict) or entry.get("settings") != plain:
            return True
    return False


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


def _draw(text: str) -> float:
    """A number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _deciding(settings: PrepareConfig) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in ANYWHERE}


def same_settings(work: Path, settings: PrepareConfig, where: str) -> None:
    """Raises InputError where `work` was made with settings that give other clips.

    `where` is the setting that chose the folder.
    """
    path = work / "settings.json"
    now = {name: value for name, value in _deciding(settings).items() if name != "clips_per_shard"}
    if os.path.lexists(path):
        made = check(read_json(path, _UNKNOWN_SETTINGS), Named(), str(path), _UNKNOWN_SETTINGS)
        if made != now:
            raise InputError(
                f"{work}: made with other settings ({difference(made, now)}); choose another {where} or delete it"
            )
        return
    write_json(path, now)

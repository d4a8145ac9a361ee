"""A list of videos to generate with one loading of the networks: `--config.jobs=list.jsonl`.

    {"image": "anna.jpg", "audio": "hello.wav", "output": "anna.mp4"}
    {"image": "ben.png", "audio": "hello.wav", "output": "ben.mp4", "emotion": "happiness:0.5", "seed": 3}

One JSON object a line: files, `crop`, `background`, `paste`, `size`, `fps`, any control, any field of `VideoForm`. What
a line leaves out is as on the command line.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from vasa_jax.config import VASAConfig
from vasa_jax.data.image_files import existing_file
from vasa_jax.data.output_files import video_output
from vasa_jax.errors import InputError, one_line, say
from vasa_jax.files import LARGEST_JSON, fingerprint, parse_json, read_bytes
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.settings import fields_of, nearest_name

FILES = ("image", "audio", "controls", "subtitles")  # that a job reads
NAMES = (*FILES, "output", "crop", "background", "paste", "size", "fps", *fields_of(Controls), *fields_of(VideoForm))
_ALIKE = tuple(name for name in ("checkpoint", "mark", "motion_generator", *fields_of(Driving)) if name not in NAMES)


def generate_listed(config: VASAConfig, make: Callable[[VASAConfig], Path]) -> list[Path]:
    """Makes every video of the list `config.jobs` with `make`, and prints how many; returns those that are there.

    A job that fails is told in one line and stops no other. A job that was done is left out when the list is run
    again, while its line, its files and its video stay: what was done is noted in a file beside the list, `.done`.
    Raises InputError for a list that cannot be read, and at the end if a job has failed.
    """
    path = existing_file(config.jobs, "job list")
    jobs = list(_read(path, config))
    done = _Done(path.with_name(path.name + ".done"))
    inputs = [getattr(job, name) for _, job, _ in jobs if job for name in FILES if getattr(job, name)]
    outputs: dict[str, str] = {}
    written, kept, failed = [], [], 0
    for where, job, fault in jobs:
        try:
            if fault:
                raise fault
            output = video_output(job.output, [*inputs, path]) if job.output else None
            real = os.path.realpath(output or where)
            if outputs.setdefault(real, where) != where:
                raise InputError(f"{job.output}: is also written by {outputs[real]}; choose another output")
            key = _key(job)
            if output and done.holds(key, real):
                kept.append(output)
                continue
            written.append(make(job))
            done.add(key, real)
        except Exception as error:  # whatever it is, the other jobs do not depend on it
            failed += 1
            text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            say(f"failed: {where}: {one_line(text.removeprefix(f'{where}: '))}", sys.stderr)
    counts = f"{len(written)} written, {len(kept)} done before, {failed} failed"
    say(f"{one_line(str(path))}: {len(jobs)} jobs: {counts}")
    if failed:
        raise InputError(f"{path}: {failed} of {len(jobs)} jobs failed; mend their lines and run it again")
    return [*written, *kept]


def _read(path: Path, config: VASAConfig) -> Iterator[tuple[str, VASAConfig | None, InputError | None]]:
    """Yields (the line's name, its settings, or what is wrong with it)."""
    text = read_bytes(path, "give a job list, or several smaller ones", LARGEST_JSON)
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        try:
            yield where, _settings(line, config, where), None
        except InputError as error:
            yield where, None, error


def _settings(line: bytes, config: VASAConfig, where: str) -> VASAConfig:
    content = parse_json(line, where, "see the example in generation/job_list.py")
    if not isinstance(content, dict):
        raise InputError(f'{where}: holds no object; write {{"image": "me.jpg", "audio": "hello.wav", ...}}')
    for name in content:
        if name not in NAMES:
            raise InputError(f"{where}: no setting '{name}' of a job;{nearest_name(name, NAMES) or ' see the docs'}")
    return dataclasses.replace(config, jobs="", **content).validate(where)


def _key(job: VASAConfig) -> int:
    """Returns a number for what a job makes: its settings, and the state of its files."""
    files = []
    for name in (*FILES, *(["backdrop"] if os.path.isfile(job.backdrop) else [])):
        value = getattr(job, name)
        if value and value != "demo":
            state = existing_file(value, name).stat()
            files.append((os.path.realpath(value), state.st_size, state.st_mtime_ns))
    settings = {name: getattr(job, name) for name in (*NAMES, *_ALIKE)}
    return fingerprint(settings, files)


class _Done:
    """The jobs that were done, one JSON line each; a line that a stop cut short counts for nothing."""

    def __init__(self, path: Path):
        self._path = path
        self._jobs: set[tuple[int, str]] = set()
        remedy = "remove it, or copy the job list to another folder"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o666))
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({(error.strerror or str(error)).lower()}); {remedy}"
            ) from None
        lines = read_bytes(path, remedy, LARGEST_JSON).splitlines()
        for line in lines:
            try:
                key, output = json.loads(line)
                self._jobs.add((int(key), str(output)))
            except (ValueError, TypeError, RecursionError):
                continue

    def holds(self, key: int, output: str) -> bool:
        return (key, output) in self._jobs and os.path.isfile(output)

    def add(self, key: int, output: str) -> None:
        with open(self._path, "ab") as file:
            file.write(b"\n" + json.dumps([key, output]).encode() + b"\n")  # apart from a line that was cut short
        self._jobs.add((key, output))

"""Files that are whole or absent, caches that know what they were made from, and work spread over processes."""

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import dataclasses
import errno
import json
import multiprocessing
import os
import re
import stat
import threading
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.errors import InputError

_KEY = "made from"  # name of the key among a cache's arrays
_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_YOUNG = 2.0  # seconds; a file may be that old before its writer holds it
_LONGEST_NAME = 120  # bytes of a file's name that its temporary file repeats; file systems allow 255 in all


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it takes the name `path` when the block ends without an error.

    The folder is made. The temporary name ends in `.part` and is unique, so that any number of processes may write one
    file: the last to finish wins, whole. Any exception removes it; what a killed process leaves behind is removed when
    the file is written again. A file that is replaced passes its mode on.
    Raises InputError for a folder that cannot be made or written, and for a full disk.
    """
    path = Path(path)
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])
    part = path.with_name(f"{name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _claimed(part)
        _remove_left_behind(path.parent, name)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())  # else a crash of the machine may leave the new name without its bytes
        with contextlib.suppress(OSError):  # there is no such file yet, or its mode is not ours to give
            os.chmod(part, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        # Other errors of the system come from what the block reads.
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE and error.filename in (None, str(part)):
            raise _unwritable(path, error) from error
        raise
    finally:
        os.close(held)


def _claimed(part: Path) -> int:
    """Makes an empty file and holds a lock on it, which tells other processes that its writer lives."""
    held = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    _lock(held)
    return held


def _lock(held: int) -> bool:
    """Locks a file until it is closed or its process ends; False where another holds it, or locks do not exist."""
    try:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (ImportError, OSError):
        return False


def _remove_left_behind(folder: Path, name: str) -> None:
    """Removes temporary files of `name` whose writers have ended."""
    pattern = re.compile(re.escape(name) + r"\.[0-9a-f]{32}\.part")
    with contextlib.suppress(OSError):  # the folder may not be listed
        for entry in [entry for entry in os.scandir(folder) if pattern.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):  # another process was faster
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _YOUNG:
                    _remove_unheld(entry.path)


def _remove_unheld(path: str) -> None:
    held = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if _lock(held):
            os.unlink(path)
    finally:
        os.close(held)


def _unwritable(path: Path, error: OSError) -> InputError:
    fault = (error.strerror or str(error)).lower()
    return InputError(f"{path}: cannot be written ({fault}); free some space, or choose another path")


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file (UTF-8) through `replacing`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON with one space of indentation through `replacing`."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def cached(
    path: str | Path, key: Mapping[str, Any], make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Returns the arrays of `make`, read from the `.npz` file `path` when an earlier call left them there.

    `key` is everything JSON that decides the arrays. It is stored in the file; a file with another key raises
    InputError that names the difference. A file that is damaged, or that has no key, is made anew.
    """
    path, key = Path(path), as_json(key)
    try:
        with np.load(path, allow_pickle=False) as file:
            content = dict(file)
        made = json.loads(str(content.pop(_KEY)))
    except (OSError, EOFError, KeyError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error):
        made = None
    if made is None:
        content = {name: np.asarray(value) for name, value in make().items()}
        with replacing(path) as part, open(part, "wb") as file:
            np.savez(file, **content, **{_KEY: np.array(json.dumps(key))})
    elif made != key:
        raise InputError(
            f"{path}: was made with other settings ({difference(made, key)}); delete it, or choose another folder"
        )
    return content


def as_json(settings: Any) -> Any:
    """Returns settings as JSON gives them back: tuples as lists, names as text."""
    return json.loads(json.dumps(settings))


def difference(made: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns the settings that differ, as `name old, now new`, in the order of their names."""
    names = [name for name in sorted({*made, *now}) if made.get(name) != now.get(name)]
    return ", ".join(f"{name} {made.get(name)!r}, now {now.get(name)!r}" for name in names)


def fingerprint(*parts: Any) -> int:
    """Returns a number that tells values from others: the CRC-32 of arrays and settings, dicts in order of names.

    Takes nested dicts, lists, tuples, dataclasses, arrays and plain values. It guards against mix-ups, not attacks.
    """
    return _checksum(parts, "", 0)


def _checksum(value: Any, name: str, crc: int) -> int:
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key in sorted(value):
            crc = _checksum(value[key], f"{name}.{key}", crc)
    elif isinstance(value, list | tuple):
        for item in value:
            crc = _checksum(item, name, crc)
    elif hasattr(value, "dtype"):
        crc = zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8), crc)
    else:
        crc = zlib.crc32(f"{name}={value!r};".encode(), crc)
    return crc


def run_in_processes(
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    workers: int,
    start: Callable[..., None] | None = None,
    start_arguments: tuple = (),
    lost: Callable[[Any], Any] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yields (number of the job, `function(job)`) as results come, from `workers` spawned processes.

    `workers` 0 runs everything in this process. `start(*start_arguments)` prepares each process first. Exceptions of
    `start` and of `function` are raised here. Workers end with this process, however it ends.

    A worker that dies (out of memory, a crash in a decoder) costs no other job: those in flight run again, alone in a
    process, and the rest goes on in a new pool. `lost(job)` gives the result of a job that kills its process alone;
    without `lost` InputError is raised.
    """
    if workers <= 0:
        if start is not None:
            start(*start_arguments)
        for index, job in enumerate(jobs):
            yield index, function(job)
        return
    pool = _Pool(function, jobs, start, start_arguments)
    waiting = collections.deque(range(len(jobs)))
    while waiting:
        before = len(waiting)
        suspects = yield from pool.run(waiting, workers)
        finished, innocent = before - len(waiting) - len(suspects), True
        while suspects:
            for index in (yield from pool.run(suspects, 1)):
                innocent = False
                if lost is None:
                    raise InputError(
                        f"job {index + 1} of {len(jobs)}: its process was killed twice; free some memory, or use fewer "
                        "workers"
                    )
                yield index, lost(jobs[index])
        # Jobs that do well alone and kill a young pool together need more memory than there is.
        if innocent and finished < 4 * workers:
            workers = max(workers // 2, 1)


class _Pool:
    """Runs some of the jobs in a new pool, until they are done or a worker dies."""

    def __init__(self, function: Callable, jobs: Sequence[Any], start: Callable | None, start_arguments: tuple):
        self._function, self._jobs, self._start = function, jobs, (start, start_arguments)

    def run(
        self, waiting: collections.deque[int], workers: int
    ) -> Generator[tuple[int, Any], None, collections.deque[int]]:
        """Yields (number, result), takes jobs from `waiting`; returns those in flight when a worker died."""
        executor = concurrent.futures.ProcessPoolExecutor(
            min(workers, len(waiting)), multiprocessing.get_context("spawn"), _start_worker, self._start
        )
        running: dict[concurrent.futures.Future, int] = {}
        suspects: collections.deque[int] = collections.deque()
        broken, ended = False, False
        try:
            while running or (waiting and not broken):
                # No more than there are workers: what is in flight at a death is then known exactly.
                while waiting and not broken and len(running) < workers:
                    try:
                        running[executor.submit(_work, self._function, self._jobs[waiting[0]])] = waiting[0]
                        waiting.popleft()
                    except concurrent.futures.process.BrokenProcessPool:
                        broken = True
                for future in concurrent.futures.wait(running, return_when="FIRST_COMPLETED").done:
                    index = running.pop(future)
                    try:
                        result = future.result()
                    except concurrent.futures.process.BrokenProcessPool:
                        broken = True
                        suspects.append(index)
                    else:
                        yield index, result
            ended = True
        finally:
            executor.shutdown(wait=ended, cancel_futures=True)
        return suspects


_start_fault: Exception | None = None  # why `start` failed in this worker


def _start_worker(start: Callable | None, arguments: tuple) -> None:
    global _start_fault
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    try:
        if start is not None:
            start(*arguments)
    except Exception as error:  # raised by the first job: an initializer's own exception would only break the pool
        _start_fault = error


def _work(function: Callable, job: Any) -> Any:
    if _start_fault is not None:
        raise _start_fault
    return function(job)

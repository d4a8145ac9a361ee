"""Files that are whole or absent, files of others that may be anything, caches, and work spread over processes."""

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import stat
import threading
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vasa_jax.errors import InputError

_KEY = "made from"  # name of the key among a cache's arrays
_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
LARGEST_JSON = 32 * 2**20  # bytes; a control track of an hour takes 10 million
DEEPEST_JSON = 64  # lists and objects within each other
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}  # anything else is a device
_YOUNG = 2.0  # seconds; a file may be that old before its writer holds it
_LONGEST_NAME = 120  # bytes of a file's name that its temporary file repeats; file systems allow 255 in all


@contextlib.contextmanager
def replacing(path: str | Path, mode: int | None = None) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it takes the name `path` when the block ends without an error.

    The folder is made. The temporary name ends in `.part` and is unique, so that any number of processes may write one
    file: the last to finish wins, whole. Any exception removes it; what a killed process leaves behind is removed when
    the file is written again.

    mode: permissions from the first byte on; None = those of the file that is replaced, else the process's own.
    Raises InputError for a folder that cannot be made or written, and for a full disk.
    """
    path = Path(path)
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])
    part = path.with_name(f"{name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _claimed(part, 0o666 if mode is None else mode)
        _remove_left_behind(path.parent, name)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())  # else a crash of the machine may leave the new name without its bytes
        with contextlib.suppress(OSError):  # there is no such file yet, or its mode is not ours to give
            os.chmod(part, stat.S_IMODE(os.stat(path).st_mode) if mode is None else mode)
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


def _claimed(part: Path, mode: int) -> int:
    """Makes an empty file and holds a lock on it, which tells other processes that its writer lives."""
    held = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    lock(held)
    return held


def lock(held: int, without: bool = False) -> bool:
    """Locks an open file until it is closed or its process ends; False where another holds it.

    `without` is returned where locks do not exist.
    """
    try:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return without


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
        if lock(held):
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


def expanded(path: str | os.PathLike) -> Path:
    """Returns the path with the home folder for a leading `~`; as it is where no such home is known."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def open_regular(path: str | Path, remedy: str) -> BinaryIO:
    """Opens a regular file to read its bytes; never waits, as opening a FIFO would.

    InputError, which ends in `remedy`, for a path that cannot be opened and for what is no regular file.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        fault = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(f"{path}: cannot be read ({fault}); {remedy}") from error
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        raise InputError(f"{path}: is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file; {remedy}")
    return open(number, "rb")


def read_bytes(path: str | Path, remedy: str, largest: int) -> bytes:
    """Returns the content of a regular file; InputError as `open_regular`, and for more than `largest` bytes."""
    try:
        with open_regular(path, remedy) as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); {remedy}") from error
    if len(data) > largest:
        raise InputError(f"{path}: is larger than {largest / 2**20:g} MiB; {remedy}")
    return data


def read_json(path: str | Path, remedy: str, largest: int = LARGEST_JSON) -> Any:
    """Returns what a JSON file holds; InputError, which ends in `remedy`, for a file that is none or too large."""
    return parse_json(read_bytes(path, remedy, largest), str(path), remedy)


def parse_json(text: str | bytes, where: str, remedy: str) -> Any:
    """Returns what a JSON text says; InputError, `where` first and `remedy` last, for what is none or nested deeply."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{where}: is nested too deeply; {remedy}") from error
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); {remedy}") from error
    if _is_deep(content):
        raise InputError(f"{where}: is nested too deeply; {remedy}")
    return content


def _is_deep(content: Any) -> bool:
    level = [content] if isinstance(content, (dict, list)) else []
    for _ in range(DEEPEST_JSON):
        inside = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for values in inside for item in values if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def read_table(path: str | Path, columns: Collection[str], remedy: str) -> list[dict[str, str]]:
    """Returns the rows of a table in UTF-8 whose first line names its columns; cells at a line's end may be left out.

    Tabs part the cells, or commas where the first line has no tab. InputError, which ends in `remedy`, for any other
    file, for one without rows or without these columns.
    """
    try:
        text = read_bytes(path, remedy, LARGEST_JSON).decode("utf-8-sig")
        delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); {remedy}") from error
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise InputError(f"{path}: has no rows, or it lacks columns ({', '.join(missing)}); {remedy}")
    longer = next((number for number, row in enumerate(rows, 2) if None in row), None)
    if longer is not None:
        raise InputError(f"{path}: row {longer} has more cells than the first; {remedy}")
    return rows


def read_arrays(path: str | Path, remedy: str, largest: int = 0) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` file: no pickles, and no more than `largest` bytes; 0 = than the file is large.

    InputError, which ends in `remedy`, for any other file.
    """
    with _array_file(path, remedy) as file:
        with zipfile.ZipFile(file) as members:
            if sum(member.file_size for member in members.infolist()) > (largest or os.fstat(file.fileno()).st_size):
                raise ValueError("it claims more than it holds, or may hold")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        other = next((name for name, value in found.items() if not isinstance(value, np.ndarray)), None)
        if other is not None:
            raise ValueError(f"'{other}' is no array")
        return found


def read_array(path: str | Path, remedy: str) -> np.ndarray:
    """Returns the array of a `.npy` file; no pickles. InputError, which ends in `remedy`, for any other file."""
    with _array_file(path, remedy) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


@contextlib.contextmanager
def _array_file(path: str | Path, remedy: str) -> Iterator[BinaryIO]:
    """Opens a regular file, and makes one line of whatever is raised while it is read."""
    try:
        with open_regular(path, remedy) as file:
            yield file
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: needs more memory than there is; {remedy}") from None
    except Exception as error:  # the readers of zip and of arrays raise anything on damage
        raise InputError(f"{path}: cannot be read ({type(error).__name__}: {error}); {remedy}") from error


def cached(
    path: str | Path, key: Mapping[str, Any], make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Returns the arrays of `make`, read from the `.npz` file `path` when an earlier call left them there.

    `key` is everything JSON that decides the arrays. It is stored in the file; a file with another key raises
    InputError that names the difference. A file that is damaged, or that has no key, is made anew.
    """
    path, key = Path(path), as_json(key)
    try:
        content = read_arrays(path, "delete it")
        made = parse_json(str(content.pop(_KEY)), str(path), "delete it")
    except (KeyError, InputError):
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


def sha256(path: str | Path) -> str:
    """Returns the hexadecimal digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    `start` and of `function` are raised here. Workers end with this process, however it ends, and at once when the
    caller is interrupted or stops early.

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
        context = multiprocessing.get_context("spawn")
        stop, alive = context.Pipe(duplex=False)  # workers end when `alive` is closed
        executor = concurrent.futures.ProcessPoolExecutor(
            min(workers, len(waiting)), context, _start_worker, (stop, *self._start)
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
            if not ended:
                alive.close()
            executor.shutdown(wait=ended, cancel_futures=True)
            alive.close()
            stop.close()
        return suspects


_start_fault: Exception | None = None  # why `start` failed in this worker


def _start_worker(stop: multiprocessing.connection.Connection, start: Callable | None, arguments: tuple) -> None:
    global _start_fault
    # A terminal sends Ctrl-C to all of them: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel, stop])
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

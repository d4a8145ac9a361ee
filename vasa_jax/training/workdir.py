"""The folder of a training run: one run holds it, and what its disk refuses is told in one line."""

import contextlib
import errno
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from vasa_jax.data.output_files import check_folder
from vasa_jax.errors import InputError
from vasa_jax.files import lock

HOLDER = "run.lock"  # names the process that writes there
_LARGEST = 1000  # bytes of that file which are read
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
# These say something of the workdir only where they name a path of it.
_PLACES = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT, errno.EINVAL)
# What the system says, in the messages of storage libraries.
_WORDS = ("no space left", "disk quota", "read-only file system", "permission denied", "file too large")
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CHOOSE = "choose another --workdir, or ask for the right to write there"
_REMEDY = "make room and run again: the run goes on from its newest checkpoint; or choose another --workdir"


def check_workdir(workdir: Path) -> None:
    """Raises InputError where `held_workdir` would, before anything is computed; makes nothing."""
    with told(workdir, _CHOOSE):
        _check_kind(workdir)
        try:
            check_folder(Path(os.path.realpath(workdir)) / HOLDER)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(workdir)) from error  # not that of the proof
    if os.path.lexists(workdir / HOLDER):
        with held_workdir(workdir):
            pass


@contextlib.contextmanager
def held_workdir(workdir: Path) -> Iterator[None]:
    """Makes the folder, and holds it until the block ends: no other run may write there.

    The lock is the system's: it ends with its process, however that ends. The file `run.lock` says who holds it.

    Raises:
        InputError: the folder cannot be made or written, at first or in the block; or another process holds it.
    """
    with told(workdir, _CHOOSE):
        _check_kind(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        number = os.open(workdir / HOLDER, _FLAGS, 0o666)
    with open(number, "r+b", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise InputError(f"{workdir / HOLDER}: is no regular file; remove it, or choose another --workdir")
        if not lock(number, without=True):
            raise InputError(
                f"{workdir}: another run writes there ({_holder(file.read(_LARGEST))}); wait until it ends, stop it, "
                "or choose another --workdir"
            )
        with told(workdir):
            me = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
            file.truncate(0)
            file.write(json.dumps(me).encode() + b"\n")
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    file.truncate(0)


@contextlib.contextmanager
def told(workdir: Path, remedy: str = _REMEDY) -> Iterator[None]:
    """Turns what the system says of files in `workdir` into InputError, which ends in `remedy`; other errors pass."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        fault = _fault(error, workdir)
        if not fault:
            raise
        raise InputError(f"{workdir}: cannot be written ({fault}); {remedy}") from error


def _check_kind(workdir: Path) -> None:
    if os.path.lexists(workdir) and not workdir.is_dir():
        raise InputError(f"{workdir}: is no folder; choose another --workdir")


def _fault(error: BaseException | None, workdir: Path) -> str:
    """What the system says of a file in `workdir`, in an error or in those that it comes from; empty without."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno is not None:
            named = error.filename is not None
            known = error.errno in _REFUSED or (named and error.errno in _PLACES)
            if known and (not named or _within(error.filename, workdir)):
                return (error.strerror or str(error)).lower()
        elif isinstance(error, ValueError) and ("null byte" in str(error) or "null character" in str(error)):
            return "its name holds a NUL"
        else:
            found = next((words for words in _WORDS if words in str(error).lower()), "")
            if found:
                return found
        error = error.__cause__ or error.__context__
    return ""


def _within(name: str | bytes | int, folder: Path) -> bool:
    if isinstance(name, int):
        return False
    path, folder = Path(os.path.abspath(os.fsdecode(name))), Path(os.path.abspath(folder))
    return path == folder or folder in path.parents or path in folder.parents


def _holder(text: bytes) -> str:
    """Says which process it is, as far as its file tells: it may be between the lock and the first word."""
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} of host {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it has not said which one it is"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())

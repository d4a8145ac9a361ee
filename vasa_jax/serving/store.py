"""The jobs of the studio, kept in SQLite, each with a folder of its files: they outlive the process."""

import contextlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vasa_jax.errors import InputError

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
FINAL = (DONE, FAILED, CANCELLED)
STARTS = 3  # of a job; one that ends the process that often is given up
ID = re.compile(r"[0-9a-f]{32}")

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, number INTEGER NOT NULL, state TEXT NOT NULL, settings TEXT NOT NULL, starts INTEGER NOT NULL,
  made REAL NOT NULL, ended REAL, error TEXT, result TEXT
)"""


@dataclass(frozen=True)
class Job:
    """One job. settings: as it was asked for; made, ended: seconds since 1970; error: one line; result: what was made.

    number: of its turn, rising.
    """

    id: str
    number: int
    state: str
    settings: dict[str, Any]
    starts: int
    made: float
    ended: float | None
    error: str | None
    result: dict[str, Any] | None


class JobStore:
    """Jobs in `folder`/jobs.sqlite, files of job ID in `folder`/files/ID. Any thread may call."""

    def __init__(self, folder: Path):
        """Puts jobs that were running back into the queue, and removes files of no job.

        InputError for a folder that cannot be written, whose database is damaged, or that another studio uses.
        """
        self._files, self._lock = folder / "files", threading.RLock()
        try:
            self._files.mkdir(parents=True, exist_ok=True)
            self._held = _hold(folder / "lock")
            self._base = sqlite3.connect(folder / "jobs.sqlite", check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            fault = (getattr(error, "strerror", None) or str(error)).lower()
            raise InputError(f"{folder}: cannot hold jobs ({fault}); choose another folder (--workdir)") from None
        lost = f"it ended the server {STARTS} times; try a shorter sound or a smaller picture"
        with self._lock:
            self._run(
                "UPDATE jobs SET state=?, ended=?, error=? WHERE state=? AND starts>=?",
                FAILED, time.time(), lost, RUNNING, STARTS,
            )  # fmt: skip
            self._run("UPDATE jobs SET state=? WHERE state=?", WAITING, RUNNING)
            known = {row[0] for row in self._run("SELECT id FROM jobs")}
        for path in self._files.iterdir():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)
            else:
                for part in path.glob("*.part*"):
                    part.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the database and lets other processes have the folder."""
        with self._lock:
            self._base.close()
            os.close(self._held)

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[Path]:
        """Yields the new folder of a job to come, named by its ID; an exception removes it."""
        path = self._files / secrets.token_hex(16)
        path.mkdir(mode=0o700)
        try:
            yield path
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[Path]:
        """Yields a new folder that is removed at the end, or by the next start if this process is killed."""
        with self.new_folder() as path:
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def folder(self, job: str) -> Path:
        """Returns the folder of a job's files. ValueError for what is no ID."""
        if not ID.fullmatch(job):
            raise ValueError("no job ID")
        return self._files / job

    def add(self, job: str, settings: dict[str, Any], most: int) -> Job | None:
        """Puts a job at the end of the queue; None where `most` jobs wait already."""
        with self._lock:
            if self.count(WAITING) >= most:
                return None
            self._run(
                "INSERT INTO jobs SELECT ?, COALESCE(MAX(number), 0) + 1, ?, ?, 0, ?, NULL, NULL, NULL FROM jobs",
                job, WAITING, json.dumps(settings), time.time(),
            )  # fmt: skip
            return self.get(job)

    def get(self, job: str) -> Job | None:
        """Returns a job, or None."""
        rows = self._run("SELECT * FROM jobs WHERE id=?", job)
        return _job(rows[0]) if rows else None

    def count(self, state: str) -> int:
        """Returns how many jobs are in a state."""
        return self._run("SELECT COUNT(*) FROM jobs WHERE state=?", state)[0][0]

    def ahead(self, job: Job) -> int:
        """Returns how many jobs have their turn before a waiting one."""
        return self._run("SELECT COUNT(*) FROM jobs WHERE state IN (?, ?) AND number<?", WAITING, RUNNING, job.number)[
            0
        ][0]

    def start_next(self) -> Job | None:
        """Returns the job whose turn it is, now running; None where none waits."""
        with self._lock:
            rows = self._run("SELECT id FROM jobs WHERE state=? ORDER BY number LIMIT 1", WAITING)
            if not rows:
                return None
            self._run("UPDATE jobs SET state=?, starts=starts+1 WHERE id=?", RUNNING, rows[0][0])
            return self.get(rows[0][0])

    def put_back(self, job: str) -> None:
        """Gives a running job its turn again: it was stopped through no fault of its own."""
        self._run("UPDATE jobs SET state=?, starts=starts-1 WHERE id=? AND state=?", WAITING, job, RUNNING)

    def end(self, job: str, state: str, error: str | None = None, result: dict[str, Any] | None = None) -> None:
        """Ends a running job."""
        text = None if result is None else json.dumps(result)
        change = "UPDATE jobs SET state=?, ended=?, error=?, result=? WHERE id=?"
        self._run(change, state, time.time(), error, text, job)

    def remove(self, job: str) -> None:
        """Forgets a job and removes its files."""
        folder = self.folder(job)
        self._run("DELETE FROM jobs WHERE id=?", job)
        shutil.rmtree(folder, ignore_errors=True)

    def remove_old(self, seconds: float) -> None:
        """Removes what ended longer ago than that."""
        for (job,) in self._run("SELECT id FROM jobs WHERE ended<?", time.time() - seconds):
            self.remove(job)

    def _run(self, statement: str, *values: Any) -> list[tuple]:
        with self._lock:
            return self._base.execute(statement, values).fetchall()


def _job(row: tuple) -> Job:
    job, number, state, settings, starts, made, ended, error, result = row
    content = None if result is None else json.loads(result)
    return Job(job, number, state, json.loads(settings), starts, made, ended, error, content)


def _hold(path: Path) -> int:
    """Locks a file until it is closed or the process ends; OSError where another process has it."""
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on this system
        return held
    except OSError:
        os.close(held)
        raise OSError(0, "another studio uses it") from None
    return held

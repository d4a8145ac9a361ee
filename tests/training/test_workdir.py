"""The folder of a run: unusable ones and full disks are one line, and one run at a time writes there."""

import contextlib
import errno
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from hostile import refused
from regression import SETTINGS, Regression

from vasa_jax.errors import InputError
from vasa_jax.training.preemption import Preempted
from vasa_jax.training.trainer import VASATrainer
from vasa_jax.training.workdir import HOLDER, check_workdir, held_workdir, told


def hold(path):
    """What can be found out early is, and the check alone makes nothing."""
    refused(lambda: check_workdir(path), "choose")
    with held_workdir(path):
        pass


@contextlib.contextmanager
def no_rights():
    """As a user to whom nothing here belongs."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_can_be_no_workdir_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "file/below", "pipe", "loop", "x" * 300, "nul\0"):
        refused(lambda name=name: hold(tmp_path / name), "another --workdir")
    for path in ("/proc/run", "/dev/null", "/dev/null/run"):
        refused(lambda path=path: hold(tmp_path / path), path, "another --workdir")
    for kind, make in (("pipe", os.mkfifo), ("link", lambda path: path.symlink_to(tmp_path / "file"))):
        folder = tmp_path / f"lock is {kind}"
        folder.mkdir()
        make(folder / HOLDER)
        refused(lambda folder=folder: hold(folder), str(folder))
    assert not (tmp_path / "file").read_bytes()


def test_a_folder_of_somebody_else_is_one_line(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "theirs").mkdir(mode=0o555)
    with no_rights():
        refused(lambda: hold(tmp_path / "theirs"), "theirs", "permission denied")
        refused(lambda: hold(tmp_path / "theirs" / "new"), "permission denied")
    assert not list((tmp_path / "theirs").iterdir())


def test_a_second_run_is_told_who_writes_there_and_a_killed_one_leaves_nothing(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from vasa_jax.training.workdir import held_workdir\n"
        "with held_workdir(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    holder = json.loads((tmp_path / HOLDER).read_text())
    assert holder["pid"] == process.pid
    words = (f"process {process.pid} of host {holder['host']}, since {holder['since']}", "another --workdir")
    refused(lambda: VASATrainer(Regression(), SETTINGS, tmp_path).fit(), *words)
    assert {entry.name for entry in tmp_path.iterdir()} == {HOLDER}
    (tmp_path / HOLDER).write_bytes(b"[" * 5000)  # what it says is for people: the lock is the system's
    refused(lambda: hold(tmp_path), "it has not said which one it is")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with held_workdir(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
        refused(lambda: hold(tmp_path), f"process {os.getpid()}")
    assert (tmp_path / HOLDER).read_text() == ""


IN_THE_WAY = {
    "checkpoints": (os.mkfifo, pathlib.Path.touch), "events": (os.mkfifo, pathlib.Path.touch),
    "metrics.jsonl": (os.mkfifo, os.mkdir), "parameters.txt": (os.mkdir,),
}  # fmt: skip


@pytest.mark.parametrize(("name", "make"), [(name, make) for name, makes in IN_THE_WAY.items() for make in makes])
def test_what_stands_in_the_place_of_a_runs_files_is_one_line(tmp_path, name, make):
    make(tmp_path / name)
    refused(VASATrainer(Regression(), SETTINGS, tmp_path).fit, str(tmp_path), "another --workdir")


@contextlib.contextmanager
def largest_file(size):
    """Makes this process's files end at `size` bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_run_in_one_line_and_loses_nothing(tmp_path, caplog):
    whole = VASATrainer(Regression(), SETTINGS, tmp_path / "whole").fit()
    # Each of the sizes stops another writer: the holder, texts, logs and checkpoints, the export.
    for size in (0, 90, 700):
        trainer = VASATrainer(Regression(), SETTINGS, tmp_path / str(size))
        with largest_file(size):
            refused(trainer.fit, str(tmp_path / str(size)), "cannot be written (file too large)")
        assert not list((tmp_path / str(size)).rglob("*.part"))
    assert not [record for record in caplog.records if record.exc_info]
    end = VASATrainer(Regression(), SETTINGS, tmp_path / "700").fit()
    jax.tree.map(np.testing.assert_array_equal, whole.params, end.params)
    lines = [json.loads(line)["step"] for line in (tmp_path / "700" / "metrics.jsonl").read_text().splitlines()]
    assert lines == [2, 4, 6, 6, 8, 10, 12, 12]


WRITER = """
import resource, sys
import jax
from vasa_jax.training.checkpoint import CheckpointManager

manager = CheckpointManager(sys.argv[1])
state = {str(i): jax.random.normal(jax.random.key(i), (64, 128)) for i in range(40)}
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    manager.save(1, state, {}, {})
    manager.close()
except Exception as error:
    print("raised", "too large" in str(error))
"""


def test_what_orbax_writes_to_the_terminal_of_a_full_disk_is_kept_away(tmp_path):
    """Three tracebacks, besides the error that the run tells of."""
    done = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("raised True\n", "", 0)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device [OS error 28]"),
        RuntimeError("the writer failed"),
    ],
)
def test_what_storage_libraries_say_of_a_disk_is_told(tmp_path, error):
    if isinstance(error, RuntimeError):
        error.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")

    def fail():
        with told(tmp_path):
            raise error

    refused(fail, str(tmp_path), "disk quota" if error.__cause__ else "no space left")


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "/data/x"), OSError(2, "No such file"), KeyError(1)]
)
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)) as caught, told(tmp_path):
        raise error
    assert caught.value is error and not isinstance(error, InputError)


class Early(Regression):
    """SIGTERM comes while the run's data is made."""

    def data(self):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the start went on")


def test_sigterm_before_the_loop_is_a_preemption(tmp_path):
    with pytest.raises(Preempted):
        VASATrainer(Early(), SETTINGS, tmp_path).fit()
    with held_workdir(tmp_path):
        assert not (tmp_path / "metrics.jsonl").exists()

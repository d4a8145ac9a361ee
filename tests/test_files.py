"""Files are whole or absent, caches refuse what was made otherwise, and a lost worker costs no other job."""

import dataclasses
import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from vasa_jax.errors import InputError
from vasa_jax.files import (
    cached,
    fingerprint,
    open_regular,
    read_arrays,
    read_bytes,
    read_json,
    read_table,
    replacing,
    run_in_processes,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"a\tb\n1\t2\n", [{"a": "1", "b": "2"}]),
        (b"\xef\xbb\xbfa,b\r\n1,\"2,\n3\"\r\n", [{"a": "1", "b": "2,\n3"}]),
        (b"a\tb\tc\n1\n", [{"a": "1", "b": "", "c": ""}]),
    ],
)
def test_tables_are_rows_of_text(tmp_path, content, rows):
    (tmp_path / "a.tsv").write_bytes(content)
    assert read_table(tmp_path / "a.tsv", ("a", "b"), "mend it") == rows


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no rows"),
        (b"a\tb\n", "no rows"),
        (b"a\tc\n1\t2\n", r"lacks columns \(b\)"),
        (b"a\tb\n1\t2\n1\t2\t3\n", "row 3 has more cells"),
        (b"a\tb\n\xff\t2\n", "cannot be read"),
        ("a\tb\n1\t2\n".encode("utf-16"), "cannot be read"),
        (b'a\tb\n1\t"' + b"x" * 200_000 + b'"\n', "cannot be read"),
        (None, "is a FIFO"),
        (..., "does not exist|no such file"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, content, fault):
    path = tmp_path / "a.tsv"
    if content is None:
        os.mkfifo(path)
    elif content is not ...:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.tsv: .*({fault}).*; mend it") as caught:
        read_table(path, ("a", "b"), "mend it")
    assert "\n" not in str(caught.value)


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    write_text(path, "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), replacing(path) as part:
            part.write_text("half")
            raise error
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n "a": 1\n}\n'


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/a\.txt: cannot be written \((file exists|not a directory)\)"):
        write_text(tmp_path / "file" / "a.txt", "content")
    full = r"a\.txt: cannot be written \(no space left on device\); free some space"
    with pytest.raises(InputError, match=full), replacing(tmp_path / "a.txt") as part:
        part.touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "a.txt") as part:
        (tmp_path / "elsewhere").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_has_the_mode_that_is_asked_for_before_its_content(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    path.chmod(0o640)
    write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640  # passed on
    for _ in range(2):
        with replacing(path, mode=0o600) as part:
            assert stat.S_IMODE(part.stat().st_mode) == 0o600
            part.write_text("secret")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        with replacing(path) as second:
            first.write_text("first")
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_names_as_long_as_the_file_system_allows(tmp_path):
    for name in ("a" * 251 + ".txt", "ä" * 125 + ".txt"):
        write_text(tmp_path / name, "content")
        assert (tmp_path / name).read_text() == "content"


def test_a_cache_is_made_once_and_refuses_another_key(tmp_path):
    path, made = tmp_path / "a.npz", []

    def values(seed):
        def make():
            made.append(seed)
            return {"x": np.arange(3, dtype=np.float16) + seed, "y": np.zeros((2, 0))}

        return cached(path, {"seed": seed, "sizes": (2, 3)}, make)

    first, second = values(0), values(0)
    assert made == [0]
    for name in ("x", "y"):
        np.testing.assert_array_equal(first[name], second[name])
        assert first[name].dtype == second[name].dtype
    assert first.keys() == second.keys()
    with pytest.raises(InputError, match="seed 0, now 1"):
        values(1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(values(0)["x"], first["x"])
    np.savez(path, x=np.zeros(3))  # says not what it was made from
    np.testing.assert_array_equal(values(0)["x"], first["x"])
    assert made == [0, 0, 0]


@dataclasses.dataclass
class Settings:
    size: int = 1
    name: str = "a"


def test_fingerprints_tell_values_apart():
    params = {"b": np.ones((2, 3), np.float32), "a": {"c": np.arange(4.0)}}
    plain = zlib.crc32(params["b"], zlib.crc32(params["a"]["c"]))
    assert fingerprint(params) == plain == fingerprint(dict(reversed(params.items())))
    different = [
        params, {**params, "b": params["b"] + 1}, (params, 1), (params, 2), (params, "1"), Settings(), Settings(2),
        Settings(name="b"), {"size": 1, "names": "a"}, [1, 12], [11, 2], None,
    ]  # fmt: skip
    assert len({fingerprint(value) for value in different}) == len(different)


def square(job):
    return job**2


def kills_itself(job):
    """The square; number 5 kills its process, others take a while."""
    if job == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return job**2


def kills_itself_once(job):
    number, folder = job
    marker = Path(folder) / "died"
    if number == 5 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def counts_its_process(job):
    """Notes the process that runs each job; number 0 kills its own."""
    number, folder = job
    with open(Path(folder) / str(number), "a") as file:
        file.write(f"{os.getpid()}\n")
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return number


def fails(job):
    raise InputError(f"job {job}: bad; mend it")


@pytest.mark.parametrize("workers", [0, 2])
def test_every_job_has_its_result(workers):
    found = dict(run_in_processes(square, range(9), workers))
    assert found == {n: n**2 for n in range(9)}
    assert list(run_in_processes(square, [], workers)) == []
    with pytest.raises(InputError, match="job 3: bad"):
        list(run_in_processes(fails, [3], workers))
    with pytest.raises(InputError, match="job 7: bad"):
        list(run_in_processes(square, [3], workers, fails, (7,)))


def test_a_lost_worker_costs_no_job(tmp_path):
    jobs = [(n, str(tmp_path)) for n in range(8)]
    assert dict(run_in_processes(kills_itself_once, jobs, 2)) == {n: n**2 for n in range(8)}
    assert (tmp_path / "died").exists()


def test_a_job_that_always_kills_its_process_is_named():
    found = dict(run_in_processes(kills_itself, range(8), 2, lost=lambda job: f"lost {job}"))
    assert found == {n: n**2 for n in range(8)} | {5: "lost 5"}
    with pytest.raises(InputError, match="job 1 of 1: its process was killed twice"):
        list(run_in_processes(kills_itself, [5], 2))


def test_one_bad_job_does_not_make_the_rest_serial(tmp_path):
    """Only jobs that were in flight run twice, and the rest shares the processes of one new pool."""
    jobs = [(n, str(tmp_path)) for n in range(30)]
    assert len(dict(run_in_processes(counts_its_process, jobs, 2, lost=lambda job: None))) == 30
    runs = {n: (tmp_path / str(n)).read_text().split() for n in range(30)}
    assert len(runs[0]) == 2
    assert sum(len(found) - 1 for number, found in runs.items() if number) <= 1  # one other worker, one job in flight
    processes = {found[-1] for number, found in runs.items() if number > 1}
    assert len(processes) <= 4, "a process per job"


def sleeps(job):
    Path(job).write_text(str(os.getpid()))
    time.sleep(120)


def test_workers_die_with_their_parent(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom test_files import sleeps\nfrom vasa_jax.files import run_in_processes\n"
        f"if __name__ == '__main__':\n    list(run_in_processes(sleeps, [{str(tmp_path / 'pid')!r}], 1))\n"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "helpers")])
    parent = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.DEVNULL
    )
    limit = time.time() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.time() < limit and parent.poll() is None
        time.sleep(0.05)
    worker = int((tmp_path / "pid").read_text())
    os.kill(worker, 0)
    parent.kill()
    parent.wait()
    while time.time() < limit:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return  # dead, waiting for whoever adopted it
        time.sleep(0.05)
    raise AssertionError("the worker outlived its parent")


def interrupted(jobs, folder):
    """What the parent of a test does: two workers sleep until it is interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts without
    signal.signal(signal.SIGTERM, lambda number, frame: (_ for _ in ()).throw(KeyboardInterrupt))
    list(run_in_processes(sleeps, [str(Path(folder) / str(job)) for job in range(jobs)], 2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_end_when_their_parent_is_interrupted(tmp_path, number):
    """The parent ends at once, though its workers sleep for minutes, and none is left."""
    script = tmp_path / "run.py"
    script.write_text(
        f"from test_files import interrupted\nif __name__ == '__main__':\n    interrupted(2, {str(tmp_path)!r})\n"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "helpers")])
    parent = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.DEVNULL
    )
    limit = time.time() + 60
    files = [tmp_path / "0", tmp_path / "1"]
    while not all(path.exists() and path.read_text() for path in files):
        assert time.time() < limit and parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(number)
    parent.wait(30)
    workers = [int(path.read_text()) for path in files]
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        states = [stat.read_text() for w in workers if (stat := Path(f"/proc/{w}/stat")).exists()]
        if all(state.rpartition(")")[2].split()[0] == "Z" for state in states):
            break
        assert time.time() < limit, "a worker outlived its parent"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"), (b"{", "not JSON"), (b"\xff\xfe", "not JSON"), (b"1" * 5000, "not JSON"),
        (b"[" * 100_000, "nested too deeply"), (b"[" * 65 + b"]" * 65, "nested too deeply"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested too deeply"), (b" " * 2000, "larger than"),
    ],
)  # fmt: skip
def test_json_that_is_none_is_one_line(tmp_path, content, words):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_json(path, "mend it", 200_000 if len(content) != 2000 else 1000)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).endswith("; mend it")


def test_json_is_read_as_it_is(tmp_path):
    path = tmp_path / "x.json"
    for text, value in (('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}), ("[" * 64 + "]" * 64, None), ("5", 5)):
        path.write_text(text)
        assert read_json(path, "mend it") == (json.loads(text) if value is None else value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, words in (
        ("fifo", "is a FIFO"), ("folder", "is a folder"), ("loop", "cannot be read"), ("zero", "is a device"),
        ("missing", "cannot be read"), ("a" * 300, "cannot be read"), ("x\0y", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            open_regular(str(tmp_path / name), "mend it")
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(path)
    assert read_bytes(tmp_path / "link", "mend it", 3) == b"abc"


def damaged_arrays(folder):
    """Files that are no arrays as `np.savez` writes them, by name."""
    np.savez(folder / "good.npz", a=np.arange(3.0))
    good = (folder / "good.npz").read_bytes()
    files = {"cut": good[:-30], "empty": b"", "text": b"hello", "pickle": b"\x80\x04N."}
    out = io.BytesIO()
    np.savez(out, a=np.array([{}], object))
    files["objects"] = out.getvalue()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as members:
        members.writestr("a.txt", "no array")
    files["member"] = out.getvalue()
    for name, shape, compression in (("claim", 2**60, 0), ("bomb", 2**27, zipfile.ZIP_DEFLATED)):
        out, head = io.BytesIO(), f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape},), }}".encode()
        with zipfile.ZipFile(out, "w", compression) as members:
            size = 2**20 if compression else 8
            members.writestr("a.npy", b"\x93NUMPY\1\0" + bytes([len(head) + 1, 0]) + head + b"\n" + bytes(size))
        files[name] = out.getvalue()
    return files


def test_only_whole_arrays_are_read(tmp_path):
    for name, data in damaged_arrays(tmp_path).items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"; make it anew$") as caught:
            read_arrays(path, "make it anew")
        assert str(caught.value).startswith(f"{path}: ")
        np.testing.assert_array_equal(cached(path, {}, lambda: {"b": np.ones(2)})["b"], 1.0)
    np.testing.assert_array_equal(read_arrays(tmp_path / "good.npz", "")["a"], np.arange(3.0))

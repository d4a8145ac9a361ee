"""Jobs of the studio in SQLite: their turns, their ends, and what a restart finds."""

import time

import pytest

from vasa_jax.errors import InputError
from vasa_jax.serving.store import DONE, FAILED, RUNNING, STARTS, WAITING, JobStore


def add(store, most=10):
    with store.new_folder() as folder:
        (folder / "portrait").write_bytes(b"picture")
        assert store.add(folder.name, {"crop": ""}, most)
        return folder.name


def test_turns(tmp_path):
    store = JobStore(tmp_path)
    first, second = add(store), add(store)
    assert store.ahead(store.get(second)) == 1
    assert [store.start_next().id, store.start_next().id, store.start_next()] == [first, second, None]
    assert store.get(first).state == RUNNING and store.ahead(store.get(second)) == 1
    store.end(first, DONE, result={"frames": 3})
    assert store.get(first).result == {"frames": 3} and store.ahead(store.get(second)) == 0
    assert add(store, most=1) and store.add("0" * 32, {}, 1) is None  # one waits: full


def test_a_restart_keeps_jobs_and_removes_files_of_none(tmp_path):
    store = JobStore(tmp_path)
    running, waiting = add(store), add(store)
    store.start_next()
    (store.folder(running) / "result.mp4.0123.part").write_bytes(b"half")
    (tmp_path / "files" / "stray").mkdir()
    store.close()
    store = JobStore(tmp_path)
    assert [store.get(job).state for job in (running, waiting)] == [WAITING, WAITING]
    assert store.start_next().id == running  # it keeps its turn
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == sorted([running, waiting])
    assert [path.name for path in store.folder(running).iterdir()] == ["portrait"]


def test_a_job_that_ends_the_process_again_and_again_is_given_up(tmp_path):
    job = None
    for _ in range(STARTS):
        store = JobStore(tmp_path)
        job = job or add(store)
        assert store.start_next().id == job
        store.close()
    store = JobStore(tmp_path)
    assert store.get(job).state == FAILED and "ended the server" in store.get(job).error
    assert store.start_next() is None


def test_a_stop_does_not_count_as_a_failure(tmp_path):
    store = JobStore(tmp_path)
    job = add(store)
    for _ in range(STARTS + 1):
        assert store.start_next().id == job
        store.put_back(job)
    assert store.get(job).starts == 0


def test_removal(tmp_path):
    store = JobStore(tmp_path)
    old, fresh = add(store), add(store)
    store.start_next()
    store.end(old, FAILED, "fault")
    store.remove_old(60)
    assert store.get(old)
    time.sleep(0.02)
    store.remove_old(0.01)
    assert store.get(old) is None and not store.folder(old).exists() and store.get(fresh)
    with store.temporary_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_folders(tmp_path):
    store = JobStore(tmp_path)
    for name in ("../x", "", "0" * 31, "0" * 31 + "/", "0" * 32 + "\n", "Z" * 32):
        with pytest.raises(ValueError):
            store.folder(name)
    with pytest.raises(InputError, match="another studio uses it"):
        JobStore(tmp_path)
    store.close()
    (tmp_path / "jobs.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="cannot hold jobs"):
        JobStore(tmp_path)
    with pytest.raises(InputError, match="cannot hold jobs"):
        JobStore(tmp_path / "jobs.sqlite")

"""Clips made over several processes survive the death of a worker."""

import os
import signal
from pathlib import Path

import pytest

from vasa_jax.corpus.clip_set import _make_in_processes
from vasa_jax.errors import InputError


def dies_once(job):
    """The square of a number; the first process that is asked for 5 kills itself."""
    number, folder = job
    if number == 5 and not (marker := Path(folder) / "died").exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def always_dies(job):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_lost_worker_costs_no_clip(tmp_path):
    assert _make_in_processes(dies_once, [(n, str(tmp_path)) for n in range(8)], 2) == [n**2 for n in range(8)]
    assert (tmp_path / "died").exists()


def test_workers_that_always_die_are_named():
    with pytest.raises(InputError, match=r"config\.corpus\.workers"):
        _make_in_processes(always_dies, [0], 2)

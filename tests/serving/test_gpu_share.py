"""The GPU's share, read by a program on the PATH and by a library that stand for NVIDIA's."""

import os
import sys
import time
import types

import pytest

from vasa_jax.serving import gpu_share
from vasa_jax.serving.gpu_share import GpuShare
from vasa_jax.serving.metrics import Metrics


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_share, "PERIOD", 0.0)


def program(folder, lines):
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\necho \"$@\" > {folder}/asked\n{lines}\n")
    path.chmod(0o755)


def read(share, seconds=5):
    """What is known once the thread has ended."""
    share.latest()
    share._thread.join(seconds)
    return share._share


@pytest.mark.parametrize(
    ("lines", "known"), [("echo 37", 0.37), ("echo 100", 1.0), ("echo '[N/A]'", None), ("echo 37; exit 9", None)]
)
def test_the_program_is_asked(tmp_path, lines, known):
    program(tmp_path, lines)
    share = GpuShare()
    assert read(share) == known
    assert (tmp_path / "asked").read_text().split()[:2] == ["--id=0", "--query-gpu=utilization.gpu"]
    (tmp_path / "asked").unlink()
    assert read(share) == known and (tmp_path / "asked").exists() == (known is not None)  # failed once: no more


def test_the_device_that_jax_sees(tmp_path, monkeypatch):
    program(tmp_path, "echo 5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert read(GpuShare()) == 0.05 and (tmp_path / "asked").read_text().startswith("--id=3 ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert read(GpuShare()) is None


def test_nothing_where_there_is_no_gpu():
    metrics = Metrics()
    assert metrics.usage()["gpu"] is None and b"vasa_gpu_busy{" not in metrics.text()
    assert read(metrics._gpu_share) is None


def test_nobody_waits_for_a_slow_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    program(tmp_path, "sleep 1; echo 37")
    metrics, start = Metrics(), time.monotonic()
    for _ in range(20):
        assert metrics.usage()["gpu"] is None and b"vasa_gpu_busy{" not in metrics.text()
    assert time.monotonic() - start < 0.9
    metrics._gpu_share._thread.join(5)
    assert metrics.usage()["gpu"] == 0.37 and b'vasa_gpu_busy{device="0"} 0.37' in metrics.text()


def test_the_library_comes_first(tmp_path, monkeypatch):
    program(tmp_path, "echo 99")
    library = types.SimpleNamespace(
        NVMLError=RuntimeError, nvmlInit=lambda: None, nvmlDeviceGetHandleByIndex=lambda index: ("index", index),
        nvmlDeviceGetHandleByUUID=lambda name: ("name", name),
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu={"index": 40, "name": 60}[handle[0]]),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert read(GpuShare()) == 0.4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1234")
    assert read(GpuShare()) == 0.6 and not (tmp_path / "asked").exists()

"""How busy the GPU is, by NVIDIA's library where `nvidia-ml-py` is installed, else by the program nvidia-smi.

It is the share of the latest moments in which anything ran on it, whoever's it was: neither knows it of one process.
"""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable

PERIOD = 2.0  # seconds between readings
SLOWEST = 10.0  # seconds that the program may take; where a driver hangs, it never ends


class GpuShare:
    """Reads in a thread of its own: nobody waits for a driver."""

    def __init__(self):
        self._lock, self._read_at = threading.Lock(), -PERIOD
        self._thread: threading.Thread | None = None
        self._read: Callable[[], float | None] | None = None
        self._able, self._share = True, None

    def latest(self) -> float | None:
        """Returns the share in [0, 1] that was read last, None where there is no GPU or nothing has been read yet."""
        with self._lock:
            now = time.monotonic()
            busy = self._thread is not None and self._thread.is_alive()
            if self._able and not busy and now - self._read_at >= PERIOD:
                self._read_at = now
                self._thread = threading.Thread(target=self._work, name="gpu share", daemon=True)
                self._thread.start()
            return self._share

    def _work(self) -> None:
        self._read = self._read or reader()
        self._share = self._read() if self._read else None
        self._able = self._share is not None  # what cannot be read once is not asked again and again


def reader() -> Callable[[], float | None] | None:
    """Returns what reads the share of the GPU that JAX uses here; None where there is no way to."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()  # JAX's first
    if not visible or visible.startswith("-"):
        return None
    return _by_library(visible) or _by_program(visible)


def _by_library(device: str) -> Callable[[], float | None] | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        if device.isdigit():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(device))
        else:
            handle = pynvml.nvmlDeviceGetHandleByUUID(device)
    except Exception:  # it is not installed, or finds no driver: it has a class of its own for every fault
        return None

    def read() -> float | None:
        try:
            return pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        except pynvml.NVMLError:
            return None

    return read


def _by_program(device: str) -> Callable[[], float | None] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None

    def read() -> float | None:
        question = [program, f"--id={device}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        try:
            answer = subprocess.run(question, stdin=subprocess.DEVNULL, capture_output=True, timeout=SLOWEST)
            return float(answer.stdout) / 100 if answer.returncode == 0 else None
        except (OSError, subprocess.TimeoutExpired, ValueError):  # ValueError: [N/A], as for a part of a GPU
            return None

    return read

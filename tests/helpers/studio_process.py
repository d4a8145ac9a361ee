"""A studio as a process of its own, and Chromium to look at it."""

import contextlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)


@contextlib.contextmanager
def studio_process(folder: Path, *arguments: str, seconds: float = 120, environment: dict | None = None):
    """Yields (address, process) of `configs/studio.py` with more arguments, jobs in `folder`; ends it by SIGTERM.

    What it prints is in `process.output`, a list of lines.
    """
    command = [sys.executable, "-m", "vasa_jax.main", "--config", "configs/studio.py", f"--workdir={folder}"]
    process = subprocess.Popen(
        [*command, "--config.studio.port=0", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    lines, process.output = queue.Queue(), []

    def listen():
        for line in process.stdout:
            process.output.append(line)
            lines.put(line)

    threading.Thread(target=listen, daemon=True).start()
    said, until = "", time.monotonic() + seconds
    try:
        while not (found := re.search(r"open (http://\S+)", said)):
            try:
                said += lines.get(timeout=max(until - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(f"the studio did not start: {said}") from None
        yield found.group(1), process
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
        process.kill()


@contextlib.contextmanager
def chromium(*flags: str):
    """Yields a headless browser of playwright's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield browser
        browser.close()

"""The commands of the README, run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from vasa_jax.data.video_files import read_video
from vasa_jax.generation.job import DEMO

PROJECT = Path(__file__).parents[1]
INSTALL = "pip install -r requirements.txt && "
SHOWN = re.findall(r"(?m)^    (.*vasa_jax\.main .*)$", (PROJECT / "README.md").read_text())
COMMANDS = [line.removeprefix(INSTALL) for line in SHOWN]
FILES = {"me.jpg": "image", "hello.wav": "audio"}  # of the reader


def test_there_are_two():
    assert len(COMMANDS) == 2 and all(command.startswith("python -m ") for command in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_command_makes_its_video(command, tmp_path):
    for name in ("vasa_jax", "configs"):
        (tmp_path / name).symlink_to(PROJECT / name)
    for name, part in FILES.items():
        shutil.copy(DEMO[part], tmp_path / name)
    environment = {**os.environ, "XLA_FLAGS": "", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    (path,) = [*tmp_path.glob("*.mp4"), *tmp_path.glob("outputs/*.mp4")]
    frames = np.stack(list(read_video(path).frames))
    assert frames.shape[1:] == (256, 256, 3) and len(frames) > 50 and np.ptp(frames.astype(int), 0).max() > 20

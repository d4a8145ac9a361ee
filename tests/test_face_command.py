"""Stage 1 through the command line, in a process of its own, from shards on eight devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from quick_compilation import QUICK_FLAGS
from tiny_face import SIZE
from tiny_records import write_tiny

from vasa_jax.data.video_files import read_video
from vasa_jax.weights.safetensors_io import load_params

TESTS = Path(__file__).parent


def run(arguments, cache, devices):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(TESTS.parent),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "XLA_FLAGS": f"{QUICK_FLAGS} --xla_force_host_platform_device_count={devices}",
    }
    result = subprocess.run(
        [sys.executable, str(TESTS / "helpers" / "face_command.py"), *map(str, arguments)],
        env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout


@pytest.mark.slow
def test_vasas_recipe_trains_from_tfrecord_shards_on_eight_devices(tmp_path):
    write_tiny(tmp_path / "data", clips=24, shards=2, formats=("tfrecord",), unlabelled=("pose", "matte"))
    write_tiny(tmp_path / "data", clips=4, shards=1, split="heldout", formats=("tfrecord",))
    workdir = tmp_path / "run"
    output = run(
        [
            "--config=configs/train_face_vasa.py", f"--workdir={workdir}", "--config.face.variant=face_least",
            f"--config.corpus.shards={tmp_path / 'data'}", "--config.face.transfer_from=2",
            "--config.train.batch_size=8", "--config.train.warmup_steps=0",
            "--config.train.log_every=1", "--config.train.steps=3",
        ],
        tmp_path, devices=8,
    )  # fmt: skip
    assert "train_face: 8 x cpu" in output
    for name in ("perceptual", "cross_identity"):
        assert f"config.face.{name}: off, no judge for it in config.face.loss_networks ('')" in output
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == [1, 2, 3]
    assert all(np.isfinite(list(line.values())).all() for line in trained)
    assert [line["weight/pairwise_transfer"] for line in trained] == [0, 0, 1] and trained[2]["pairwise_transfer"] > 0
    assert not any("cross_identity" in line or "perceptual" in line for line in trained)
    figures = next(line for line in lines if "eval/psnr_self" in line)
    assert "eval/psnr_cross" not in figures
    (grid,) = (workdir / "pictures").glob("source_driver_reconstruction_cross_truth_error-0000003.png")
    assert Image.open(grid).size == (4 * SIZE, 6 * SIZE)
    (video,) = (workdir / "videos").glob("motions_in_turn-0000003.mp4")
    assert sum(1 for _ in read_video(video).frames) == 18
    params, metadata = load_params(workdir / "export" / "face.safetensors")
    assert metadata["step"] == 3 and metadata["recipe"] == "self" and params.keys() == {"encoder", "decoder"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))

"""Several devices and several processes compute what one does, see different data and resume bit for bit."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from quick_compilation import QUICK_FLAGS
from tiny_extraction import extraction_config, fake_make, fake_motion

from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.training.tasks import motion_data
from vasa_jax.training.tasks.motion_data import MotionExtractor
from vasa_jax.training.tasks.stored_motion import StoredMotion, extract_motion
from vasa_jax.weights.safetensors_io import load_params

pytestmark = pytest.mark.long
WORKER = Path(__file__).parents[1] / "helpers" / "several_devices.py"


def start(arguments, devices=1, **variables):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(WORKER.parents[2]), **variables}
    environment["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir  # what one compiles, the next reads
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    environment["XLA_FLAGS"] = f"{QUICK_FLAGS} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, str(WORKER), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(processes, code=0):
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), "\n".join(outputs)[-4000:]
    return outputs


def two_processes(*arguments, code=0, devices=1):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return finish([start(arguments, devices, **together, JAX_PROCESS_ID=str(i)) for i in range(2)], code)


def flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def test_eight_devices_agree_with_one(tmp_path):
    finish([start(["agree", tmp_path / "one"])])
    finish([start(["agree", tmp_path / "eight"], devices=8)])
    for layout in ("replicated", "split", "accumulated", "ruled", "capp"):
        other_order = layout in ("accumulated", "capp")
        alike = layout if other_order else "replicated"
        one, _ = load_params(tmp_path / "one" / f"{alike}.safetensors")
        eight, _ = load_params(tmp_path / "eight" / f"{layout}.safetensors")
        for (name, a), (_, b) in zip(flat(one), flat(eight), strict=True):
            if name.endswith("k_proj/bias"):
                continue  # attention does not see it: its gradient is rounding alone
            # Sums in another order, which Adam enlarges where a gradient is next to nothing.
            limit = 5e-5 if other_order else 5e-6
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=limit, err_msg=f"{layout}: {name}")
    with np.load(tmp_path / "eight" / "heads-0.npz") as file:
        heads = [set(shard.tolist()) for shard in file["heads"]]
    assert len(heads) == 8 and all(heads)
    assert len(set().union(*heads)) == sum(map(len, heads))


def test_examples_stay_on_their_devices(tmp_path):
    """Devices exchange gradients, and the codes that the contrast of motions compares; no picture and no volume."""
    # What is sent is decided before machine code is made, and that is all that is read here.
    finish([start(["traffic", tmp_path], 8)])
    sent = json.loads((tmp_path / "traffic.json").read_text())
    parameters = sent.pop("parameters")
    codes = 4 * 32 * 128
    assert sent["all-to-all"] == sent["collective-permute"] == 0
    assert parameters <= sent["all-reduce"] <= parameters + 3 * codes
    assert codes <= sent["all-gather"] <= 2 * codes


def test_two_processes_resume_bit_for_bit_on_their_own_data(tmp_path):
    two_processes("fit", tmp_path / "whole")
    # SIGTERM reaches the second process only; both save the same step and leave.
    two_processes("fit", tmp_path / "parts", 2, code=75)
    saved = [int(path.name) for path in (tmp_path / "parts" / "run" / "checkpoints").iterdir() if path.is_dir()]
    assert 3 <= max(saved) < 8
    two_processes("fit", tmp_path / "parts")
    whole, metadata = load_params(tmp_path / "whole" / "state.safetensors")
    parts, _ = load_params(tmp_path / "parts" / "state.safetensors")
    assert metadata == {"step": 8}
    for (name, a), (_, b) in zip(flat(whole), flat(parts), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    drawn = [np.load(tmp_path / "whole" / f"heads-{i}.npz") for i in range(2)]
    for kind in ("heads", "clips"):
        first, second = (set(part[kind].ravel().tolist()) for part in drawn)
        assert first and second and not first & second


def test_two_processes_of_two_devices_write_one_motion_set(tmp_path, monkeypatch):
    """The shards of both, and the numbers of a single device."""
    monkeypatch.setattr(ClipSet, "make", fake_make)
    monkeypatch.setattr(MotionExtractor, "_motion", fake_motion)
    monkeypatch.setattr(motion_data, "HELD_OUT_CLIPS", 2)
    extract_motion(extraction_config(tmp_path / "parts"), tmp_path / "one" / "set")
    outputs = two_processes("extract", tmp_path / "two", devices=2)
    written = [line.split(": ")[0] for output in outputs for line in output.splitlines() if line.endswith(": written")]
    assert len(written) == len(set(written)) == 4, "three shards of training clips, one held out"
    assert all(": written" in output for output in outputs)
    one, two = (StoredMotion(tmp_path / name / "set") for name in ("one", "two"))
    for split in ("train", "heldout"):
        a, b = one(split), two(split)
        np.testing.assert_array_equal(a.motion, b.motion)
        np.testing.assert_array_equal(a.audio, b.audio)
    for name, value in one.statistics(None).items():
        np.testing.assert_array_equal(value, two.statistics(None)[name])

"""The launch scripts parse, say what they would do, and start again only after a preemption."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parent.parent / "launch"
SCRIPTS = [*sorted(LAUNCH.glob("*.sh")), LAUNCH.parent / ".ci" / "run"]
JOB = ["--config", "configs/train_face.py", "--workdir", "runs/a b"]


def call(script, *arguments, **variables):
    environment = {**os.environ, **variables}
    return subprocess.run(
        [str(LAUNCH / script), *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert checker, "requirements-dev.txt brings shellcheck"
    subprocess.run([checker, str(script)], check=True)


def test_local_processes_get_their_place_and_devices():
    lines = call("local.sh", "-n", "2", *JOB, GPUS_PER_PROCESS="2").stdout.splitlines()
    assert len(lines) == 2
    for index, line in enumerate(lines):
        assert f"JAX_PROCESS_ID={index}" in line and "JAX_NUM_PROCESSES=2" in line
        assert f"CUDA_VISIBLE_DEVICES={2 * index},{2 * index + 1} " in line
        assert line.endswith("--config.train.distributed=True")


@pytest.mark.parametrize(("codes", "expected"), [("0 0", 0), ("75 75", 75), ("0 3", 3)])
def test_local_run_ends_with_the_first_bad_code(tmp_path, codes, expected):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nset -- {codes}\nshift "$JAX_PROCESS_ID"\nexit "$1"\n')
    program.chmod(0o755)
    assert call("local.sh", "2", *JOB, PYTHON=str(program)).returncode == expected


def test_slurm_prints_its_command():
    result = call("slurm.sh", "-n", *JOB)
    assert result.stdout.startswith("srun ") and "--config.train.distributed=True" in result.stdout


@pytest.mark.parametrize("step", ["create", "setup", "run", "watch", "fetch", "delete"])
def test_tpu_steps_print_their_commands(step):
    arguments = {"run": JOB, "watch": JOB, "fetch": ["results"]}.get(step, [])
    result = call("tpu.sh", "-n", step, *arguments, NAME="slice", ZONE="here", WORKDIR="bucket/runs", BUCKET="mine")
    assert result.returncode == 0, result.stderr
    assert "slice" in result.stdout and "--zone here" in result.stdout
    if arguments == JOB:
        assert r"runs/a\\ b" in result.stdout and "--config.train.distributed=True" in result.stdout


def fake_gcloud(folder, codes):
    """A gcloud whose n-th ssh reports the n-th code from both workers; the slice is always ready."""
    program = folder / "gcloud"
    program.write_text(
        f"""#!/bin/bash
echo "$*" >> {folder}/calls
codes=({" ".join(map(str, codes))})
case "$*" in
  *describe*) echo READY ;;
  *main*)
    code=${{codes[$(grep -c vasa_jax.main {folder}/calls) - 1]}}
    echo "exit code $code"
    echo "exit code 0"
    exit 1 ;;
esac
"""
    )
    packer = folder / "git"
    packer.write_text("#!/bin/bash\n")  # packing the repository takes seconds
    for file in (program, packer):
        file.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "RETRY_SECONDS": "0"}


@pytest.mark.parametrize(
    ("codes", "expected", "runs"), [([75, 75, 3], 3, 3), ([2, 0], 2, 1), ([3, 0], 3, 1), ([75] * 3, 75, 3)]
)
def test_tpu_watch_restarts_only_after_a_preemption(tmp_path, codes, expected, runs):
    result = call("tpu.sh", "watch", *JOB, RESTARTS="2", **fake_gcloud(tmp_path, codes))
    assert result.returncode == expected, result.stderr
    assert (tmp_path / "calls").read_text().count("vasa_jax.main") == runs


def test_wrong_calls_explain_themselves():
    for script, arguments in {"local.sh": ["two"], "slurm.sh": [], "tpu.sh": ["start"]}.items():
        result = call(script, *arguments)
        assert result.returncode == 2 and script in result.stderr, result


def test_parts_of_the_demo_share_two_gpus():
    lines = call("train_demo.sh", "out", DRY_RUN="1", GPUS="2", FACE="--config.train.steps=9").stdout.splitlines()
    trained = {line.split("--workdir out/")[1].split()[0]: line for line in lines if "--workdir" in line}
    codec = ["face", "face_256", "erased", "face_decoder"]
    assert [part for part in trained if part not in ("audio", "instrument")] == [*codec, "motion"]
    assert set(trained) == {"audio", "instrument", *codec, "motion"} and list(trained)[-1] == "motion"
    for part, before in zip(codec[1:], codec):
        assert f"out/{before}/export" in trained[part]
    assert [trained[part].split()[1][-1] for part in ("audio", "instrument", "face", "motion")] == ["1", "1", "0", "0"]
    assert trained["face"].endswith("--config.train.steps=9")
    assert "--config.motion.audio=out/audio/export" in trained["motion"]
    assert "--config.motion.face=out/face_decoder/export" in trained["motion"]
    assert "cp out/face_decoder/export/face.safetensors out/model/" in lines


def test_parts_of_the_demo_that_are_not_trained_are_the_shipped_ones():
    lines = call("train_demo.sh", "out", DRY_RUN="1", GPUS="0", PARTS="face face_256 motion").stdout.splitlines()
    trained = [line.split("configs/train_")[1].split(".py")[0] for line in lines if "configs/" in line]
    assert trained == ["face", "face_256", "motion"]
    assert "--config.motion.audio" not in "".join(lines)
    assert "--config.motion.face=out/face_256/export" in "".join(lines)
    assert "cp out/face_256/export/face.safetensors out/model/" in lines
    for part in ("audio", "instrument"):
        assert f"cp vasa_jax/pretrained/{part}.safetensors out/model/" in lines

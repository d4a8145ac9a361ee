"""Settings: the way to the command line and back, and every fault in one line."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from vasa_jax.config import VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.main import parse

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.py"))


def command(*options):
    return parse(["main", *options])[0]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_defaults_survive_the_round_trip():
    assert VASAConfig.from_config_dict(VASAConfig().to_config_dict()) == VASAConfig()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_valid(name):
    assert command(f"--config=configs/{name}").job


def test_options_reach_their_fields():
    config, workdir = parse(
        ["main", "--config", "configs/generate.py", "--config.gaze=10,-5", "--config.distance=1.1",
         "--config.train.steps=7", "--config.image=a b.jpg", "--workdir=somewhere"]
    )  # fmt: skip
    assert (config.gaze, config.distance, config.train.steps) == ((10, -5), 1.1, 7)
    assert (config.image, workdir, config.emotion) == ("a b.jpg", "somewhere", "")


def test_one_command_line_leaves_nothing_for_the_next():
    assert command("--config=configs/generate.py", "--config.seed=5").seed == 5
    assert command("--config=configs/generate.py").seed == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no --config"),
        (["--config=configs/nope.py"], "configs/nope.py: no such configuration file"),
        (["--config=configs/demo.py", "--config.sead=1"], "did you mean 'seed'"),
        (["--config=configs/demo.py", "--config.train.stps=1"], "did you mean 'train.steps'"),
        (["--config=configs/demo.py", "--config.steps=abc"], "abc"),
        (["--config=configs/demo.py", "--config.steps=0"], "config.steps: 0 is out of range; choose 1 to 1000"),
        (["--config=configs/train_face.py", "--config.corpus.shards=x"], "config.face.recipe: shards have no rendered"),
        (["--config=configs/train_face.py", "--config.corpus.poses=4"], "config.corpus.poses: "),
        (["--config=configs/train_face.py", "--config.corpus.motions=7", "--config.corpus.poses=2"], "motions: 7"),
        (["--config=configs/train_face.py", "--config.face.same_frame=0.3"], "same_frame: 0.3 is more than one driver"),
        (["--config=configs/train_face.py", "--config.face.adversarial=1.0"], "adversarial and feature_matching"),
        (["--config=configs/train_face.py", "--config.face.pose_from_picture=2"], "pose_from_picture: 2.0 is out of"),
        (["--config=configs/train_judge.py", "--config.judge.size=100"], "config.judge.size: 100 cannot be rendered"),
        (["--config=configs/demo.py", "--config.job=dance"], "config.job: 'dance' is unknown"),
        (["--config=configs/demo.py", "--config.gaze=1,2,3"], "is not a yaw and a pitch"),
        (["--config=configs/demo.py", "--config.gaze=90,0"], "choose -60 to 60"),
        (["--config=configs/demo.py", "--config.distance=9"], "config.distance: 9"),
        (["--config=configs/demo.py", "--config.train.accumulate=3"], "does not divide the batch"),
        (["--config=configs/demo.py", "extra"], "'extra' is not an option"),
        (["--config=configs/demo.py", "--wrkdir=x"], "wrkdir"),
    ],
)
def test_faults_are_one_line(options, message):
    with pytest.raises(InputError) as fault:
        command(*options)
    assert message in str(fault.value)
    assert "\n" not in str(fault.value)


def test_unknown_field_of_a_config_file_is_named():
    config = VASAConfig().to_config_dict()
    config.unlock()
    config.sede = 1
    with pytest.raises(InputError, match=r"config\.sede: no such setting; did you mean 'seed'"):
        VASAConfig.from_config_dict(config)


def test_command_line_as_a_process():
    start = time.monotonic()
    help_text = subprocess.run([sys.executable, "-m", "vasa_jax.main", "--help"], capture_output=True, text=True)
    assert help_text.returncode == 0 and "--config.train.steps" in help_text.stdout
    # Heavy packages must not be imported for it; a loaded machine gets some slack over the 5 s that users are promised.
    assert time.monotonic() - start < 20
    fault = subprocess.run(
        [sys.executable, "-m", "vasa_jax.main", "--config", "configs/demo.py", "--config.sead=1"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert fault.returncode == 2
    assert fault.stderr.strip() == "error: config.sead: no such setting; did you mean 'seed'?"

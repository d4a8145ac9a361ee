"""The project's settings: every range, the way to the command line and back, and every fault in one line."""

import dataclasses
import importlib
import importlib.util
import inspect
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vasa_jax import config as sections
from vasa_jax.config import FaceConfig, VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.main import JOBS, current_job, job_function, parse, run, shipped_config
from vasa_jax.settings import MAX_SEED, Settings, fields_of

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
# Jobs whose configurations say which figure to expect.
MEASURING = ("train_", "evaluate", "erase", "label_accuracy", "benchmark_renderer")


def all_fields(cls=VASAConfig, prefix=""):
    """(dotted name, section, declaration) of every setting."""
    for item in fields_of(cls).values():
        if issubclass(item.kind, Settings):
            yield from all_fields(item.kind, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, cls, item


FIELDS = list(all_fields())
NUMBERS = [entry for entry in FIELDS if entry[2].kind in (int, float)]
CHOICES = [entry for entry in FIELDS if entry[2].choices is not None]


def names(entries):
    return [entry[0] for entry in entries]


def command(*options):
    return parse(["main", *options])[0]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def fault_of(name, cls, item, value):
    """The line about a bad value, through the whole configuration."""
    value = (value,) * (item.length or 1) if item.is_tuple else value
    config = VASAConfig()
    if "." in name:
        part = name.split(".")[0]
        config = dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **{item.name: value})})
    else:
        config = dataclasses.replace(config, **{item.name: value})
    with pytest.raises(InputError) as error:
        config.validate()
    return str(error.value)


@pytest.mark.parametrize(("name", "cls", "item"), NUMBERS, ids=names(NUMBERS))
def test_every_number_has_a_range_that_holds(name, cls, item):
    """NaN, infinities, booleans, texts and values outside of it are refused by a line that names the field."""
    values = item.default if item.is_tuple and item.default is not None else (item.default,)
    assert item.low < item.high and all(value is None or item.low <= value <= item.high for value in values)
    step = 1 if item.kind is int else 1e-3 * max(abs(item.low), abs(item.high))
    outside = [item.low - step, item.high + step, -1e30, 1e30, math.nan, math.inf, -math.inf]
    for value in [*outside, True, "1", "a", "", [1.0, "2"], {}]:
        text = fault_of(name, cls, item, value)
        assert text.startswith(f"config.{name}: ") and "\n" not in text, (value, text)
        assert "; " in text  # and what to do
    if item.kind is int:
        assert "is not a whole number" in fault_of(name, cls, item, item.low + 0.5)


@pytest.mark.parametrize(("name", "cls", "item"), CHOICES, ids=names(CHOICES))
def test_every_choice_is_one_of_its_names(name, cls, item):
    for value in ("nothing of this name", 3, None, 1.0):
        text = fault_of(name, cls, item, value)
        assert text.startswith(f"config.{name}: ") and "choose one of" in text and "\n" not in text


@pytest.mark.parametrize(("name", "cls", "item"), FIELDS, ids=names(FIELDS))
def test_every_setting_refuses_another_type_and_says_what_it_is(name, cls, item):
    assert item.help and not item.help.startswith(" ")
    text = fault_of(name, cls, item, b"bytes" if item.kind is str else "text")
    assert text.startswith(f"config.{name}: ") and "\n" not in text


def test_sections_are_sections():
    config = dataclasses.replace(VASAConfig(), train=None)
    with pytest.raises(InputError, match=r"config\.train: None is a NoneType; give a TrainConfig"):
        config.validate()
    assert {item.kind.__name__ for item in fields_of(VASAConfig).values() if issubclass(item.kind, Settings)} == {
        *(name for name in sections.__all__ if name != "VASAConfig"), "InputLimits",  # below config: media know it too
    }


@pytest.mark.parametrize("seed", [0, 1, 2**31, MAX_SEED])
def test_seeds_of_32_bits_are_good_everywhere(seed):
    import jax
    import numpy as np

    assert Controls(seed=seed).validate() and VASAConfig(seed=seed).validate()
    np.random.default_rng([seed, 1])
    jax.random.key(seed)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63, 1.0, True])
def test_other_seeds_are_refused_everywhere(seed):
    for job in ("generate", "train_audio", "evaluate"):
        with pytest.raises(InputError, match=r"config\.seed: .*choose 0 to 4294967295"):
            VASAConfig(job=job, seed=seed).validate()
    with pytest.raises(InputError, match=r"controls\.seed"):
        Controls(seed=seed).validate("controls")


@pytest.mark.parametrize("name", ["evaluation", "controls_evaluation"])
def test_reports_ask_for_no_more_than_a_clip_has(name):
    """Held-out clips have 8 to 10 s: a search for longer ones would never end."""
    assert command("--config=configs/evaluate.py", f"--config.{name}.seconds=8.0")
    with pytest.raises(InputError, match=rf"config\.{name}\.seconds: 9.0 is out of range; choose 1 to 8"):
        command("--config=configs/evaluate.py", f"--config.{name}.seconds=9.0")


def test_generation_is_defined_once():
    """Every control is a setting of a run, with the same declaration."""
    for name, item in fields_of(Controls).items():
        assert fields_of(VASAConfig)[name] == item


def test_defaults_survive_the_round_trip():
    assert VASAConfig.from_config_dict(VASAConfig().to_config_dict()) == VASAConfig()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = command(f"--config=configs/{path.name}")
    assert config.job in JOBS
    assert VASAConfig.from_config_dict(config.to_config_dict()) == config
    assert "python -m vasa_jax.main" in module.__doc__ and f"configs/{path.name}" in module.__doc__
    if config.job.startswith(MEASURING):
        told = re.sub(r"--\S+|\{.*?\}", "", module.__doc__)  # numbers of options are none of results
        assert re.search(r"\d[.,]\d", told), path


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


@pytest.mark.parametrize("name", ["demo", "demo.py", "configs/demo.py", "configs/demo"])
@pytest.mark.parametrize("spelled", ["--config={}", "--config {}"])
def test_shipped_configs_are_found_from_any_folder(tmp_path, monkeypatch, name, spelled):
    monkeypatch.chdir(tmp_path)
    assert command(*spelled.format(name).split()).image == "demo"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.py").write_text(
        "from vasa_jax.config import VASAConfig\n\n\ndef get_config():\n"
        "    return VASAConfig(image='mine').to_config_dict()\n"
    )
    mine = "mine" if name == "configs/demo.py" else "demo"
    assert command(*spelled.format(name).split()).image == mine


def test_other_files_are_taken_as_they_are(tmp_path):
    assert shipped_config("nothing_of_this_name") == "nothing_of_this_name"
    assert shipped_config(f"{tmp_path}/demo.py") == f"{tmp_path}/demo.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no --config"),
        (["--config=configs/nope.py"], "configs/nope.py: no such configuration file; the shipped ones are benchmark, "),
        (["--config=train_fase"], "train_fase: no such configuration file; did you mean 'train_face'?"),
        (["--config=configs/demo.py", "--config.sead=1"], "did you mean 'seed'"),
        (["--config=configs/demo.py", "--config.train.stps=1"], "did you mean 'train.steps'"),
        (["--config=configs/demo.py", "--config.steps=abc"], "abc"),
        (["--config=configs/demo.py", "--config.steps=0"], "config.steps: 0 is out of range; choose 1 to 1000"),
        (["--config=configs/demo.py", "--config.train.clip_norm=-1"], "config.train.clip_norm: -1.0 is out of range"),
        (["--config=configs/demo.py", "--config.train.learning_rate=nan"], "learning_rate: nan is out of range"),
        (["--config=configs/demo.py", "--config.train.fsdp_axis=0"], "config.train.fsdp_axis: 0 is out of range"),
        (["--config=configs/demo.py", "--config.train.data_axis=0"], "config.train.data_axis: 0 is out of range"),
        (["--config=configs/demo.py", "--config.train.frozen=('(',)"], "'(' is no regular expression"),
        (
            ["--config=configs/demo.py", "--config.face.variant=face_1024"],
            "config.face.variant: 'face_1024' is unknown",
        ),
        (
            ["--config=configs/demo.py", "--config.benchmark.variants=('x',)"],
            "config.benchmark.variants: 'x' is unknown",
        ),
        (
            ["--config=configs/demo.py", "--config.face.discriminator_widths=('a','b')"],
            "discriminator_widths: 'a' is not a whole",
        ),
        (["--config=configs/train_face.py", "--config.corpus.shards=x"], "config.face.recipe: shards have no rendered"),
        (["--config=configs/train_face.py", "--config.corpus.poses=4"], "config.corpus.poses: "),
        (["--config=configs/train_face.py", "--config.corpus.motions=7", "--config.corpus.poses=2"], "motions: 7"),
        (["--config=configs/train_face.py", "--config.face.same_frame=0.3"], "same_frame: 0.3 is more than one driver"),
        (["--config=configs/train_face.py", "--config.face.adversarial=1.0"], "adversarial and feature_matching"),
        (["--config=configs/train_face.py", "--config.face.gradient_penalty=1"], "gradient_penalty: no discriminator"),
        (["--config=configs/train_face.py", "--config.face.pose_from_image=2"], "pose_from_image: 2.0 is out of"),
        (
            ["--config=configs/train_loss_networks.py", "--config.loss_networks.size=100"],
            "config.loss_networks.size: 100 cannot be rendered",
        ),
        (["--config=configs/demo.py", "--config.job=dance"], "config.job: 'dance' is unknown; choose one of generate"),
        (
            ["--config=configs/demo.py", "--config.job=evalute"],
            "config.job: 'evalute' is unknown; did you mean 'evaluate'",
        ),
        (["--config=configs/demo.py", "--config.gaze=1,2,3"], "config.gaze: has shape (3,); give 2 numbers"),
        (["--config=configs/demo.py", "--config.gaze=90,0"], "choose -60 to 60"),
        (["--config=configs/demo.py", "--config.distance=9"], "config.distance: 9"),
        (["--config=configs/demo.py", "--config.look_ahead=3"], "config.look_ahead: only a stream looks ahead"),
        (["--config=configs/demo.py", "--config.emotion=joy"], "config.emotion: 'joy' is unknown"),
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


@pytest.mark.parametrize("job", JOBS)
def test_every_job_is_a_function_of_settings_and_a_folder(job):
    config, workdir = list(inspect.signature(job_function(job)).parameters.values())[:2]
    assert (config.name, workdir.name) in (("config", "workdir"), ("config", "directory"))
    inspect.signature(job_function(job)).bind(VASAConfig(), Path())  # and needs nothing else


def test_an_unknown_job_of_a_run_is_named():
    with pytest.raises(InputError, match=r"config\.job: 'train_fase' is unknown; did you mean 'train_face'"):
        run(VASAConfig(job="train_fase"))


def test_public_classes_are_imported_when_used():
    code = (
        "import sys, vasa_jax; assert 'jax' not in sys.modules and {'Controls', 'VideoGenerator'} <= set(dir(vasa_jax))"
    )
    code += "; from vasa_jax import Controls; assert 'jax' not in sys.modules; Controls(steps=3)"
    code += "; from vasa_jax import VASADataset, VideoGenerator; assert VideoGenerator.from_pretrained"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def test_command_line_as_a_process():
    start = time.monotonic()
    help_text = subprocess.run([sys.executable, "-m", "vasa_jax.main", "--help"], capture_output=True, text=True)
    assert help_text.returncode == 0 and "--config.train.steps=10000  updates: " in help_text.stdout
    # Heavy packages must not be imported for it; a loaded machine gets some slack over the 5 s that users are promised.
    assert time.monotonic() - start < 20
    fault = subprocess.run(
        [sys.executable, "-m", "vasa_jax.main", "--config", "configs/demo.py", "--config.sead=1"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert fault.returncode == 2
    assert fault.stderr.strip() == "error: config.sead: no such setting; did you mean 'seed'?"


def test_help_imports_no_heavy_package():
    code = "import sys; from vasa_jax.main import main; main(['main', '--help'])"
    code += "; assert not {'jax', 'flax', 'scipy', 'cv2', 'av', 'librosa'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_old_names_of_settings_jobs_and_configurations_are_accepted():
    old = ["main", "--config=configs/train_judge.py", "--config.train.initial=x", "--config.judge.people=9"]
    new = ["main", "--config=configs/train_loss_networks.py", "--config.train.init_from=x"]
    config = parse([*new, "--config.loss_networks.people=9"])[0]
    assert parse(old)[0] == config and config.job == "train_loss_networks" and config.loss_networks.people == 9
    assert current_job("train_instrument") == "train_face_probe"
    assert FaceConfig(square=2.0, consist=1.0) == FaceConfig(mse=2.0, pairwise_transfer=1.0)

"""What is installed: modules, shipped configurations and weights, found from any folder."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SEEN_FROM_ELSEWHERE = """
from pathlib import Path
import vasa_jax, vasa_jax.main
from vasa_jax.generation.job import DEMO

root = Path(vasa_jax.__file__).parents[1]
print(root)
for name in ("demo", "configs/demo.py"):
    config, _ = vasa_jax.main.parse(["vasa-jax", "--config", name])
    assert config.image == "demo"
assert Path(vasa_jax.main.shipped_config("demo")).is_relative_to(root)
assert all(path.is_file() and path.is_relative_to(root) for path in DEMO.values())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that an installation would put on Python's path."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder), "build_py", "--build-lib"]
    subprocess.run([*command, str(folder / "lib")], cwd=ROOT, check=True, capture_output=True)
    return folder / "lib"


def test_every_file_is_installed(installed):
    kinds = (".py", ".safetensors", ".png", ".wav", ".npz", ".md", ".html", ".css", ".js", ".svg")
    files = [path for path in (ROOT / "vasa_jax").rglob("*") if path.suffix in kinds]
    assert len(files) > 100
    assert not [path for path in files if not (installed / path.relative_to(ROOT)).is_file()]
    assert {path.name for path in (installed / "vasa_jax" / "configs").glob("*.py")} == {
        path.name for path in (ROOT / "configs").glob("*.py")
    }
    assert {path.name for path in installed.iterdir()} == {"vasa_jax"}  # no top-level configs, tests or launch


def test_configurations_and_weights_are_found_from_another_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, "-c", SEEN_FROM_ELSEWHERE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(installed)


def test_the_card_names_the_commit_of_every_shipped_file():
    """The newest commit that changed the file; that of the last commit can only be named by the next one."""
    folder, head = ROOT / "vasa_jax" / "pretrained", _git("rev-parse", "--short=7", "HEAD")
    shallow = _git("rev-parse", "--is-shallow-repository") != "false"  # or no history at all
    for path in [path for path in folder.rglob("*.*") if path.suffix in (".safetensors", ".npz", ".png", ".wav")]:
        card = next(up / "MODEL_CARD.md" for up in path.parents if (up / "MODEL_CARD.md").is_file())
        name = path.relative_to(card.parent)
        commit = re.search(rf"`{name}`(?: \| | \(commit )([0-9a-f]{{7}})\b", card.read_text())
        assert commit, f"{card} names no commit of {name}"
        newest = _git("log", "-1", "--format=%h", "--abbrev=7", "--", str(path))
        assert shallow or newest in (head, commit[1]), f"{card}: {name} was made by {newest}"


def _git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--editable"]], ids=["plain", "editable"])
def test_pip_installs_a_command_that_works_from_any_folder(options, tmp_path):
    """In an environment of its own, which sees this one's packages but not this checkout."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    venv.create(home, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    pip = [home / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *options, source], check=True, cwd=tmp_path)
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for start in ([home / "bin" / "vasa-jax"], [home / "bin" / "python", "-m", "vasa_jax.main"]):
        shown = subprocess.run([*start, "--help"], cwd=elsewhere, env=environment, capture_output=True, text=True)
        assert shown.returncode == 0 and "--config.train.steps=10000" in shown.stdout
    options = ["--config", "demo", "--config.steps=2", "--config.mark=False", "--config.output=a.mp4"]
    done = subprocess.run([home / "bin" / "vasa-jax", *options], cwd=elsewhere, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "a.mp4").stat().st_size > 10_000


def test_the_console_command_is_main():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["vasa-jax"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_nobody_is_told_to_install_it_from_an_index():
    """It is on none: such a command would fail, or install what a stranger has put there under its name."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    kinds = (".py", ".md", ".ipynb", ".toml", ".sh", ".yaml", "Dockerfile")
    told = re.compile(r"pip install((?!-e )[^\n`&])*?[\s'\"]vasa[_-]jax(\[|['\"\s`]|$)")
    texts = {name: (ROOT / name).read_text() for name in names if name.endswith(kinds)}
    assert not [name for name, text in texts.items() if told.search(text)]

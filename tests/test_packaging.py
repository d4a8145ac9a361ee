"""What is installed: modules, shipped configurations and weights, found from any folder."""

import importlib
import os
import subprocess
import sys
import tomllib
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


def test_the_console_command_is_main():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["vasa-jax"].split(":")
    assert callable(getattr(importlib.import_module(module), function))

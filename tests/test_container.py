"""The container: what its files name is there, and is enough to install the package. No engine is needed."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile*"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, rest) of every logical line."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    lines = [line.strip() for line in text.splitlines()]
    return [tuple(line.split(None, 1)) for line in lines if line and not line.startswith("#")]


def copied(path: Path) -> list[tuple[str, str]]:
    """(source, target) of every COPY."""
    found = []
    for name, rest in instructions(path):
        if name == "COPY":
            *sources, target = [word for word in shlex.split(rest) if not word.startswith("--")]
            found += [(source, target) for source in sources]
    return found


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_tracked_and_not_left_out(path):
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert copied(path)
    for source, _ in copied(path):
        assert any(name == source or name.startswith(f"{source}/") for name in tracked), source
        assert source.split("/")[0] not in left_out


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_enough(path, tmp_path):
    """Builds the package of the copied files alone: every module, page and weight is in it."""
    for source, target in copied(path):
        place = tmp_path / "src" / (source if target == "./" else target)
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, place)
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib"]
    subprocess.run([*command, str(tmp_path / "lib")], cwd=tmp_path / "src", check=True, capture_output=True)
    kinds = (".py", ".safetensors", ".png", ".wav", ".npz", ".html", ".css", ".js", ".svg")
    files = [file for file in (ROOT / "vasa_jax").rglob("*") if file.suffix in kinds]
    assert not [file for file in files if not (tmp_path / "lib" / file.relative_to(ROOT)).is_file()]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_it_runs_the_studio_as_nobody_special(path):
    lines = instructions(path)
    names = [name for name, _ in lines]
    rest = dict(lines)
    assert rest["USER"] not in ("root", "0") and names.index("USER") < names.index("ENTRYPOINT")
    assert "useradd" in " ".join(text for name, text in lines if name == "RUN")
    command = json.loads(rest["ENTRYPOINT"])
    assert command[0] in PROJECT["scripts"]
    assert (ROOT / "configs" / f"{command[command.index('--config') + 1]}.py").is_file()
    assert "/v1/health" in rest["HEALTHCHECK"] and f":{rest['EXPOSE']}/" in rest["HEALTHCHECK"]
    assert ".[$EXTRAS]" in " ".join(text for name, text in lines if name == "RUN")
    (extras,) = [text.partition("=")[2] for name, text in lines if name == "ARG" and text.startswith("EXTRAS=")]
    assert extras == "studio" and "studio" in PROJECT["optional-dependencies"]


def test_the_services_name_files_that_are_there():
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    assert {"studio", "studio-gpu"} <= content["services"].keys()
    for service in content["services"].values():
        build = service["build"]
        assert (ROOT / "docker" / build["context"] / build["dockerfile"]).is_file()
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= content["volumes"].keys()
    arguments = {name for path in DOCKERFILES for kind, rest in instructions(path) if kind == "ARG"
                 for name in [rest.partition("=")[0]]}  # fmt: skip
    assert content["services"]["studio-gpu"]["build"]["args"].keys() <= arguments

"""The notebook for newcomers runs from top to bottom with the shipped model, and shows what it says."""

import base64
import io
import json
import os
import re
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import jax
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from PIL import Image

from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.video_files import read_video
from vasa_jax.evaluation import sheets
from vasa_jax.generation.job import DEMO

PROJECT = Path(__file__).parents[2]
NOTEBOOK = PROJECT / "notebooks" / "inference.ipynb"
# Runs after the last cell: what the cells found, as numbers.
SECONDS = 1.4  # of the shipped speech
FINDINGS = """
import json

print(json.dumps({
    "gaze": [float(np.median(readings[name].gaze[:, 0])) for name in ("looking left", "looking right")],
    "distance": [float(np.exp(-readings[name].pose[:, 6]).mean()) for name in ("near", "looking left")],
    "yaw": yaw.tolist(),
    "agreement": agreement,
    "people": len(rows),
    "live_as_at_once": bool(np.array_equal(live, np.concatenate(list(
        generator.render(avatar, generator.motion(start, avatar, hop=10, **FAST), 10))))),
}))
"""


def test_it_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 200_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    # Every code cell has an explanation before it.
    assert re.fullmatch("(m+c)+m", "".join(cell.cell_type[0] for cell in notebook.cells))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, cells by id) of the notebook after a run on SECONDS of sound, beside the project's folder."""
    folder = tmp_path_factory.mktemp("notebook")
    with wave.open(str(DEMO["audio"])) as whole, wave.open(str(folder / "short.wav"), "wb") as short:
        short.setparams(whole.getparams())
        short.writeframes(whole.readframes(round(SECONDS * whole.getframerate())))
    (folder / "project").symlink_to(PROJECT)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (choice,) = [cell for cell in notebook.cells if 'IMAGE, SPEECH = DEMO["image"]' in cell.source]
    choice.source = choice.source.replace('DEMO["audio"]', '"short.wav"')
    notebook.cells.append(new_code_cell(FINDINGS, id="findings"))
    cache = jax.config.jax_compilation_cache_dir
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, "PYTHONPATH": "", "XLA_FLAGS": ""}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return folder, {cell.id: cell for cell in notebook.cells}


def _of_kind(cell, kind):
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def _pictures(cell):
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in _of_kind(cell, "image/png")]


@pytest.mark.slow
def test_the_video_that_is_shown_is_whole(run):
    folder, cells = run
    (page,) = _of_kind(cells["speak"], "text/html")
    shown = base64.b64decode(re.search(r"data:video/mp4;base64,([A-Za-z0-9+/=\s]+)", page)[1])
    path = folder / "outputs" / "hello.mp4"
    assert shown == path.read_bytes()
    speech = read_audio(folder / "short.wav")
    frames = np.stack(list(read_video(path).frames))
    assert len(frames) == speech.frames and np.abs(np.diff(frames.astype(int), axis=0)).max() > 50
    assert abs(len(read_audio(path).samples) - len(speech.samples)) < 1024


@pytest.mark.slow
def test_pictures_are_shown(run):
    _, cells = run
    (strip,) = _pictures(cells["strip"])
    assert strip.shape == (sheets.TILE, 8 * sheets.TILE, 3)
    rows = _pictures(cells["controls"])
    assert [row.shape for row in rows] == [strip.shape] * 6
    assert len({row.tobytes() for row in [strip, *rows]}) == 7
    (people,) = _pictures(cells["many"])
    assert people.shape == (4 * sheets.TILE, 9 * sheets.TILE, 3)
    (live,) = _pictures(cells["live"])
    assert live.shape == strip.shape
    for name in ("mouth", "guidance"):
        (plot,) = _pictures(cells[name])
        # Both curves run through the picture.
        for colour in sheets.COLOURS[:2]:
            assert (plot == colour).all(-1).any(0).sum() > 400


@pytest.mark.slow
def test_controls_do_what_the_text_says(run):
    _, cells = run
    findings = json.loads(cells["findings"].outputs[0].text)
    left, right = findings["gaze"]
    assert left < -10 and right > 10
    near, free = findings["distance"]
    assert near < free
    assert findings["yaw"][0] < -10 and findings["yaw"][-1] > 10 and (np.diff(findings["yaw"]) > 0).all()
    assert findings["agreement"] > 0.3
    assert findings["people"] == 4
    assert findings["live_as_at_once"]
    assert "looking left: -20 degrees wanted" in cells["read"].outputs[0].text


def setup_cell():
    """The source of the cell that finds the project and installs what it needs."""
    return next(cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.id == "setup").source


ON_COLAB = 'if "google.colab"'
CUDA_12 = [SimpleNamespace(name="jax-cuda12-plugin", version="0.7.2")]


@pytest.mark.parametrize(
    ("driver", "packages", "chosen"),
    [
        ("580.82.07\n", [], "jax[cuda13]"), ("580.82.07\n", CUDA_12, "jax[cuda12]"), ("550.54.15\n", [], "jax[cuda12]"),
        ("", [], "jax[cuda12]"), (None, [], "jax"),
    ],
)  # fmt: skip
def test_the_runtime_decides_which_jax_is_installed(monkeypatch, driver, packages, chosen):
    names = {}
    exec(setup_cell().partition("JAX = ")[0], names)
    monkeypatch.setattr(names["shutil"], "which", lambda name: None if driver is None else f"/usr/bin/{name}")
    monkeypatch.setattr(names["subprocess"], "run", lambda *words, **how: SimpleNamespace(stdout=driver))
    monkeypatch.setattr(names["metadata"], "distributions", lambda: packages)
    monkeypatch.setattr(names["Path"], "exists", lambda path: False)
    assert names["jax_for_this_machine"]() == chosen
    monkeypatch.setattr(names["Path"], "exists", lambda path: str(path) == "/dev/accel0")
    assert driver is not None or names["jax_for_this_machine"]() == "jax[tpu]"


def test_a_missing_project_is_named_or_cloned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path[:])
    source = setup_cell().partition(ON_COLAB)[0]
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
        exec(source, {})
    origin = tmp_path.parent / f"{tmp_path.name}_origin"
    (origin / "vasa_jax").mkdir(parents=True)
    (origin / "vasa_jax" / "main.py").touch()
    git = ["git", "-C", str(origin), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True)
    for address in (origin.as_uri(), "/nowhere"):  # what has been cloned is found
        names = {}
        exec(source.replace('REPOSITORY = ""', f'REPOSITORY = "{address}"'), names)
        assert (names["project"] / "vasa_jax" / "main.py").is_file() and str(names["project"]) in sys.path


def test_colab_is_asked_for_a_new_session_where_a_loaded_package_has_changed(monkeypatch):
    """Its sessions have loaded NumPy and Pillow before the first cell runs; newer releases do not mix with these."""
    block = ON_COLAB + setup_cell().partition(ON_COLAB)[2]
    block, count = re.subn(r"%pip .*", "pip()", block)
    assert count == 1
    versions = {"numpy": "2.1.3", "nobody-has-it": "1"}
    names = {}
    exec(setup_cell().partition("JAX = ")[0], names)
    names["pip"] = lambda: versions.update({"numpy": "2.2.6", "nobody-has-it": "2", "new": "1"})
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    monkeypatch.setattr(
        names["metadata"], "distributions", lambda: [SimpleNamespace(name=a, version=b) for a, b in versions.items()]
    )
    known = {"numpy": ["numpy"], "nobody_has_it": ["nobody-has-it"], "pytest": ["new"]}
    monkeypatch.setattr(names["metadata"], "packages_distributions", lambda: known)
    with pytest.raises(SystemExit, match=r"^numpy: loaded before; choose Runtime"):
        exec(block, names)
    exec(block, names)  # in the new session nothing changes

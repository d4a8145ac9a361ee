"""What the documents show: every Python example runs as written, every command names settings that there are."""

import ast
import contextlib
import importlib
import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from drawn_faces import picture
from PIL import Image
from scipy.io import wavfile
from studio_process import studio_process
from tiny_model import save_tiny_model
from tiny_records import write_tiny

from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.job import DEMO
from vasa_jax.main import parse

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")), PROJECT / "launch" / "README.md"]
PACKAGE = sorted((PROJECT / "vasa_jax").rglob("*.py"))


def docstrings(path):
    """Yields the docstrings of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            yield ast.get_docstring(node)


def is_python(text):
    """Whether an indented block of a docstring is code: at least a call or an assignment, all of it Python."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return False
    return any(isinstance(node, (ast.Import, ast.ImportFrom, ast.Call, ast.ClassDef)) for node in nodes)


def examples():
    """Name -> (code, module that it stands in or None)."""
    found = {}
    for path in PAGES:
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)):
            found[f"{path.relative_to(PROJECT)}, {number}"] = code, None
    for path in PACKAGE:
        module = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        blocks = [block for text in docstrings(path) for block in re.findall(r"(?<=\n\n)(?:    .*\n)+", f"{text}\n")]
        for number, block in enumerate(filter(is_python, map(inspect.cleandoc, blocks))):
            found[f"{path.relative_to(PROJECT)}, {number}"] = block, module
    return found


EXAMPLES = examples()


def frames_of(names):
    return [frames for *_, frames in names["shown"]]


def check_file(names):
    assert Path("hello.mp4").stat().st_size > 1000


def check_forms(names):
    assert read_video("idle.mp4").fps == 25 and len(list(read_video("idle.mp4").frames)) == 100
    assert read_video("hello.mp4").fps == 30 and next(read_video("hello.mp4").frames).shape == (64, 114, 3)


def check_frames(names):
    assert [frame.shape for frame in frames_of(names)] == 13 * [(64, 64, 3)]


def check_driven(names):
    assert len(names["motion"]) == 5 and [len(batch) for batch in names["frames"]] == [5]
    assert [frame.shape for frame in names["video"].frames()] == 5 * [names["portrait"].picture.shape]


def check_whole(names):
    shapes = [frame.shape for frame in names["frames"]]
    assert shapes == 13 * [names["portrait"].picture.shape]


def check_sessions(names):
    seen = {id(session): 0 for session in names["sessions"]}
    for session, frames in names["shown"]:
        seen[id(session)] += len(frames)
    assert set(seen.values()) == {20}  # two hops of each


def check_pairs(names):
    assert next(iter(names["batches"]))["source"].shape == (16, 256, 256, 3)


def check_schema(names):
    with pytest.raises(InputError, match="manifest"):
        names["check"]({"split": "train"}, names["SHARD"], "manifest.json", "write it again")


def check_settings(names):
    assert names["TrainConfig"]().validate().steps == 1000
    with pytest.raises(InputError, match="steps"):
        names["TrainConfig"](steps=0).validate()


BUILDER = "vasa_jax/corpus/vasa_corpus/vasa_corpus_dataset_builder.py"
CHECKS = {
    "README.md, 0": check_file,
    "docs/data.md, 0": check_pairs,
    "docs/generation.md, 0": check_forms,
    "docs/generation.md, 1": check_driven,
    "docs/generation.md, 2": check_whole,
    "docs/generation.md, 3": lambda names: [len(batch) for batch in names["frames"]] == [8, 5],
    "docs/generation.md, 4": check_frames,
    "docs/weights.md, 0": lambda names: names["pictures"].shape == (2, 64, 64, 3),
    f"{BUILDER}, 0": lambda names: Path("tfds/vasa_corpus/1.0.0/dataset_info.json").is_file(),
    "vasa_jax/generation/generator.py, 0": check_file,
    "vasa_jax/generation/stream.py, 0": check_frames,
    "vasa_jax/generation/stream.py, 1": check_sessions,
    "vasa_jax/schema.py, 0": check_schema,
    "vasa_jax/settings.py, 0": check_settings,
}  # example -> what is true after it; False is a failure


class Times:
    """True so many times."""

    def __init__(self, left):
        self.left = left

    def __bool__(self):
        self.left -= 1
        return self.left >= 0


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return VideoGenerator.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny") / "weights"))


SAMPLES = (0.1 * np.random.default_rng(0).normal(size=8_000)).astype(np.float32)


@pytest.fixture(scope="module")
def prepared(generator):
    """What the page made in the paragraphs before."""
    portrait = generator.read_portrait(DEMO["image"])
    avatar = generator.prepare(portrait.pixels)
    return {"portrait": portrait, "avatar": avatar, "motion": generator.motion(SAMPLES)}


@pytest.fixture
def left_to_the_reader(generator, prepared, tmp_path, monkeypatch):
    """Names that the examples do not define, in a folder with the files that they read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(VideoGenerator, "from_pretrained", lambda *given, **named: generator)
    samples = SAMPLES
    Image.open(DEMO["image"]).convert("RGB").save("me.jpg")
    wavfile.write("hello.wav", 16_000, (32767 * samples).astype(np.int16))
    write_video("driving.mp4", [picture(160, 160, (80, 76 + i, 30)) for i in range(5)], None)
    write_tiny(Path("runs/corpus"), clips=34, shards=1)
    Path("runs/synthesize").symlink_to("corpus")
    save_tiny_model(Path("weights"))
    images, shown = np.random.default_rng(1).random((2, 64, 64, 3), np.float32), []
    return {
        **prepared,
        "generator": generator,
        "samples": samples,
        "microphone": np.split(samples, 4),
        "show": lambda *what: shown.append(what),
        "shown": shown,
        "avatars": [generator.prepare(image) for image in np.uint8(255 * images)],
        "serving": Times(2),
        "new_samples_of": lambda session: samples[:7_000],
        "portraits": images[:1],
        "frames": images,
        "SPLITS": ("train", "heldout"),
        "content": {"split": "train", "index": 0, "clips": [{"frames": 3}]},
    }


LIVE = "docs/studio.md, 0"  # has a test of its own, with a server
SLOW = {"docs/weights.md, 0"}  # operation by operation


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CHECKS]
)
def test_example_runs(name, left_to_the_reader):
    code, module = EXAMPLES[name]
    names = {**(vars(importlib.import_module(module)) if module else {}), **left_to_the_reader}
    exec(compile(code, name, "exec"), names)
    assert CHECKS[name](names) in (None, True)


@pytest.mark.slow
def test_the_live_client_of_the_studio_runs(left_to_the_reader, tmp_path):
    with studio_process(tmp_path / "jobs", f"--config.checkpoint={tmp_path / 'weights'}") as (address, _):
        code = EXAMPLES[LIVE][0].replace("127.0.0.1:7860", address.split("/")[2])
        exec(compile(code, LIVE, "exec"), {})
    with contextlib.closing(read_video("live.mp4").frames) as frames:
        assert len(list(frames)) > 10


def test_every_example_has_its_check():
    assert EXAMPLES.keys() == {*CHECKS, LIVE}


def commands():
    """Yields (where, options of `main`) of every command that is shown as a line of its own or in backquotes."""
    for path in [*PAGES, *PACKAGE, *sorted((PROJECT / "configs").glob("*.py"))]:
        text = re.sub(r"\\+\n\s*", " ", path.read_text())
        start = r"python -m vasa_jax\.main |vasa-jax "
        for line in re.findall(rf"(?m)^(?:.*&& )?\s*(?:{start})(--.*)$|`(?:{start})(--[^`]*)`", text):
            yield path.relative_to(PROJECT), "".join(line)


def test_every_command_that_is_shown_is_understood():
    shown = [(where, shlex.split(line)) for where, line in commands() if not re.search(r"configs/(NAME|X)\.py", line)]
    assert len(shown) > 50
    for where, words in shown:
        assert parse(["main", *words]), where


def test_the_reading_order_names_files_that_can_be_read_in_an_hour():
    listed = re.search(r"Read in this order.*?\n\n((?:\d\. .*\n(?:   .*\n)*)+)", (PROJECT / "README.md").read_text())
    files = [PROJECT / "vasa_jax" / name for name in re.findall(r"`([\w/]+\.py)`", listed[1])]
    assert len(files) > 10 and sum(path.read_text().count("\n") for path in files) <= 3500

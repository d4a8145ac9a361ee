"""Many videos in one run, and what one run leaves where it is stopped or cannot write; with a tiny random model."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sounds import write_wav
from tiny_model import save_tiny_model

from vasa_jax import main as command
from vasa_jax.config import VASAConfig
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.generation import job as job_module
from vasa_jax.generation.control_track import read_control_track
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.job_list import generate_listed
from vasa_jax.main import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def sound(tmp_path):
    return write_wav(tmp_path / "speech.wav", 0.25)


def listed(folder, *lines):
    path = folder / "jobs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def arguments(checkpoint, **settings):
    given = {"checkpoint": checkpoint, "steps": 2, "decode_batch": 4, **settings}
    return ["main", "--config=configs/generate.py", *(f"--config.{name}={value}" for name, value in given.items())]


def test_a_list_makes_every_video_and_a_second_run_only_what_is_missing(tmp_path, checkpoint, sound, capsys):
    wall = tmp_path / "wall.ppm"
    wall.write_bytes(b"P6 64 64 255\n" + bytes(64 * 64 * 3))
    jobs = listed(
        tmp_path,
        {"output": str(tmp_path / "a.mp4")},
        {"output": str(tmp_path / "b.mp4"), "seed": 5, "blink_rate": None},
        {"output": str(tmp_path / "c.mp4"), "image": str(wall)},
        "",
        {"output": str(tmp_path / "d.mp4"), "sed": 5},
        "[1, 2",
        {"output": str(tmp_path / "a.mp4"), "seed": 7},
        {"output": str(sound)},
    )
    command_line = arguments(checkpoint, jobs=jobs, image=DEMO["image"], audio=sound)
    assert main(command_line) == 2
    shown = capsys.readouterr()
    assert "8 jobs" not in shown.out and "7 jobs: 2 written, 0 done before, 5 failed" in shown.out
    failed = [line for line in shown.err.splitlines() if line.startswith("failed: ")]
    assert [line.split(":")[1] for line in failed] == [f" jobs.jsonl line {number}" for number in (3, 5, 6, 7, 8)]
    for line, words in zip(failed, ("no face", "did you mean 'seed'?", "not JSON", "also written by", "mp4")):
        assert words in line, line
    assert shown.err.splitlines()[-1].startswith("error: ")
    first = (tmp_path / "a.mp4").stat().st_mtime_ns
    (tmp_path / "b.mp4").unlink()
    good = listed(tmp_path, *jobs.read_text().splitlines()[:2])
    with open(f"{good}.done", "ab") as done:
        done.write(b"[12")  # as a stop in the middle of a line leaves it
    assert main(command_line) == 0
    assert "2 jobs: 1 written, 1 done before, 0 failed" in capsys.readouterr().out
    assert (tmp_path / "b.mp4").exists() and (tmp_path / "a.mp4").stat().st_mtime_ns == first
    assert main(command_line) == 0
    assert "0 written, 2 done before" in capsys.readouterr().out


def test_a_changed_line_or_file_is_made_again_and_any_fault_stays_its_own(tmp_path, sound, capsys):
    made = []

    def make(job):
        made.append(job.seed)
        if job.seed == 9:
            raise ZeroDivisionError("two\nlines")
        open(job.output, "w").close()
        return job.output

    def run(*seeds):
        made.clear()
        lines = [{"output": str(tmp_path / f"{n}.mp4"), "seed": seed} for n, seed in enumerate(seeds)]
        config = VASAConfig(jobs=str(listed(tmp_path, *lines)), image=str(DEMO["image"]), audio=str(sound))
        generate_listed(config, make)

    run(1, 2)
    run(1, 3)
    assert made == [3]
    os.utime(sound, (1, 1))
    run(1, 3)
    assert made == [1, 3]
    with pytest.raises(InputError, match=r"1 of 3 jobs failed; "):
        run(1, 9, 4)
    assert made == [9, 4]
    assert r"failed: jobs.jsonl line 2: ZeroDivisionError: two\nlines" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing.jsonl", ".", "pipe"])
def test_a_list_that_cannot_be_read_is_one_line(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="; give the path of a job list file"):
        generate_listed(VASAConfig(jobs=str(tmp_path / name)), None)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"output": "out.gif"}, "ends in .mp4"),
        ({"output": "/proc/out.mp4"}, "cannot be written"),
        ({"output": "speech.mp4", "audio": "speech.mp4"}, "also an input"),
        ({"output": "out.mp4", "image": "/dev/zero"}, "not a regular file"),
        ({"output": "out.mp4", "background": "nocolour"}, "no colour"),
        ({"output": "out.mp4", "controls": "pipe"}, "is a FIFO"),
    ],
)
def test_outputs_and_files_are_checked_before_anything_is_read(tmp_path, monkeypatch, sound, settings, fault):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.rename(sound, "speech.mp4")
    monkeypatch.setattr(job_module, "read_audio", None)  # calling it would fail
    config = VASAConfig(**{"image": str(DEMO["image"]), "audio": "speech.mp4", **settings})
    with pytest.raises(InputError, match=fault):
        job_module.generate(config)


def test_control_tracks_that_are_no_small_json_are_one_line(tmp_path):
    path = tmp_path / "a.json"
    numbers = ['{"distance": ' + "1" * count + "}" for count in (400, 5000)]
    for text in ("[" * 100_000, *numbers, '{"gaze": "0.5"}'):
        path.write_text(text)
        with pytest.raises(InputError) as error:
            read_control_track(path)
        assert str(error.value).startswith(str(path)) and len(str(error.value)) < 1000


def test_any_terminal_and_the_crop_of_the_picture(tmp_path, checkpoint, sound, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    given = {"image": DEMO["image"], "audio": sound, "mark_id": "00000aa"}
    assert main(arguments(checkpoint, output=tmp_path / "日é\n.mp4", **given)) == 0
    lines = terminal.buffer.getvalue().decode("ascii").splitlines()
    assert r"\u65e5\xe9\n.mp4: 7 frames" in lines[0]
    crop = lines[-1].partition("--config.crop=")[2]
    assert len(crop.split(",")) == 3
    assert main(arguments(checkpoint, output=tmp_path / "b.mp4", crop=crop, **given)) == 0
    first, second = (list(read_video(tmp_path / name).frames) for name in ("日é\n.mp4", "b.mp4"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("home", [None, "/proc/nowhere", "/dev/null"])
def test_no_home_folder_means_no_cache(home, monkeypatch):
    import jax

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(command.os.path, "expanduser", lambda path: path if home is None else path.replace("~", home))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        command.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_sigterm_removes_what_is_unfinished(tmp_path, checkpoint, sound):
    code = (
        "import sys, time; from vasa_jax.generation import generator; from vasa_jax.main import program\n"
        "frames = generator.TalkingHead.frames\n"
        "def slow(self, stage):\n"
        "    for frame in frames(self, stage): yield frame; time.sleep(5)\n"
        "generator.TalkingHead.frames = slow\n"
        "del sys.argv[0]; program()"
    )
    folder = tmp_path / "out"
    command_line = arguments(checkpoint, image=DEMO["image"], audio=sound, output=folder / "a.mp4")
    process = subprocess.Popen([sys.executable, "-c", code, *command_line], stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        if folder.exists() and list(folder.glob("*.part")):
            break
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143 and "Traceback" not in err
    assert not list(folder.iterdir())

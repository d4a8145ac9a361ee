"""The `generate` job: portrait and speech in, an MP4 and a summary out."""

import contextlib
import functools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import vasa_jax
from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS
from vasa_jax.data.audio_files import read_audio
from vasa_jax.errors import InputError
from vasa_jax.generation.control_track import controls_of

ASSETS = Path(vasa_jax.__file__).parent / "pretrained" / "demo"
DEMO = {"image": ASSETS / "portrait.png", "audio": ASSETS / "speech.wav"}


class Stopwatch:
    """Wall time of each stage, without that of stages within it.

    Attributes:
      seconds: name of a stage to its time, in the order in which they first ended.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._within = 0.0  # seconds of the stages that ended within the current one

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Counts the time of the `with` block under `name`."""
        before, self._within = self._within, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._within
            self._within = before + spent


def generate(config: VASAConfig, workdir: str | Path = "") -> Path:
    """Writes `config.output`, prints a summary and returns the path; InputError for a bad or missing input.

    workdir: not used; nothing else is written.
    """
    for name in ("image", "audio", "output"):
        if not getattr(config, name):
            raise InputError(f"config.{name}: not set; give a file, e.g. --config.{name}={_EXAMPLES[name]}")
    controls = controls_of(config)
    # Bad files are found before the networks are loaded.
    audio_path, image_path = (_file(config, name) for name in ("audio", "image"))
    stage = Stopwatch()
    with stage("read"):
        audio = read_audio(audio_path)
    with stage("load"):
        from vasa_jax.generation.generator import VideoGenerator

        generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch)
    video = generator.generate(image_path, audio, controls, crop=config.crop, stage=stage)
    for note in video.notes:
        print(f"note: {note}", file=sys.stderr)
    path = video.save(config.output, stage=stage, progress=_progress(len(video.motion)))
    print(_summary(path, len(video.motion), generator.image_size, stage.seconds))
    return path


def _file(config: VASAConfig, name: str) -> str | Path:
    """Returns the file that a setting names; `demo` is the one that ships with the package."""
    value = getattr(config, name)
    return DEMO[name] if value == "demo" else value


_EXAMPLES = {"image": "me.jpg", "audio": "hello.wav", "output": "hello.mp4"}


def _progress(total: int):
    from tqdm import tqdm

    return functools.partial(tqdm, total=total, unit="frame", desc="frames", mininterval=0.5, file=sys.stderr)


def _summary(path: Path, frames: int, size: int, seconds: dict[str, float]) -> str:
    lines = [f"{path}: {frames} frames, {frames / FPS:.2f} s, {size} x {size}, {FPS} fps (AI-generated)"]
    for name, spent in seconds.items():
        rate = f"{frames / spent:9.1f} frames/s" if spent > 0 and name in ("motion", "decode", "write") else ""
        lines.append(f"  {name:<9}{spent:8.2f} s {rate}".rstrip())
    total = sum(seconds.values())
    lines.append(f"  {'all':<9}{total:8.2f} s {frames / total:9.1f} frames/s")
    return "\n".join(lines)

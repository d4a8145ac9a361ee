"""The `generate` job: portrait and speech in, an MP4 and a summary out."""

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

import vasa_jax
from vasa_jax.config import VASAConfig
from vasa_jax.data.audio_files import read_audio
from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.provenance import Signer, point_to_responsible_use, write_generated
from vasa_jax.generation.watermark import Payload

ASSETS = Path(vasa_jax.__file__).parent / "pretrained" / "demo"
DEMO = {"image": ASSETS / "portrait.png", "audio": ASSETS / "speech.wav"}


@dataclasses.dataclass
class Stages:
    """Wall time of each stage."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def timed(self, name: str, function):
        start = time.perf_counter()
        result = function()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return result

    def timed_items(self, name: str, items: Iterable) -> Iterator:
        """The items, with the time spent on making them counted under `name`."""
        iterator = iter(items)
        while True:
            try:
                item = self.timed(name, lambda: next(iterator))
            except StopIteration:
                return
            yield item


def generate(config: VASAConfig) -> Path:
    """Writes `config.output` and prints a summary; InputError for a bad or missing input."""
    for name in ("image", "audio", "output"):
        if not getattr(config, name):
            raise InputError(f"config.{name}: not set; give a file, e.g. --config.{name}={_EXAMPLES[name]}")
    controls = Controls.from_config(config)
    signer = Signer.from_files(config.sign_certificate, config.sign_key) if config.sign_certificate else None
    point_to_responsible_use()
    # Bad files are found before the networks are loaded.
    audio_path, image_path = (_file(config, name) for name in ("audio", "image"))
    stages = Stages()
    audio = stages.timed("read", lambda: read_audio(audio_path))
    from vasa_jax.generation.generator import VideoGenerator

    generator = stages.timed(
        "load", lambda: VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=config.mark)
    )
    portrait, notes = stages.timed("read", lambda: generator.read_portrait(image_path, config.crop))
    for note in (*notes, *audio.notes, *controls.ignored(generator.trained_controls)):
        print(f"note: {note}", file=sys.stderr)
    avatar = stages.timed("portrait", lambda: generator.prepare(portrait))
    motion = stages.timed("motion", lambda: generator.motion(audio.samples, avatar, controls))
    frames = stages.timed_items("decode", _flatten(generator.render(avatar, motion, controls.hop)))
    start = time.perf_counter()
    frames = _with_progress(frames, len(motion))
    path = write_generated(config.output, frames, audio, avatar.payload, generator.model, signer)
    stages.seconds["write"] = time.perf_counter() - start - stages.seconds["decode"]
    print(_summary(path, len(motion), generator.image_size, avatar.payload, stages))
    return path


def _file(config: VASAConfig, name: str) -> str | Path:
    """The file that a setting names; `demo` is the one that ships with the package."""
    value = getattr(config, name)
    return DEMO[name] if value == "demo" else value


_EXAMPLES = {"image": "me.jpg", "audio": "hello.wav", "output": "hello.mp4"}


def _flatten(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for batch in batches:
        yield from batch


def _with_progress(frames: Iterable[np.ndarray], total: int) -> Iterator[np.ndarray]:
    from tqdm import tqdm

    return iter(tqdm(frames, total=total, unit="frame", desc="frames", mininterval=0.5, file=sys.stderr))


def _summary(path: Path, frames: int, size: int, payload: Payload | None, stages: Stages) -> str:
    mark = f"mark {payload}" if payload else "NOT marked: config.mark=False"
    lines = [f"{path}: {frames} frames, {frames / 25:.2f} s, {size} x {size}, 25 fps (AI-generated, {mark})"]
    for name, seconds in stages.seconds.items():
        rate = f"{frames / seconds:9.1f} frames/s" if seconds > 0 and name in ("motion", "decode", "write") else ""
        lines.append(f"  {name:<9}{seconds:8.2f} s {rate}".rstrip())
    total = sum(stages.seconds.values())
    lines.append(f"  {'all':<9}{total:8.2f} s {frames / total:9.1f} frames/s")
    return "\n".join(lines)

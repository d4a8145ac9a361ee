"""The `generate` job: portrait and speech in, a video and a summary out."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import vasa_jax
from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS
from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.image_files import existing_file, parse_colour
from vasa_jax.data.output_files import video_output
from vasa_jax.errors import InputError, one_line, say
from vasa_jax.generation.composition import Form, check_sound
from vasa_jax.generation.control_track import controls_of
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.job_list import generate_listed
from vasa_jax.generation.provenance import Signer, point_to_responsible_use
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.generation.watermark import Payload
from vasa_jax.settings import part_of
from vasa_jax.stopping import ended_by_sigterm

if TYPE_CHECKING:
    from vasa_jax.generation.generator import VideoGenerator

T = TypeVar("T")

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


def generate(config: VASAConfig, workdir: str | Path = "") -> Path | list[Path]:
    """Writes `config.output`, prints a summary and returns the path; InputError for a bad or missing input.

    With `config.jobs` it writes every video of that list, see `job_list`. workdir: not used.
    """
    point_to_responsible_use()
    load = functools.cache(_load)
    with ended_by_sigterm():
        if config.jobs:
            return generate_listed(config, lambda job: _generate_one(job, load))
        return _generate_one(config, load)


def _generate_one(config: VASAConfig, load: Callable[..., "VideoGenerator"]) -> Path:
    form = part_of(VideoForm, config)
    for name in ("image", "output") if config.idle else ("image", "audio", "output"):
        if not getattr(config, name):
            raise InputError(f"config.{name}: not set; give a file, e.g. --config.{name}={_EXAMPLES[name]}")
    # Bad files are found before the networks are loaded.
    audio_path, image_path = (_file(config, name) for name in ("audio", "image"))
    given = [image_path, *(name for name in (audio_path, config.controls, config.subtitles, config.backdrop) if name)]
    read = Form.read(form, config.paste, config.limits)
    output = video_output(config.output, given, read.backdrop.transparent)
    check_sound(form, audio_path, "config")
    existing_file(image_path, "picture")
    parse_colour(config.background)
    controls = controls_of(config)
    signer = Signer.from_files(config.sign_certificate, config.sign_key) if config.sign_certificate else None
    stage = Stopwatch()
    with stage("read"):
        audio = read_audio(audio_path, config.limits) if audio_path else None
    with stage("load"):
        generator = load(
            config.checkpoint, config.decode_batch, config.mark, config.size, config.motion_generator
        )
    video = generator.generate(
        image_path, audio, controls, form=form, fps=config.fps or FPS, crop=config.crop,
        background=config.background, paste=config.paste, limits=config.limits, how=part_of(Driving, config),
        stage=stage, payload=asked_payload(config),
    )  # fmt: skip
    for note in video.notes:
        say(f"note: {one_line(note)}", sys.stderr)
    with progress(len(video.motion)) as counted:
        path = video.save(output, stage=stage, progress=counted, signer=signer)
    mark = f"mark {video.avatar.payload}" if config.mark else "NOT marked: config.mark=False"
    say(summary(path, len(video.motion), video.size, mark, stage.seconds, video.fps))
    say(f"  crop      --config.crop={video.crop}")
    return path


def asked_payload(config: VASAConfig) -> Payload | None:
    """Returns the payload that `config.mark_id` asks for, or None."""
    return Payload(int(config.mark_id, 16)) if config.mark_id else None


def _load(checkpoint: str, decode_batch: int, mark: bool, size: int, motion_generator: str) -> "VideoGenerator":
    from vasa_jax.generation.generator import VideoGenerator

    return VideoGenerator.from_pretrained(
        checkpoint, decode_batch, mark=mark, size=size, motion_generator=motion_generator
    )


def _file(config: VASAConfig, name: str) -> str | Path:
    """Returns the file that a setting names; `demo` is the one that ships with the package."""
    value = getattr(config, name)
    return DEMO[name] if value == "demo" else value


_EXAMPLES = {"image": "me.jpg", "audio": "hello.wav", "output": "hello.mp4"}


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[Iterable[T]], Iterator[T]]]:
    """Shows how many frames are written; the bar has its line to itself, also when an error ends it."""
    from tqdm import tqdm

    with tqdm(total=total, unit="frame", desc="frames", mininterval=0.5, file=sys.stderr) as bar:

        def counted(frames: Iterable[T]) -> Iterator[T]:
            for frame in frames:
                yield frame
                bar.update()

        yield counted


def summary(path: Path, frames: int, size: tuple[int, int], mark: str, seconds: dict[str, float], fps=FPS) -> str:
    """Returns the lines about a written video and the time of each stage; size: height and width."""
    seen = f"{frames} frames, {frames / fps:.2f} s, {size[1]} x {size[0]}, {fps:g} fps"
    lines = [f"{one_line(str(path))}: {seen} (AI-generated, {mark})"]
    for name, spent in seconds.items():
        rate = f"{frames / spent:9.1f} frames/s" if spent > 0 and name in ("motion", "decode", "write") else ""
        lines.append(f"  {name:<9}{spent:8.2f} s {rate}".rstrip())
    total = sum(seconds.values())
    lines.append(f"  {'all':<9}{total:8.2f} s {frames / total:9.1f} frames/s")
    return "\n".join(lines)

"""How fast `VASADataset` reads, beside what the codec's training asks for: the table of job `benchmark_reading`."""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vasa_jax.config import ReadingBenchmarkConfig, VASAConfig
from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME
from vasa_jax.data.dataset import VASADataset
from vasa_jax.data.records import Record, encode_jpeg
from vasa_jax.data.shards import FORMATS, Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.files import write_text

TRAINING = 3  # operations of an update over those of its forward pass
SHIFT = 4  # pixels by which frames of the made clips are moved at random, so that no two are the same


@dataclasses.dataclass(frozen=True)
class ReadingSpeed:
    """One row: a view at one picture size with some worker processes (0: by threads of the training process)."""

    view: str
    size: int  # pixels per side
    workers: int
    clips_per_second: float  # median over the repeats: windows of `clips`, pairs of `pairs`
    frames_per_second: float  # decoded pictures
    frames_per_worker: float  # of one process
    megabytes_per_second: float  # of pictures as the model gets them


@dataclasses.dataclass(frozen=True)
class ModelNeed:
    """What training a codec takes from `pairs`, on a device that sustains this many operations per second."""

    variant: str
    size: int
    gflop_per_pair: float  # of an update
    pairs_per_second: float


def benchmark_reading(settings: ReadingBenchmarkConfig, workdir: str | Path) -> list[ReadingSpeed]:
    """Measures, prints the tables and writes reading.md and reading.json.

    Reads `settings.data`; where that is empty, clips that it makes from the package's portrait at each size.
    """
    needs = [model_need(variant, settings.device_tflops) for variant in settings.variants]
    rows = []
    for size in settings.sizes:
        with tempfile.TemporaryDirectory() as folder:
            data = settings.data or write_clips(folder, size, settings.clips, settings.frames)
            for workers in settings.workers:
                rows += [measure(data, view, size, workers, settings) for view in ("clips", "pairs")]
    text = markdown(rows, needs, settings)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    content = {"reading": [dataclasses.asdict(r) for r in rows], "need": [dataclasses.asdict(n) for n in needs]}
    write_text(workdir / "reading.json", json.dumps(content, indent=2) + "\n")
    write_text(workdir / "reading.md", text + "\n")
    print(text)
    return rows


def benchmark_reading_job(config: VASAConfig, workdir: str | Path) -> list[ReadingSpeed]:
    """Does the job `benchmark_reading`."""
    return benchmark_reading(config.reading_benchmark, workdir)


def measure(data: str | Path, view: str, size: int, workers: int, settings: ReadingBenchmarkConfig) -> ReadingSpeed:
    """Reads batches for `settings.seconds`, `settings.repeats` times, after two that open files and processes."""
    dataset = VASADataset(
        data, view=view, batch_size=settings.batch_size, frames=settings.frames, size=size, workers=workers
    )
    batches = iter(dataset)
    try:
        speeds = [_clips_per_second(batches, settings) for _ in range(settings.repeats)]
    finally:
        batches.close()
    clips = statistics.median(speeds)
    frames = clips * (settings.frames if view == "clips" else 2)
    return ReadingSpeed(view, size, workers, clips, frames, frames / max(workers, 1), frames * size * size * 3 / 1e6)


def _clips_per_second(batches, settings: ReadingBenchmarkConfig) -> float:
    for _ in range(2):
        next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < settings.seconds or not count:
        next(batches)
        count += 1
    return count * settings.batch_size / (time.perf_counter() - start)


def model_need(variant: str, device_tflops: float) -> ModelNeed:
    """Returns a pair's work in training: source and driver encoded, a frame decoded, times TRAINING; losses beside."""
    import jax
    import jax.numpy as jnp

    from vasa_jax.models.face import face_codec, init_face
    from vasa_jax.models.variants import FACE_VARIANTS
    from vasa_jax.training.flops import flop_count

    if variant not in FACE_VARIANTS:
        known = ", ".join(FACE_VARIANTS)
        raise InputError(f"config.reading_benchmark.variants: '{variant}' is unknown; choose among {known}")
    encoder, decoder = face_codec(variant)
    size = encoder.image_size
    params = jax.eval_shape(lambda: init_face(jax.random.key(0), variant))

    def forward(params, source, driver):
        latents = encoder.apply({"params": params["encoder"]}, source, method="encode")
        pose, dynamics = encoder.apply({"params": params["encoder"]}, driver, method="encode_motion")
        return decoder.apply({"params": params["decoder"]}, latents.appearance, latents.identity, pose, dynamics)

    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    gflop = TRAINING * flop_count(forward, params, image, image) / 1e9
    return ModelNeed(variant, size, gflop, device_tflops * 1e3 / gflop)


def write_clips(folder: str | Path, size: int, clips: int, frames: int) -> Path:
    """Writes shards of clips to measure with: the package's portrait, moved a little in each frame, and a sentence."""
    folder = Path(folder)
    write_shard(folder, Shard("train", 0, 1), _clips(size, clips, frames), FORMATS[:1])
    write_manifest(folder)
    return folder


def _clips(size: int, clips: int, frames: int) -> Iterator[Record]:
    import cv2

    from vasa_jax.data.audio_files import read_audio
    from vasa_jax.data.image_files import read_image

    demo = Path(__file__).parents[1] / "pretrained" / "demo"
    side = size + 2 * SHIFT
    portrait = cv2.resize(read_image(demo / "portrait.png"), (side, side), interpolation=cv2.INTER_AREA)
    sound = np.round(read_audio(demo / "speech.wav").samples * 32767).astype(np.int16)
    rng = np.random.default_rng(0)
    for number in range(clips):
        corners = rng.integers(0, 2 * SHIFT + 1, (frames, 2))
        yield Record(
            clip_id=f"clip-{number}", person_id=f"person-{number}", split="train", source="the package's portrait",
            fps=float(FPS), frames=tuple(encode_jpeg(portrait[y : y + size, x : x + size]) for x, y in corners),
            audio=np.resize(sound, frames * SAMPLES_PER_FRAME), pose=np.zeros((frames, 9), np.float32),
        )  # fmt: skip


def markdown(rows: Sequence[ReadingSpeed], needs: Sequence[ModelNeed], settings: ReadingBenchmarkConfig) -> str:
    """Writes both tables. Workers needed: what training takes over what one worker process gives, at the same size."""
    what = settings.data or "clips made from the package's portrait"
    lines = [
        f"{what}; windows of {settings.frames} frames, batches of {settings.batch_size}\n",
        "| view | size | workers | clips/s | frames/s | frames/s per worker | MB/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r.view} | {r.size} | {r.workers} | {r.clips_per_second:.1f} | {r.frames_per_second:.0f} "
            f"| {r.frames_per_worker:.0f} | {r.megabytes_per_second:.0f} |"
        )
    lines += [
        f"\nTraining on a device that sustains {settings.device_tflops:g} TFLOP/s:\n",
        "| codec | size | GFLOP per pair | pairs/s | workers needed |",
        "|---|---|---|---|---|",
    ]
    for need in needs:
        one = [r.clips_per_second / max(r.workers, 1) for r in rows if (r.view, r.size) == ("pairs", need.size)]
        workers = f"{need.pairs_per_second / max(one):.1f}" if one else "not measured"
        lines.append(
            f"| {need.variant} | {need.size} | {need.gflop_per_pair:.0f} | {need.pairs_per_second:.0f} | {workers} |"
        )
    return "\n".join(lines)

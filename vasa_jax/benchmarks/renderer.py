"""How fast the renderer is: frames per second, operations per frame and compile time at several sizes."""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from vasa_jax.config import RendererBenchmarkConfig, VASAConfig
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.files import write_text
from vasa_jax.training.flops import flop_count

SIZES = (64, 128, 256, 512)
# Frames rendered at once: enough to fill the device, few enough to fit any.
BATCHES: dict[str, dict[int, int]] = {
    "cpu": {64: 8, 128: 4, 256: 1, 512: 1},
    "accelerator": {64: 512, 128: 128, 256: 32, 512: 8},
}


@dataclasses.dataclass(frozen=True)
class RenderSpeed:
    """One row of the table."""

    size: int  # pixels per side
    supersample: int  # rays per pixel side
    batch: int  # frames rendered at once
    frames_per_second: float  # median over the repeats, pictures left on the device
    slowest: float  # frames per second of the slowest repeat
    gflop_per_frame: float  # by flop_count: loops multiplied out
    gflops: float  # operations per second, 1e9
    compile_seconds: float  # of the first call; short when the program was in the compilation cache
    device: str


def render_benchmark(
    sizes: Sequence[int] = SIZES,
    batches: Mapping[int, int] | None = None,
    repeats: int = 5,
    supersample: int = 2,
) -> list[RenderSpeed]:
    """Measures the renderer on the default device, one row per size.

    Random heads in random stills, `batches[size]` at a time; a repeat lasts a quarter of a second or one
    batch, whichever is longer. batches: frames at once by size; BATCHES of the platform where not given.
    """
    device = jax.devices()[0]
    usual = BATCHES["cpu" if device.platform == "cpu" else "accelerator"]
    at_once = {size: (batches or {}).get(size) or usual[min(usual, key=lambda s: abs(s - size))] for size in sizes}
    who, how = (jax.random.split(key, max(at_once.values())) for key in jax.random.split(jax.random.key(0)))
    heads = jax.jit(jax.vmap(sample_identity))(who), jax.jit(jax.vmap(sample_motion))(how)
    return [_measure(size, batch, heads, repeats, supersample, device.device_kind) for size, batch in at_once.items()]


def benchmark_renderer(settings: RendererBenchmarkConfig, workdir: str | Path) -> list[RenderSpeed]:
    """Prints the table and writes renderer.md and renderer.json."""
    batches = dict(zip(settings.sizes, settings.batch_sizes))
    rows = render_benchmark(settings.sizes, batches, settings.repeats, settings.supersample)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / "renderer.md", markdown(rows) + "\n")
    write_text(workdir / "renderer.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    print(markdown(rows))
    return rows


def benchmark_renderer_job(config: VASAConfig, workdir: str | Path) -> list[RenderSpeed]:
    """Does the job `benchmark_renderer`."""
    return benchmark_renderer(config.renderer_benchmark, workdir)


def markdown(rows: Sequence[RenderSpeed]) -> str:
    """Writes the rows as a table."""
    lines = [
        "| size | rays per pixel | batch | frames/s | slowest repeat | GFLOP/frame | GFLOP/s | compile s | device |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.size} | {row.supersample**2} | {row.batch} | {row.frames_per_second:.1f} | {row.slowest:.1f} "
            f"| {row.gflop_per_frame:.2f} | {row.gflops:.0f} | {row.compile_seconds:.1f} | {row.device} |"
        )
    return "\n".join(lines)


def _measure(size: int, batch: int, heads: tuple, repeats: int, supersample: int, device: str) -> RenderSpeed:
    identity, motion = jax.tree.map(lambda values: values[:batch], heads)
    picture = functools.partial(_picture, size=size, supersample=supersample)
    start = time.perf_counter()
    program = jax.jit(picture).lower(identity, motion).compile()
    compile_seconds = time.perf_counter() - start

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            result = program(identity, motion)
        jax.block_until_ready(result)
        return time.perf_counter() - start

    seconds(1)  # the first call also loads the program
    calls = max(1, round(0.25 / seconds(1)))
    speeds = [calls * batch / seconds(calls) for _ in range(repeats)]
    gflop = flop_count(picture, identity, motion) / batch / 1e9
    speed = statistics.median(speeds)
    return RenderSpeed(size, supersample, batch, speed, min(speeds), gflop, gflop * speed, compile_seconds, device)


def _picture(identity, motion, size: int, supersample: int):
    """What the render cache keeps of an image."""
    out = render(identity, motion, size, supersample)
    return {"rgb": to_uint8(out["rgb"]), "background": to_uint8(out["background"]), "segmentation": out["segmentation"]}

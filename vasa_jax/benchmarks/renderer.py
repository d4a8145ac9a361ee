"""How fast the renderers are: frames per second, operations per frame and compile time at several sizes."""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from vasa_jax.config import PhotoHeadsConfig, RendererBenchmarkConfig, VASAConfig
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.corpus.photos.draw import Head, PhotoRenderer
from vasa_jax.corpus.photos.groups import Shares, drawn_photos, sample_face, usual_poses
from vasa_jax.corpus.photos.store import read_heads
from vasa_jax.corpus.photos.topology import Mesh, face_mesh
from vasa_jax.files import write_text
from vasa_jax.training.flops import flop_count

SIZES = (64, 128, 256, 512)
PHOTO_HEADS, MOTIONS = 2, 12  # drawn at once
# Frames rendered at once: enough to fill the device, few enough to fit any.
BATCHES: dict[str, dict[int, int]] = {
    "cpu": {64: 8, 128: 4, 256: 1, 512: 1},
    "accelerator": {64: 512, 128: 128, 256: 32, 512: 8},
}


@dataclasses.dataclass(frozen=True)
class RenderSpeed:
    """One row of the table."""

    heads: str  # rendered, or photo heads
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
    drawn = jax.jit(jax.vmap(sample_identity))(who), jax.jit(jax.vmap(sample_motion))(how)
    rows = []
    for size, batch in at_once.items():
        picture = functools.partial(_picture, size=size, supersample=supersample)
        given = jax.tree.map(lambda values, batch=batch: values[:batch], drawn)
        rows.append(_measure("rendered", size, batch, picture, given, repeats, supersample))
    return rows


def photo_benchmark(heads: Head, mesh: Mesh, sizes: Sequence[int], repeats: int, supersample: int) -> list[RenderSpeed]:
    """Measures the renderer of photo heads (P, ...), all of them in MOTIONS faces at once, one row per size."""
    shares = Shares.of(PhotoHeadsConfig())
    faces = jax.vmap(sample_face, (0, None))(jax.random.split(jax.random.key(0), MOTIONS), shares)
    count = len(heads["pose"])
    given = {name: jnp.asarray(value) for name, value in heads.items()}, faces, usual_poses(faces)
    rows = []
    for size in sizes:
        picture = functools.partial(drawn_photos, renderer=PhotoRenderer(mesh, size, supersample))
        rows.append(_measure("photo heads", size, count * MOTIONS, picture, given, repeats, supersample))
    return rows


def benchmark_renderer(
    settings: RendererBenchmarkConfig, workdir: str | Path, photo_heads: str = "", models: str = ""
) -> list[RenderSpeed]:
    """Prints the table and writes renderer.md and renderer.json.

    photo_heads: output of job fit_photos; PHOTO_HEADS of them are drawn too, with the mesh of the folder `models`.
    Empty = none.
    """
    batches = dict(zip(settings.sizes, settings.batch_sizes))
    heads = read_heads(photo_heads) if photo_heads else {}  # what is wrong with it is said before work starts
    mesh = face_mesh(models) if heads else None
    rows = render_benchmark(settings.sizes, batches, settings.repeats, settings.supersample)
    if mesh is not None:
        heads.pop("photograph")
        some = {name: value[:PHOTO_HEADS] for name, value in heads.items()}
        rows += photo_benchmark(some, mesh, settings.sizes, settings.repeats, settings.supersample)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / "renderer.md", markdown(rows) + "\n")
    write_text(workdir / "renderer.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    print(markdown(rows))
    return rows


def benchmark_renderer_job(config: VASAConfig, workdir: str | Path) -> list[RenderSpeed]:
    """Does the job `benchmark_renderer`."""
    return benchmark_renderer(config.renderer_benchmark, workdir, config.photo_heads.folder, config.photos.models)


def markdown(rows: Sequence[RenderSpeed]) -> str:
    """Writes the rows as a table."""
    lines = [
        "| heads | size | rays per pixel | batch | frames/s | slowest repeat "
        "| GFLOP/frame | GFLOP/s | compile s | device |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.heads} | {row.size} | {row.supersample**2} | {row.batch} | {row.frames_per_second:.1f} "
            f"| {row.slowest:.1f} | {row.gflop_per_frame:.2f} | {row.gflops:.0f} | {row.compile_seconds:.1f} "
            f"| {row.device} |"
        )
    return "\n".join(lines)


def _measure(
    heads: str, size: int, batch: int, picture: Callable, given: tuple, repeats: int, supersample: int
) -> RenderSpeed:
    device = jax.devices()[0].device_kind
    start = time.perf_counter()
    program = jax.jit(picture).lower(*given).compile()
    compile_seconds = time.perf_counter() - start

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            result = program(*given)
        jax.block_until_ready(result)
        return time.perf_counter() - start

    seconds(1)  # the first call also loads the program
    calls = max(1, round(0.25 / seconds(1)))
    speeds = [calls * batch / seconds(calls) for _ in range(repeats)]
    gflop = flop_count(picture, *given) / batch / 1e9
    rate = statistics.median(speeds)
    return RenderSpeed(heads, size, supersample, batch, rate, min(speeds), gflop, gflop * rate, compile_seconds, device)


def _picture(identity, motion, size: int, supersample: int):
    """What the render cache keeps of an image."""
    out = render(identity, motion, size, supersample)
    return {"rgb": to_uint8(out["rgb"]), "background": to_uint8(out["background"]), "segmentation": out["segmentation"]}

"""How fast each stage of generation is on this machine: a table on the console and in the workdir.

Parameters are random: speed does not depend on them, and any size can be measured without weights.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vasa_jax.benchmarks.live import live_points, live_table
from vasa_jax.benchmarks.marking import mark_cost, mark_table
from vasa_jax.benchmarks.random_model import model_conditions, random_like
from vasa_jax.benchmarks.update import timed_update, update_table
from vasa_jax.config import BenchmarkConfig, VASAConfig
from vasa_jax.conventions import MOTION_DIM, SAMPLES_PER_FRAME
from vasa_jax.diffusion import VASADiffusion, active_guidance
from vasa_jax.dtypes import compute_dtype
from vasa_jax.files import write_text
from vasa_jax.generation.speech_features import MARGIN, PIECE
from vasa_jax.generation.windows import no_past, sample_windows
from vasa_jax.models.audio import pair_mean
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.models.face import face_codec, init_face
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.models.motion import VASADiffusionTransformer, cast_products
from vasa_jax.models.streaming_audio import StreamingAudioEncoder, silent_state
from vasa_jax.models.variants import AUDIO_VARIANTS, MOTION_VARIANTS
from vasa_jax.training.flops import flop_count


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured stage."""

    stage: str
    milliseconds: float  # per call, median
    frames_per_second: float  # video frames that a call serves, per second
    gflop: float  # per call, loops multiplied out
    parameters: int  # of the networks that it has to have at hand
    peak_megabytes: float  # arguments, outputs and temporaries of the compiled call
    compile_seconds: float


def measure(stage: str, function: Callable, arguments: tuple, frames: float, repeats: int) -> Row:
    """Compiles `function` for `arguments` and times it: the median of `repeats` calls after one that does not count.

    The first argument holds the parameters of its networks.
    """
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    seconds = float(np.median(times))
    memory = compiled.memory_analysis()
    peak = sum(getattr(memory, f"{part}_size_in_bytes", 0) for part in ("argument", "output", "temp"))
    gflop = flop_count(function, *arguments) / 1e9
    logging.info("%s: %.2f ms", stage, 1e3 * seconds)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(arguments[0]))
    return Row(stage, 1e3 * seconds, frames / seconds, gflop, parameters, peak / 1e6, compile_seconds)


def face_rows(variant: str, settings: BenchmarkConfig, dtype) -> list[Row]:
    """Measures the portrait (once per video) and decoding at every batch size."""
    encoder, decoder = face_codec(variant, dtype)
    # Kernels as the generator holds them, standardised beforehand.
    shapes = jax.eval_shape(lambda: init_face(jax.random.key(0), variant))
    params = jax.jit(fold_standardisation)(random_like(shapes))
    image = jnp.full((1, encoder.image_size, encoder.image_size, 3), 0.5)

    def encode(params, image):
        return encoder.apply({"params": params}, image, method="encode")

    def decode(params, latents, pose, dynamics):
        return decoder.apply({"params": params}, latents.appearance, latents.identity, pose, dynamics)[:2]

    rows = [measure(f"{variant}: portrait", encode, (params["encoder"], image), 1, settings.repeats)]
    latents = jax.jit(encode)(params["encoder"], image)
    for batch in settings.batch_sizes:
        pose, dynamics = (jnp.repeat(x, batch, 0) for x in (latents.pose, latents.dynamics))
        arguments = (params["decoder"], latents, pose, dynamics)
        rows.append(measure(f"{variant}: decode, batch {batch}", decode, arguments, batch, settings.repeats))
    return rows


def audio_rows(variant: str, settings: BenchmarkConfig, dtype) -> list[Row]:
    """Measures one piece of sound as the generator cuts it; of a streaming encoder also one step of a stream."""
    encoder = audio_encoder(AUDIO_VARIANTS[variant], dtype)
    samples = jnp.zeros((1, (PIECE + 2 * MARGIN) * 640 + 80))
    params = random_like(jax.eval_shape(encoder.init, jax.random.key(0), samples))["params"]

    def features(params, samples):
        return pair_mean(encoder.apply({"params": params}, samples))

    rows = [measure(f"{variant}: {PIECE / 25:g} s of sound", features, (params, samples), PIECE, settings.repeats)]
    if isinstance(encoder, StreamingAudioEncoder):

        def step(params, state, samples):
            return encoder.apply({"params": params}, state, samples, method="step")

        arguments = (params, silent_state(encoder, params), samples[:, :SAMPLES_PER_FRAME])
        rows.append(measure(f"{variant}: 40 ms of a stream", step, arguments, 1, settings.repeats))
    return rows


def motion_rows(variant: str, config: VASAConfig, dtype) -> list[Row]:
    """Measures one window of the sampler, all guidance branches, at every number of steps and of windows at once."""
    settings, fields = config.benchmark, MOTION_VARIANTS[variant]
    model, diffusion = VASADiffusionTransformer(**fields, dtype=dtype), VASADiffusion()
    guidance = active_guidance(audio=config.audio_guidance, gaze=config.gaze_guidance)
    scales = {name: jnp.float32(scale) for name, scale in guidance.items()}
    noisy, t = jnp.zeros((1, model.window, MOTION_DIM)), jnp.zeros((1,), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), noisy, t, model_conditions(model, 1))
    # As the generator holds them.
    params = cast_products(random_like(shapes)["params"], dtype)
    on_cpu = jax.default_backend() == "cpu"
    rows = []
    for batch in settings.window_batches or ((1,) if on_cpu else (1, 16, 64)):
        conditions = model_conditions(model, batch)._replace(prev_motion=None, prev_mask=None)
        past, one = no_past(batch, model.previous, model.motion_dim), jnp.ones((), jnp.int32)
        window = jax.tree.map(lambda leaf: leaf[None], (one * model.window, jax.random.key(0), conditions, scales))
        for steps in settings.window_steps:

            def sample(*arguments, steps=steps):
                return sample_windows(model, diffusion, steps, config.solver, *arguments)

            name = (
                f"{variant}: {model.window} frames, {steps} {config.solver} steps, {1 + len(scales)} branches, "
                f"batch {batch}"
            )
            arguments = (params, past, one, *window)
            rows.append(measure(name, sample, arguments, batch * model.window, settings.repeats))
    return rows


def table(rows: list[Row]) -> str:
    """Returns rows as a Markdown table headed by the device."""
    lines = [
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}",
        "",
        "| stage | ms | frames/s | GFLOP | M parameters | peak MB | compile s |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r.stage} | {r.milliseconds:.2f} | {r.frames_per_second:.1f} | {r.gflop:.2f} "
            f"| {r.parameters / 1e6:.2f} | {r.peak_megabytes:.0f} | {r.compile_seconds:.1f} |"
        )
    return "\n".join(lines)


def benchmark(config: VASAConfig, workdir: str | Path) -> list[Row]:
    """Prints the tables and writes benchmark.md and benchmark.json; the rows of the stages. No live points without a
    codec, an audio encoder and a motion transformer."""
    settings, dtype = config.benchmark, compute_dtype(config.train.precision)
    rows = [row for name in settings.audio_variants for row in audio_rows(name, settings, dtype)]
    for name in settings.motion_variants:
        rows += motion_rows(name, config, dtype)
    for name in settings.variants:
        rows += face_rows(name, settings, dtype)
    updates = [timed_update(name, batch, config) for name in settings.variants for batch in settings.update_batches]
    marks = [
        mark_cost(name, batch, settings.repeats, dtype)
        for name in settings.variants
        for batch in settings.mark_batches
    ]
    live = settings.variants and settings.audio_variants and settings.motion_variants
    points = live_points(config, dtype) if live else []
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    optional = [(update_table, updates), (mark_table, marks), (live_table, points)]
    tables = "\n\n".join([table(rows), *(as_table(measured) for as_table, measured in optional if measured)])
    write_text(workdir / "benchmark.md", tables + "\n")
    parts = {"stages": rows, "updates": updates, "marks": marks, "live": points}
    measured = {name: [dataclasses.asdict(row) for row in part] for name, part in parts.items()}
    write_text(workdir / "benchmark.json", json.dumps(measured, indent=2) + "\n")
    print(tables)
    return rows

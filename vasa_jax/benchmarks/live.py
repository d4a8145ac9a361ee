"""Live operating points on this machine: latency of the first frame, and how many sessions run without a stall.

A point is a hop, a look-ahead, a number of solver steps and a number of sessions. Every session receives one hop of
sound per hop of time; all of them come due together, which is the worst case, and one batched call makes their windows.
A stall is a call that takes longer than the hop lasts: the next one is then late. The latency of the first frame is
the sound that it needs and the computation. Parameters are random: speed does not depend on them.
"""

import dataclasses
import time

import jax
import numpy as np
from absl import logging

from vasa_jax.benchmarks.random_model import random_generator
from vasa_jax.config import VASAConfig
from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.generation.animator import Avatar
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.generator import VideoGenerator


@dataclasses.dataclass(frozen=True)
class LivePoint:
    """One measured operating point; times in milliseconds."""

    variants: str  # of codec, audio encoder and motion transformer
    hop: int  # frames
    look_ahead: int
    steps: int
    branches: int  # of the sampler
    sessions: int
    sound: float  # that the first frame needs
    median: float  # of the call that makes one window of every session, pictures on the host
    p95: float
    p99: float
    latency: float  # of the first frame: sound + p95
    frames_per_second: float  # over all sessions, at the median
    stalls: float  # share of calls longer than the hop


def live_points(config: VASAConfig, dtype) -> list[LivePoint]:
    """Measures every hop and number of steps over growing numbers of sessions, up to the first with over 1 % stalls."""
    settings, on_cpu = config.benchmark, jax.default_backend() == "cpu"
    names = (settings.variants[0], settings.audio_variants[0], settings.motion_variants[0])
    generator = random_generator(*names, dtype)
    avatar = generator.prepare(np.full((generator.image_size, generator.image_size, 3), 128, np.uint8))
    points = []
    for hop in settings.live_hops or ((2, 10) if on_cpu else (1, 2, 5, 10)):
        for steps in settings.live_steps:
            controls = Controls.from_config(dataclasses.replace(config, hop=hop, steps=steps))
            for sessions in settings.live_sessions or ((1,) if on_cpu else (1, 8, 16, 32, 40, 48, 64)):
                points.append(measure_live(generator, avatar, controls, sessions, settings.live_calls, "/".join(names)))
                logging.info("live: %s", points[-1])
                if points[-1].stalls > 0.01:
                    break
    return points


def measure_live(
    generator: VideoGenerator, avatar: Avatar, controls: Controls, sessions: int, calls: int, variants: str
) -> LivePoint:
    """Runs `sessions` streams through `calls` hops, after one that compiles and does not count."""
    batch = generator.stream_batch(sessions, controls)
    opened = [batch.open(avatar) for _ in range(sessions)]
    rng = np.random.default_rng(0)
    needed, times = batch.first_frame_samples, []
    for _ in range(calls + 1):
        sound = (0.1 * rng.standard_normal(needed)).astype(np.float32)
        for session in opened:
            session.write(sound)
        needed = 640 * controls.hop
        start = time.perf_counter()
        made = batch.advance()
        times.append(1e3 * (time.perf_counter() - start))
        assert len(made) == sessions and all(len(frames) == controls.hop for _, frames in made)
    times, period = np.array(times[1:]), 40.0 * controls.hop
    median, p95, p99 = (float(np.percentile(times, share)) for share in (50, 95, 99))
    sound_ms = 1e3 * batch.first_frame_samples / SAMPLE_RATE
    return LivePoint(
        variants=variants,
        hop=controls.hop,
        look_ahead=controls.look_ahead,
        steps=controls.steps,
        branches=1 + len(batch.guided),
        sessions=sessions,
        sound=sound_ms,
        median=median,
        p95=p95,
        p99=p99,
        latency=sound_ms + p95,
        frames_per_second=1e3 * sessions * controls.hop / median,
        stalls=float(np.mean(times > period)),
    )


def live_table(points: list[LivePoint]) -> str:
    """Writes points as a Markdown table headed by the device."""
    lines = [
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}, live: {points[0].variants}",
        "",
        "| hop | look-ahead | steps | branches | sessions | sound ms | compute ms: median | p95 | p99 | first frame ms "
        "| frames/s | stalls |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for p in points:
        lines.append(
            f"| {p.hop} | {p.look_ahead} | {p.steps} | {p.branches} | {p.sessions} | {p.sound:.0f} | {p.median:.1f} "
            f"| {p.p95:.1f} | {p.p99:.1f} | {p.latency:.0f} | {p.frames_per_second:.0f} | {100 * p.stalls:.0f} % |"
        )
    return "\n".join(lines)

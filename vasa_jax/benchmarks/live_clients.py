"""Live avatars as their clients see them, for growing numbers of sessions: the table of job `benchmark_live`.

A studio of its own, or one that runs already, serves clients of this machine (`live_client.py`), all at once. They
speak the shipped sentence without a pause, so that every hop has sound.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vasa_jax.benchmarks.live_client import LiveClient, request, speak_together
from vasa_jax.config import VASAConfig
from vasa_jax.data.audio_files import read_audio
from vasa_jax.errors import InputError
from vasa_jax.files import write_text
from vasa_jax.generation.job import DEMO
from vasa_jax.serving.job import KEY_VARIABLE, needs_the_extra

TOLD = 15.0  # seconds after which it is said again what is waited for
SETTLED = 0.5  # of a run: latency is that of the rest


@dataclasses.dataclass(frozen=True)
class LiveFigures:
    """One row: so many sessions at once. Means over the sessions, where nothing else is said."""

    sessions: int
    first_frame: float  # seconds from the request to the first picture here, of the slowest session
    latency: float  # median seconds from a sound's beginning to the arrival of its picture, once it is settled
    late: float  # share of hops
    skipped: float  # seconds, all sessions together
    behind: float  # most seconds behind the clock
    frames_per_second: float  # drawn, of one session
    skew: float  # most seconds by which the ends of pictures and sound move against each other
    cores: float  # that the studio used
    memory: float  # MiB of the studio
    gpu: float | None  # share of the time; None where there is none


def benchmark_live(config: VASAConfig, workdir: str | Path) -> list[LiveFigures]:
    """Does the job `benchmark_live`: prints the table and writes live.md and live.json."""
    needs_the_extra()
    settings, rows = config.live_benchmark, []
    with contextlib.ExitStack() as stack:
        address = settings.address.rstrip("/") or stack.enter_context(own_studio(config, max(settings.sessions)))
        logging.info("live: the studio compiles its first hop, for at most %g s ...", settings.start)
        begun = time.monotonic()
        speak_together(_clients(address, 1, 1.0, settings.start))  # which does not count
        logging.info("live: compiled and heard after %.1f s", time.monotonic() - begun)
        for sessions in settings.sessions:
            rows.append(measure(address, sessions, settings.seconds, settings.start))
            logging.info("live: %s", rows[-1])
    text, workdir = markdown(rows, settings.seconds), Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / "live.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    write_text(workdir / "live.md", text + "\n")
    print(text)
    return rows


@contextlib.contextmanager
def own_studio(config: VASAConfig, sessions: int) -> Iterator[str]:
    """Yields the address of a studio in a process of its own, with seats for `sessions`.

    InputError where it ends, or is not open after `config.live_benchmark.start` seconds.
    """
    settings = {
        "checkpoint": config.checkpoint, "size": config.size, "studio.port": 0, "studio.live_sessions": sessions,
        "studio.live_steps": config.studio.live_steps, "studio.live_least_steps": config.studio.live_least_steps,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "vasa_jax.main", "--config", "studio", f"--workdir={folder}/jobs"]
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, *(f"--config.{name}={value}" for name, value in settings.items())],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            begun, told, most = time.monotonic(), 0.0, config.live_benchmark.start
            while not (found := re.search(r"open (http://\S+)/", said := log.read_text())):
                waited, line = time.monotonic() - begun, (said.strip().splitlines() or ["it said nothing"])[-1]
                if process.poll() is not None:
                    raise InputError(f"studio: did not start ({line}); start it by itself and give its address")
                if waited > most:
                    raise InputError(
                        f"studio: not open after {most:g} s ({line}); raise config.live_benchmark.start, or start it "
                        "by itself and give its address"
                    )
                if waited > told + TOLD:
                    told = waited
                    logging.info("live: waits for the studio, %.0f of at most %g s (%s)", waited, most, line)
                time.sleep(0.1)
            yield found[1]
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure(address: str, sessions: int, seconds: float, patience: float) -> LiveFigures:
    """Has clients speak at once for some seconds, and counts what they and the studio noted.

    patience: seconds in which a session must open.
    """
    clients, before, start = _clients(address, sessions, seconds, patience), usage(address), time.monotonic()
    speak_together(clients)
    after, wall = usage(address), time.monotonic() - start
    arrivals = [client.arrivals for client in clients]
    if not all(arrivals):
        raise InputError(f"config.live_benchmark.seconds: {seconds:g} is too short for a hop; give it more")
    told = [[one.about for one in hops] for hops in arrivals]
    settled = [one.latency for hops in arrivals for one in hops[round(SETTLED * len(hops)) :]]
    return LiveFigures(
        sessions=sessions,
        first_frame=max(hops[0].at for hops in arrivals),
        latency=statistics.median([latency for latency in settled if latency is not None] or [math.nan]),
        late=statistics.mean(statistics.mean(about["late"] for about in hops) for hops in told),
        skipped=sum(about["seconds"] for hops in told for about in hops if about["skipped"]),
        behind=max(about["behind"] for hops in told for about in hops),
        frames_per_second=statistics.mean(
            sum(about["rate"] * about["seconds"] for about in hops) / sum(about["seconds"] for about in hops)
            for hops in told
        ),
        skew=max(abs(one.skew - hops[0].skew) for hops in arrivals for one in hops),
        cores=(after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]) / wall,
        memory=after["process_resident_memory_bytes"] / 2**20,
        gpu=_gpu_share(told),
    )


def _gpu_share(told: Sequence[Sequence[dict]]) -> float | None:
    shares = [about["gpu"] for hops in told for about in hops if about["gpu"] is not None]
    return statistics.mean(shares) if shares else None


def usage(address: str) -> dict[str, float]:
    """Returns the studio's own figures, those of /metrics that have no labels."""
    text = request(address, "/metrics", _headers(), method="GET").decode()
    return {name: float(value) for name, value in re.findall(r"(?m)^(\w+) (\S+)$", text)}


def markdown(rows: Sequence[LiveFigures], seconds: float) -> str:
    """Writes rows as a Markdown table."""
    lines = [
        f"{seconds:g} s each, {os.cpu_count()} cores",
        "",
        "| sessions | first frame s | latency s | late hops | skipped s | behind s | frames/s | A/V skew ms | cores "
        "| MiB | GPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gpu = "none" if row.gpu is None else f"{100 * row.gpu:.0f} %"
        lines.append(
            f"| {row.sessions} | {row.first_frame:.2f} | {row.latency:.2f} | {100 * row.late:.1f} % "
            f"| {row.skipped:.1f} | {row.behind:.2f} | {row.frames_per_second:.1f} | {1000 * row.skew:.0f} "
            f"| {row.cores:.2f} | {row.memory:.0f} | {gpu} |"
        )
    return "\n".join(lines)


def _clients(address: str, count: int, seconds: float, patience: float) -> list[LiveClient]:
    samples = np.round(32767 * read_audio(DEMO["audio"]).samples).astype("<i2")
    portrait = DEMO["image"].read_bytes()
    return [LiveClient(address, _headers(), portrait, samples, seconds, patience) for _ in range(count)]


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "")
    return {"Authorization": f"Bearer {key}"} if key else {}

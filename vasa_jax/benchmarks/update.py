"""Times an update of stage 1: the trainer's own compiled update, again and again on one batch of the corpus."""

import dataclasses
import time

import jax
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.training.cost import UpdateCost
from vasa_jax.training.jobs import make_task
from vasa_jax.training.optimizer import Schedule
from vasa_jax.training.sharding import place_batch
from vasa_jax.training.train_step import TrainStep


@dataclasses.dataclass(frozen=True)
class TimedUpdate:
    """One update of a codec; nothing but the update is in its time."""

    variant: str
    batch: int  # pairs, over all devices
    seconds: float
    compile_seconds: float
    cost: UpdateCost


def timed_update(variant: str, batch: int, config: VASAConfig) -> TimedUpdate:
    """Compiles the update of `variant` for `batch` pairs on all devices, and times config.benchmark.repeats in a row.

    Two before them do not count. As in the trainer's loop the host waits for none of them but the last. Settings of the
    update are config.train's and config.face's.
    """
    train = dataclasses.replace(config.train, batch_size=batch)
    # Two groups of the corpus are enough: how long an update takes does not depend on what is in the batch.
    corpus = dataclasses.replace(config.corpus, groups=2, chunk=1, refresh=0)
    face = dataclasses.replace(config.face, variant=variant)
    task = make_task(dataclasses.replace(config, job="train_face", train=train, corpus=corpus, face=face))
    train_step = TrainStep(task, train, config.seed)
    spread = train_step.batch_sharding
    state = train_step.new_state()
    data = task.data(spread) if train_step.mesh.size > 1 else task.data()
    pairs = place_batch(next(data), spread)
    rates, arguments = train_step.rates(Schedule(train).rates(0)), train_step.arguments(0)
    start = time.perf_counter()
    update, cost = train_step.compile(state, pairs, rates, arguments)
    compile_seconds = time.perf_counter() - start
    for _ in range(2):
        state, metrics = update(state, pairs, rates, arguments)
    jax.block_until_ready((state, metrics))
    repeats, start = config.benchmark.repeats, time.perf_counter()
    for _ in range(repeats):
        state, metrics = update(state, pairs, rates, arguments)
    jax.block_until_ready((state, metrics))
    seconds = (time.perf_counter() - start) / repeats
    logging.info("%s, %d pairs: an update in %.2f ms", variant, batch, 1e3 * seconds)
    return TimedUpdate(variant, batch, seconds, compile_seconds, cost)


def update_table(updates: list[TimedUpdate]) -> str:
    """Writes a Markdown table; the TFLOP/s are one device's, for the work that the model asks for."""
    lines = [
        "| update of stage 1 | devices | ms | pairs/s | TFLOP | TFLOP/s per device | temporaries, GiB | compile s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for u in updates:
        tflop, devices = u.cost.flop / 1e12, u.cost.devices
        lines.append(
            f"| {u.variant}, {u.batch} pairs | {devices} | {1e3 * u.seconds:.1f} | {u.batch / u.seconds:.1f} "
            f"| {tflop:.3g} | {tflop / u.seconds / devices:.3g} | {u.cost.temporary_gib:.2f} "
            f"| {u.compile_seconds:.0f} |"
        )
    return "\n".join(lines)

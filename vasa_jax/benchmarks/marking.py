"""What the invisible mark costs: compiled calls with it against the same calls without it, in turn."""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from vasa_jax.benchmarks.random_model import random_like
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.generation.watermark import finished
from vasa_jax.models.face import init_face
from vasa_jax.models.variants import FACE_VARIANTS


@dataclasses.dataclass(frozen=True)
class MarkCost:
    """Decoding with and without the mark; milliseconds per frame and shares of an unmarked frame."""

    variant: str
    batch: int  # frames at once
    clock: str  # CPU time of all threads, which other programs disturb little; on accelerators wall time
    pairs: int
    unmarked: float  # median
    marked: float  # median
    share: float  # median over the pairs of (marked - unmarked) / unmarked
    quartiles: tuple[float, float]  # of the same
    alone: float  # what it adds to the last step of decoding when that runs alone, which other programs disturb less


def mark_cost(variant: str, batch: int, pairs: int, dtype) -> MarkCost:
    """Times `pairs` of calls, after one each that does not count; who goes first changes from pair to pair."""
    shapes = jax.eval_shape(lambda: init_face(jax.random.key(0), variant))
    animator = PortraitAnimator((random_like(shapes), {"fields": FACE_VARIANTS[variant]}), batch, dtype)
    grey = np.full((animator.image_size, animator.image_size, 3), 128, np.uint8)
    avatar = animator.prepare(grey)
    avatars = {"marked": avatar, "unmarked": dataclasses.replace(avatar, payload=None, pattern=None)}
    motion = np.repeat(avatar.motion[None], batch, 0)
    on_cpu = jax.default_backend() == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    marked, unmarked = _in_turn(lambda name: animator.decode(avatars[name], motion, batch), pairs, clock) / batch
    low, share, high = np.percentile((marked - unmarked) / unmarked, (25, 50, 75))
    rng = np.random.default_rng(0)
    pictures = jax.device_put(255 * rng.random((batch, *grey.shape), np.float32))
    alone = _in_turn(lambda name: finished(pictures, avatars[name].pattern), pairs, clock) / batch
    cost = MarkCost(
        variant, batch, "CPU" if on_cpu else "wall", pairs, float(np.median(unmarked)), float(np.median(marked)),
        float(share), (float(low), float(high)), float(np.median(alone[0] - alone[1])),
    )  # fmt: skip
    logging.info("mark: %s", cost)
    return cost


def _in_turn(call: Callable[[str], jax.Array], pairs: int, clock: Callable[[], float]) -> np.ndarray:
    """Milliseconds (2, pairs) of calls marked and unmarked, after one each that does not count."""
    names = ("marked", "unmarked")
    times = {name: np.zeros(1 + pairs) for name in names}
    for pair in range(1 + pairs):
        for name in names[:: 1 - 2 * (pair % 2)]:
            start = clock()
            jax.block_until_ready(call(name))
            times[name][pair] = 1e3 * (clock() - start)
    return np.stack([times[name][1:] for name in names])


def mark_table(costs: list[MarkCost]) -> str:
    """Writes the rows as a Markdown table."""
    lines = [
        "| decode, batch | clock | ms per frame unmarked | marked | mark's share: median of pairs | quartiles "
        "| the mark alone |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in costs:
        low, high = c.quartiles
        lines.append(
            f"| {c.variant}, {c.batch} | {c.clock} | {c.unmarked:.3f} | {c.marked:.3f} | {c.share:.1%} of {c.pairs} "
            f"| {low:.1%} to {high:.1%} | {c.alone:.3f} |"
        )
    return "\n".join(lines)

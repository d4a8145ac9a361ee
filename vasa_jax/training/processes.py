"""One run on several processes: how they find each other, what each holds and draws, what all agree on."""

import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vasa_jax.errors import InputError


def start_processes() -> None:
    """Joins the run's other processes; must be called before anything else touches JAX.

    TPU slices, SLURM, MPI and Kubernetes jobs are recognised. Elsewhere JAX_COORDINATOR_ADDRESS (host:port),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID say who takes part.

    Raises:
        InputError: they do not say it, or nobody answers.
    """
    named = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    try:
        jax.distributed.initialize(**{key: int(os.environ[name]) for key, name in named.items() if name in os.environ})
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"config.train.distributed: the processes did not find each other ({' '.join(str(error).split())[:200]}); "
            "set JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or leave it off"
        ) from error


def is_primary() -> bool:
    """Says whether this process writes logs and exports."""
    return jax.process_index() == 0


def on_host(tree: Any) -> Any:
    """Returns whole arrays as numpy on every process, also of those whose parts lie on other processes."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)), tree)


def agreed(value: Any) -> Any:
    """Returns the primary process's value, a number or a tree of numbers; all processes must call this."""
    if jax.process_count() == 1:
        return value
    return jax.tree.map(lambda x: x.item(), multihost_utils.broadcast_one_to_all(jax.tree.map(np.float64, value)))


def preemption_announced(step: int) -> bool:
    """Says whether every process is to save and leave after `step` updates, because one of them got SIGTERM.

    All processes call this once per step; until a notice arrives it costs no communication.
    """
    return multihost_utils.reached_preemption_sync_point(step)


class ProcessPart:
    """One process's share of a batch: batch_size / count examples, drawn from every count-th clip."""

    def __init__(self, batch_size: int, clips: int, index: int | None = None, count: int | None = None):
        self._index = jax.process_index() if index is None else index
        self._count = jax.process_count() if count is None else count
        # With fewer clips than processes they share the clips and differ in what they draw.
        self._clips, self._stride = (clips // self._count, self._count) if clips >= self._count else (clips, 1)
        self.batch = batch_size // self._count

    def key(self, key: jax.Array) -> jax.Array:
        """Returns the key of this process's own stream; with a single process, `key` itself."""
        return key if self._count == 1 else jax.random.fold_in(key, self._index)

    def draw_clips(self, key: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """Returns random clip numbers (batch,) int32; `weights` (all clips,) say how often each is drawn."""
        first = self._index if self._stride > 1 else 0
        if weights is None:
            which = jax.random.randint(key, (self.batch,), 0, self._clips)
        else:
            own = weights[first :: self._stride][: self._clips]
            which = jax.random.choice(key, self._clips, (self.batch,), p=own / own.sum())
        return which * self._stride + first

"""One run on several processes: how they find each other, what each holds, what all agree on."""

import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vasa_jax.errors import InputError


def start_processes() -> None:
    """Joins the run's other processes; to be called before anything else touches JAX.

    TPU slices, SLURM, MPI and Kubernetes jobs are recognised. Elsewhere JAX_COORDINATOR_ADDRESS (host:port),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID say who takes part. InputError when they do not, or nobody answers.
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
    """Whether this process writes logs and exports."""
    return jax.process_index() == 0


def on_host(tree: Any) -> Any:
    """Whole arrays as numpy on every process, also of those whose parts lie on other processes."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)), tree)


def agreed(value: Any) -> Any:
    """The primary process's value (number, or tree of numbers) on all processes, which must all call this."""
    if jax.process_count() == 1:
        return value
    return jax.tree.map(lambda x: x.item(), multihost_utils.broadcast_one_to_all(jax.tree.map(np.float64, value)))


def preemption_announced(step: int) -> bool:
    """Whether every process is to save and leave after `step` updates, because one of them got SIGTERM.

    All processes call this once per step; until a notice arrives it costs no communication.
    """
    return multihost_utils.reached_preemption_sync_point(step)

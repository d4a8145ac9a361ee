"""Checkpoints: training state, data position and timer as one unit (Orbax)."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from vasa_jax.errors import InputError


class CheckpointManager:
    """Numbered checkpoints under a directory, written asynchronously; the newest `keep` are kept."""

    def __init__(self, directory: str | Path, keep: int = 3):
        self._directory = Path(directory).absolute()
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            preservation_policy=ocp.training.preservation_policies.LatestN(n=keep),
        )

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint: the number of updates done."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(self, step: int, state: Any, data: dict[str, int], timer: dict[str, float]) -> None:
        """Starts writing; returns once the arrays are copied off the devices. A step already saved is left alone."""
        if self.latest_step() == step:
            return
        tree = {"state": state, "data": _arrays(data), "timer": _arrays(timer)}
        self._checkpointer.save_checkpointables_async(step, {"train": tree}, force=True)

    def restore(self, state: Any, data: dict[str, int], timer: dict[str, float]) -> tuple[Any, dict, dict]:
        """The newest checkpoint in the shapes, types and shardings of the arguments; InputError if it does not fit."""
        template = {"state": state, "data": _arrays(data), "timer": _arrays(timer)}
        try:
            tree = self._checkpointer.load_checkpointables(None, {"train": _abstract(template)})["train"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            fault = " ".join(str(error).split())[:300]
            raise InputError(
                f"{self._directory}: the checkpoint does not fit this run ({fault}); "
                "use the configuration it was made with, or another --workdir"
            ) from error
        return (
            tree["state"],
            {key: int(value) for key, value in tree["data"].items()},
            {key: float(value) for key, value in tree["timer"].items()},
        )

    def close(self) -> None:
        """Waits for what is being written."""
        self._checkpointer.close()


def _arrays(values: dict[str, float]) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in values.items()}


def _abstract(tree: Any) -> Any:
    def leaf(x):
        if isinstance(x, jax.Array):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        return np.empty_like(x)

    return jax.tree.map(leaf, tree)

"""What a training stage is; `VASATrainer` runs any of them."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding

Params = dict[str, Any]
Batch = dict[str, Any]


class DataIterator(Protocol):
    """Batches as a pure function of (seed, step), so that its state is a few integers.

    One that holds processes or files has a method `close` too.
    """

    def __next__(self) -> Batch: ...

    def state(self) -> dict[str, int]:
        """What `restore` needs to continue with the batch after the last one given."""
        ...

    def restore(self, state: dict[str, int]) -> None: ...


class Task(Protocol):
    """A stage: its parameters, its loss, its data and how it is judged."""

    name: str

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters."""
        ...

    def loss(self, params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(scalar loss, named scalars to log), float32; traced under jit."""
        ...

    def data(self, sharding: NamedSharding | None = None) -> DataIterator:
        """Batches of the whole run on one device; on several the trainer gives the `sharding` of a global batch.

        Then the iterator yields either arrays with that sharding, or this process's part (1 / processes of the batch)
        in any form. Processes, and devices where they make the data themselves, must yield different examples.
        """
        ...

    def evaluate(self, params: Params) -> dict[str, float]:
        """Held-out figures of `params`."""
        ...

    def pictures(self, params: Params) -> dict[str, np.ndarray]:
        """Named uint8 (H, W, 3) grids for the log; may be empty."""
        ...

    def export(self, params: Params) -> tuple[Params, dict[str, Any]]:
        """(parameters, metadata) that generation loads: `<name>.safetensors`."""
        ...


class GuidedTask(Task, Protocol):
    """A task whose loss reads arrays that are neither parameters nor data: weights of its terms, frozen networks.

    They are arguments of the compiled update, so that runs that differ in their values only share one program.
    """

    def weights(self, step: int) -> Mapping[str, np.ndarray]:
        """Scalars for the update that follows `step` updates; the names are the same at every step."""
        ...

    def frozen(self) -> Params:
        """Parameters of networks that do not learn; {} without any."""
        ...

    def loss(
        self, params: Params, batch: Batch, key: jax.Array, *, weights: Mapping[str, jax.Array], frozen: Params
    ) -> tuple[jax.Array, dict[str, jax.Array]]: ...


class TwoPlayerTask(Task, Protocol):
    """A task with an opponent, the critic of a GAN, that has an optimiser of its own.

    Both players learn from one backward pass through one loss, the sum of theirs: each stops the gradient of its own
    part into the other's parameters. Both step at once, from where both stood before.
    """

    def init_opponent(self, key: jax.Array) -> Params | None:
        """The opponent's fresh float32 parameters; None when these settings have none."""
        ...

    def loss(
        self, params: Params, batch: Batch, key: jax.Array, *, opponent: Params
    ) -> tuple[jax.Array, dict[str, jax.Array]]: ...


def has_guidance(task: Task) -> bool:
    """Whether it is a `GuidedTask`."""
    return hasattr(task, "weights") and hasattr(task, "frozen")


def initial_opponent(task: Task, key: jax.Array) -> Params | None:
    """The second player's parameters; None for a task that is not a `TwoPlayerTask` or plays alone."""
    return task.init_opponent(key) if hasattr(task, "init_opponent") else None

"""What a training stage is; `VASATrainer` runs any of them."""

from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding

Params = dict[str, Any]
Batch = dict[str, Any]


class DataIterator(Protocol):
    """Batches as a pure function of (seed, step), so that its state is a few integers."""

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

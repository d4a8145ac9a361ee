"""What a training stage is; `VASATrainer` runs any of them."""

import abc
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, VASAConfig

Params = dict[str, Any]
# Branch of the parameters with running statistics of norms. They have no gradient: a loss returns their next values
# among its named scalars, under the same name.
STATISTICS = "batch_stats"
Batch = dict[str, Any]


class DataIterator(Protocol):
    """Batches as a pure function of (seed, step), so that its state is a few integers.

    One that holds processes or files has a method `close` too.
    """

    def __next__(self) -> Batch: ...

    def state(self) -> dict[str, int]:
        """Returns what `restore` needs to continue with the batch after the last one given."""
        ...

    def restore(self, state: dict[str, int]) -> None:
        """Continues where an iterator with the same settings had this `state`."""
        ...


class Task(abc.ABC):
    """A stage: its parameters, its loss, its data and its validation.

    `init`, `data` and `loss` are a task's own; everything else has a default that leaves it out. Another public method
    is refused when the class is made, so that a misspelt name cannot switch a part of a training off. `extra` names
    further public methods of a class.
    """

    name: str  # of the export: <name>.safetensors

    def __init_subclass__(cls, extra: tuple[str, ...] = (), **options: Any):
        super().__init_subclass__(**options)
        known = {*dir(Task), *extra}
        for name, value in vars(cls).items():
            public = not name.startswith("_") and (callable(getattr(cls, name)) or isinstance(value, property))
            if public and name not in known:
                raise TypeError(f"{cls.__name__}.{name}: a Task has none; correct the name, or list it in `extra`")

    @classmethod
    def from_config(cls, config: VASAConfig) -> "Task":
        """Returns the task that `config` describes."""
        raise NotImplementedError(f"{cls.__name__} is not made from a configuration")

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Params:
        """Returns fresh float32 parameters."""

    @abc.abstractmethod
    def data(self, sharding: NamedSharding | None = None) -> DataIterator:
        """Returns batches of the whole run on one device; on several the trainer gives a global batch's `sharding`.

        Then the iterator yields either arrays with that sharding, or this process's part (1 / processes of the batch)
        in any form. Processes, and devices where they make the data themselves, must yield different examples.
        """

    @abc.abstractmethod
    def loss(self, params: Params, batch: Batch, key: jax.Array, **arguments: Any) -> tuple[jax.Array, dict[str, Any]]:
        """Returns (scalar loss, named scalars to log), float32; traced under jit.

        A task with `loss_weights` or `frozen_params` gets them as `weights` and `frozen`, arguments of the compiled
        update: runs that differ in their values share one program. One with `init_discriminator` gets `discriminator`,
        its parameters. Both players of a GAN learn from one backward pass through one loss, the sum of theirs: each
        stops the gradient of its own part into the other's parameters, and both step at once.
        """

    def loss_weights(self, step: int) -> Mapping[str, np.ndarray]:
        """Returns scalars for the update that follows `step` updates; the names are the same at every step."""
        return {}

    def frozen_params(self) -> Params:
        """Returns the parameters of networks that the loss reads and that do not learn."""
        return {}

    def init_discriminator(self, key: jax.Array) -> Params | None:
        """Returns the discriminator's fresh float32 parameters, which have an optimiser of their own; None without."""
        return None

    def evaluate(self, params: Params) -> dict[str, float]:
        """Returns metrics of `params` on held-out examples."""
        return {}

    def images(self, params: Params) -> dict[str, np.ndarray]:
        """Returns named uint8 grids (H, W, 3), or videos (T, H, W, 3), for the log."""
        return {}

    def export(self, params: Params) -> tuple[Params, dict[str, Any]]:
        """Returns (parameters, metadata) that generation loads: `<name>.safetensors`."""
        return params, {}

    def of_export(self, content: Params) -> Params:
        """Returns the task's own parameters from those of its export, or of a checkpoint, which hold nothing else."""
        return content

    def notes(self) -> list[str]:
        """Returns lines that a reader of the log should know before the training starts."""
        return []

    def data_settings(self) -> dict[str, Any]:
        """Returns the settings that decide what a batch holds, by their names in the configuration, as JSON values.

        They are kept in checkpoints: a data position means the same batch only under the same settings.
        """
        return {}


def clip_settings(corpus: CorpusConfig) -> dict[str, Any]:
    """Returns the settings that decide the clips of the built-in corpus, for `Task.data_settings`."""
    names = ("clips", "voices_per_clip", "speech", *(("passages", "passage_share") if corpus.passages else ()))
    return {f"corpus.{name}": getattr(corpus, name) for name in names}

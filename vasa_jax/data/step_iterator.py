"""Batches that are a pure function of their number, and positions in them that know their data."""

import abc
from collections.abc import Mapping
from typing import Any

from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint


def position(step: int, deciding: Mapping[str, Any]) -> dict[str, int]:
    """Returns whole numbers that a checkpoint keeps: `step`, and every setting in `deciding` that decides the batches.

    Whole numbers and booleans are kept as they are; of other values a fingerprint of 31 bits is kept.
    """
    numbers = {
        name: int(value) if isinstance(value, int) else fingerprint(value) & 0x7FFFFFFF
        for name, value in deciding.items()
    }
    return {"step": step, **numbers}


def check_position(saved: Mapping[str, int], deciding: Mapping[str, Any], source: str) -> int:
    """Returns the step of a saved position; InputError names the first setting that this run has otherwise.

    Settings that the position does not have are not compared: earlier versions kept fewer.
    """
    for name, now in position(0, deciding).items():
        if name == "step" or name not in saved or int(saved[name]) == now:
            continue
        of = f"{name} {int(saved[name])}" if isinstance(deciding[name], int) else f"another {name}"
        raise InputError(
            f"{source}: the saved position is of {of}, this run has {deciding[name]}; use the same settings and data, "
            "or start anew"
        )
    return int(saved["step"])


class StepIterator(abc.ABC):
    """Iterates without end over `batch(0), batch(1), ...`, in this order, from wherever `restore` puts it.

    Its state is the number of the next batch, with the settings that decide the batches where a class names them.
    """

    _step = 0

    @abc.abstractmethod
    def batch(self, step: int) -> dict[str, Any]:
        """Returns the batch of a step; the same step always gives the same batch."""

    def deciding(self) -> Mapping[str, Any]:
        """Returns the settings that decide the batches, by name; `restore` refuses a position of others."""
        return {}

    def state(self) -> dict[str, int]:
        """Returns what `restore` needs to continue after the last batch given."""
        return position(self._step, self.deciding())

    def restore(self, state: dict[str, int]) -> None:
        """Goes on where `state` was taken; InputError where that was in other batches."""
        self._step = check_position(state, self.deciding(), type(self).__name__)

    def __iter__(self):
        return self

    def __next__(self) -> dict[str, Any]:
        batch = self.batch(self._step)
        self._step += 1
        return batch

"""Batches that are a pure function of their number."""

import abc
from typing import Any


class StepIterator(abc.ABC):
    """Endless iterator over `batch(0), batch(1), ...`, asked for in this order from wherever `restore` puts it.

    Its whole state is the number of the next batch.
    """

    _step = 0

    @abc.abstractmethod
    def batch(self, step: int) -> dict[str, Any]:
        """The batch of a step; the same step always gives the same batch."""

    def state(self) -> dict[str, int]:
        """What `restore` needs to continue after the last batch given."""
        return {"step": self._step}

    def restore(self, state: dict[str, int]) -> None:
        self._step = int(state["step"])

    def __iter__(self):
        return self

    def __next__(self) -> dict[str, Any]:
        batch = self.batch(self._step)
        self._step += 1
        return batch

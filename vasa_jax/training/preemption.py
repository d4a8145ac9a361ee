"""SIGTERM: a machine is about to be taken away. The run saves and leaves with exit code 75."""

import signal
from collections.abc import Callable
from typing import Any

import jax

from vasa_jax.stopping import PREEMPTED, Interruption
from vasa_jax.training.processes import preemption_announced


class Preempted(SystemExit):
    """Ends a run after SIGTERM, when nothing is left to save: exit code 75."""

    def __init__(self):
        super().__init__(PREEMPTED)


class Preemption:
    """Listens for SIGTERM until it is closed. Of several processes JAX does, to tell all of them."""

    def __init__(self):
        self.noticed = False  # SIGTERM has come
        self._interruptible = False
        self._previous: Any = None
        self._listens = jax.process_count() == 1
        if self._listens:
            self._previous = signal.signal(signal.SIGTERM, self._on_sigterm)

    def requested(self, step: int) -> bool:
        """Says whether the run is to save after `step` updates and leave; all processes ask once per step."""
        return self.noticed if self._listens else preemption_announced(step)

    def interruptible(self, function: Callable[[], Any]) -> Any:
        """Returns what `function` returns; None when SIGTERM came, which ends it at once."""
        try:
            # Set and cleared inside: from wherever a signal leaves this block, it is caught below.
            try:
                self._interruptible = True
                result = function()
                self._interruptible = False
            except BaseException:
                self._interruptible = False
                raise
            return result
        except Interruption:
            return None

    def close(self) -> None:
        """Gives the signal back to whom it belonged before."""
        if self._listens:
            signal.signal(signal.SIGTERM, self._previous)

    def _on_sigterm(self, *_: Any) -> None:
        self.noticed = True
        if self._interruptible:
            self._interruptible = False
            raise Interruption(self._undo)

    def _undo(self) -> None:
        self._interruptible = True

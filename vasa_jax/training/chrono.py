"""Time of a run, and what happened between two lines of its log."""

import math
import time
from typing import Any

import jax

from vasa_jax.errors import NonFiniteError
from vasa_jax.training.cost import UpdateCost, device_memory


class Chrono:
    """Seconds that a run has taken, those before it was resumed included."""

    def __init__(self, seconds: float = 0.0):
        self._start = time.time() - seconds

    @property
    def seconds(self) -> float:
        """Wall time of the run so far."""
        return time.time() - self._start

    def state(self) -> dict[str, float]:
        """Returns what a checkpoint keeps of it."""
        return {"seconds": self.seconds}

    def share_of(self, minutes: float) -> float:
        """Returns how much of `minutes` is over; 0 where 0 minutes stand for no limit."""
        return self.seconds / (60 * minutes) if minutes else 0.0


class LogWindow:
    """Times and losses of the updates since the last line; arrays stay on the device until they are asked for."""

    def __init__(self):
        self._begin = time.time()
        self._waited = 0.0
        self._losses: list[tuple[int, dict[str, int], jax.Array]] = []
        self._metrics: dict[str, jax.Array] = {}
        self._rates: dict[str, float] = {}

    def add(self, step: int, position: dict[str, int], metrics: dict[str, jax.Array], waited: float) -> None:
        """Adds the update that made `step` from the batch at data `position`, which took `waited` seconds to get."""
        self._losses.append((step, position, metrics["loss"]))
        self._metrics = metrics
        self._waited += waited

    def pause(self, seconds: float) -> None:
        """Leaves out time that was not spent on updates."""
        self._begin += seconds

    def finish(self, batch_size: int, cost: UpdateCost | None) -> "LogWindow":
        """Ends the measurement of time and returns the window."""
        seconds = (time.time() - self._begin) / max(len(self._losses), 1)
        self._rates = {
            "step_seconds": seconds,
            "steps_per_second": 1.0 / seconds,
            "data_wait": self._waited / len(self._losses) / seconds if self._losses else 0.0,
            "examples_per_second_per_chip": batch_size / seconds / jax.device_count(),
        }
        utilisation = cost.utilisation(seconds, jax.devices()[0].device_kind) if cost else None
        if utilisation is not None:
            self._rates["model_flop_utilisation"] = utilisation
        return self

    def step(self) -> int:
        """Returns the number of the last update."""
        return self._losses[-1][0]

    def metrics(self) -> dict[str, float]:
        """Returns the last update's metrics, with rates and memory; waits for that update."""
        metrics = {name: float(value) for name, value in jax.device_get(self._metrics).items()}
        return metrics | self._rates | device_memory()

    def require_finite(self, task: str) -> None:
        """Waits for the last update; raises NonFiniteError that names the first one whose loss was not finite."""
        for (step, position, _), loss in zip(self._losses, jax.device_get([loss for *_, loss in self._losses])):
            value = float(loss)
            if not math.isfinite(value):
                raise NonFiniteError(f"{task}: the loss is {value} at step {step}{self._known(step, position)}")

    def _known(self, step: int, position: dict[str, Any]) -> str:
        where = ", ".join(f"{name} {value}" for name, value in position.items())
        known = [f"batch at data position {where}"]
        if step == self.step():
            metrics = jax.device_get(self._metrics)
            terms = [name for name, value in metrics.items() if not math.isfinite(float(value))]
            known.append(f"not finite: {', '.join(terms)}")
        return f" ({'; '.join(known)})"

"""What happened between two lines of the log."""

import math
import time
from typing import Any

import jax

from vasa_jax.errors import NonFiniteError
from vasa_jax.training.cost import UpdateCost, device_memory


class LogWindow:
    """Times and losses of the updates since the last line; arrays stay on the device until they are asked for."""

    def __init__(self):
        self._begin = time.time()
        self._waited = 0.0
        self._losses: list[tuple[int, dict[str, int], jax.Array]] = []
        self._metrics: dict[str, jax.Array] = {}
        self._rates: dict[str, float] = {}

    def add(self, step: int, position: dict[str, int], metrics: dict[str, jax.Array], waited: float) -> None:
        """The update that made `step` from the batch at data `position`, which took `waited` seconds to get."""
        self._losses.append((step, position, metrics["loss"]))
        self._metrics = metrics
        self._waited += waited

    def pause(self, seconds: float) -> None:
        """Time that was not spent on updates."""
        self._begin += seconds

    def finish(self, batch_size: int, cost: UpdateCost | None) -> "LogWindow":
        """Ends the measurement."""
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
        """The last update's number."""
        return self._losses[-1][0]

    def figures(self) -> dict[str, float]:
        """The last update's metrics, rates and memory; waits for that update."""
        metrics = {name: float(value) for name, value in jax.device_get(self._metrics).items()}
        return metrics | self._rates | device_memory()

    def require_finite(self, task: str) -> None:
        """NonFiniteError names the first update whose loss was not finite; waits for the last one."""
        for step, position, loss in self._losses:
            value = float(loss)
            if not math.isfinite(value):
                raise NonFiniteError(f"{task}: the loss is {value} at step {step}{self._known(step, position)}")

    def _known(self, step: int, position: dict[str, Any]) -> str:
        where = ", ".join(f"{name} {value}" for name, value in position.items())
        known = [f"batch at data position {where}"]
        if step == self.step():
            terms = [name for name, value in self._metrics.items() if not math.isfinite(float(value))]
            known.append(f"not finite: {', '.join(terms)}")
        return f" ({'; '.join(known)})"

"""How fast a run learns: warm-up, then a cosine over its steps, or over its minutes where those end first."""

import math

import numpy as np

from vasa_jax.config import TrainConfig

Rates = dict[str, np.float32]


class Pace:
    """The learning rates of a run. They are arguments of the compiled update, so that runs that differ in learning
    rates, steps, warm-up or minutes share one program."""

    def __init__(self, settings: TrainConfig):
        self._steps = settings.steps
        self._warmup = min(settings.warmup_steps, max(settings.steps - 1, 0))
        self._frozen_from = settings.frozen_from
        second = settings.opponent_learning_rate
        self._bounds = {  # (peak, end)
            "player": (settings.learning_rate, settings.final_learning_rate),
            "opponent": (second, min(settings.final_learning_rate, second)),
        }

    def rates(self, step: int, passed: float = 0.0) -> Rates:
        """Learning rates of player, opponent and the player's frozen part for the update that follows `step` updates.

        `passed` is the share of the run's minutes that is over, 0 without a limit; the cosine is as far on as the
        further of steps and minutes, so that a run that is stopped by its minutes has come to rest.
        """
        after_warmup = (step - self._warmup) / max(self._steps - self._warmup, 1)
        fall = 0.5 + 0.5 * math.cos(math.pi * min(max(after_warmup, passed, 0.0), 1.0))
        rise = min(step / self._warmup, 1.0) if self._warmup else 1.0
        rates = {
            name: np.float32(min(rise * peak, end + (peak - end) * fall)) for name, (peak, end) in self._bounds.items()
        }
        return rates | {"frozen": np.float32(0.0) if self.is_frozen(step, passed) else rates["player"]}

    def is_frozen(self, step: int, passed: float = 0.0) -> bool:
        """Whether the frozen part no longer learns: from the first step, or from a share of the steps or minutes on."""
        return max(step / max(self._steps, 1), passed) >= self._frozen_from

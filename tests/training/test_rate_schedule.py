"""The learning rate by steps and by minutes."""

import dataclasses
import math

import numpy as np
import optax
import pytest

from vasa_jax.config import TrainConfig
from vasa_jax.training.optimizer import Schedule

SETTINGS = TrainConfig(
    steps=50, warmup_steps=10, learning_rate=1e-2, final_learning_rate=1e-4, discriminator_learning_rate=5e-5
)


@pytest.mark.parametrize("warmup", [0, 10])
def test_by_steps_it_is_a_linear_rise_and_a_cosine(warmup):
    schedule = Schedule(TrainConfig(steps=50, warmup_steps=warmup, learning_rate=1e-2, final_learning_rate=1e-4))
    expected = optax.warmup_cosine_decay_schedule(0.0 if warmup else 1e-2, 1e-2, warmup, 50, 1e-4)
    for step in range(53):
        np.testing.assert_allclose(schedule.rates(step)["model"], expected(step), rtol=1e-4, atol=1e-9)


def test_the_cosine_follows_the_minutes_where_they_end_first():
    schedule = Schedule(SETTINGS)
    middle = schedule.rates(20, 0.5)["model"]
    np.testing.assert_allclose(middle, 1e-4 + (1e-2 - 1e-4) * (0.5 + 0.5 * math.cos(math.pi * 0.5)), rtol=1e-5)
    assert middle < schedule.rates(20)["model"] and schedule.rates(40, 0.5) == schedule.rates(40)
    np.testing.assert_allclose(schedule.rates(20, 1.0)["model"], 1e-4, rtol=1e-5)
    assert schedule.rates(5, 0.01)["model"] == np.float32(5e-3)  # the warm-up is by steps in any case


def test_a_part_is_frozen_from_a_share_of_steps_or_minutes_on():
    schedule = Schedule(dataclasses.replace(SETTINGS, frozen=("w",), frozen_from=0.4))
    assert schedule.rates(19)["frozen"] == schedule.rates(19)["model"] > 0
    assert schedule.rates(20)["frozen"] == schedule.rates(3, 0.4)["frozen"] == 0 < schedule.rates(20)["model"]
    assert Schedule(SETTINGS).rates(0)["frozen"] == 0


def test_the_discriminators_rate_never_ends_above_its_start():
    schedule = Schedule(SETTINGS)
    assert {schedule.rates(step)["discriminator"] for step in (10, 50)} == {np.float32(5e-5)}

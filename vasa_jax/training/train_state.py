"""What a training changes: parameters, their average, optimiser moments, and those of a discriminator."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from vasa_jax.training.tasks.base import Task


@flax.struct.dataclass
class Discriminator:
    """The discriminator of a GAN: its parameters and its optimiser's state."""

    params: Any
    optimizer: Any


@flax.struct.dataclass
class TrainState:
    """Everything that an update changes; `step` counts updates done."""

    step: jax.Array
    params: Any
    ema: Any  # exponential moving average of `params`
    optimizer: Any

    discriminator = None  # not a field: checkpoints of a task without one know of none


@flax.struct.dataclass
class GANState(TrainState):
    """The same for a task with a discriminator."""

    discriminator: Discriminator


def new_state(
    task: Task,
    key: jax.Array,
    optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    params: Any = None,
) -> TrainState:
    """Returns the state before the first update; traced under jit. The average shares the parameters' arrays.

    params: None = those that the task draws.
    """
    params = task.init(key) if params is None else params
    parts = (jnp.zeros((), jnp.int32), params, params, optimizer.init(params))
    discriminator = task.init_discriminator(jax.random.fold_in(key, 2))
    if discriminator is None:
        return TrainState(*parts)
    return GANState(*parts, Discriminator(discriminator, discriminator_optimizer.init(discriminator)))


def fields_of(state: TrainState) -> dict[str, Any]:
    """Returns the parts of a state by name, as checkpoints hold them."""
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}

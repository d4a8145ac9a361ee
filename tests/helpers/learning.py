"""Trains a task by Adam, without the trainer: whether its loss teaches what it should."""

import jax
import optax
from random_params import random_params


def learnt_accuracies(task, data, rate, steps):
    """The task's accuracy at each of `steps` updates from random parameters; data.batch(step) gives batches."""
    optimizer = optax.adam(rate)

    @jax.jit
    def update(params, state, batch):
        (_, terms), gradient = jax.value_and_grad(task.loss, has_aux=True)(params, batch, None)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state, terms["accuracy"]

    params = random_params(task.init)
    state, accuracies = optimizer.init(params), []
    for step in range(steps):
        params, state, accuracy = update(params, state, data.batch(step))
        accuracies.append(float(accuracy))
    return accuracies

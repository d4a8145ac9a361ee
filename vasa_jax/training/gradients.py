"""Loss and gradients of an update: micro-batches, and what the backward pass keeps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vasa_jax.errors import InputError

Loss = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]

_PRODUCTS = ("conv_general_dilated", "dot_general")


def rematerialised(loss: Loss) -> Loss:
    """`loss`, of which the backward pass keeps the products of convolutions and matrices only and recomputes norms,
    activations, resampling and gathers, which are many and cheap."""

    def keep(primitive, *_, **__) -> bool:
        return primitive.name in _PRODUCTS

    return jax.checkpoint(loss, policy=keep)


def value_and_gradients(
    loss: Loss, params: Any, batch: Any, key: jax.Array, parts: int, sharding: NamedSharding
) -> tuple[Any, dict[str, jax.Array]]:
    """(gradients, metrics with "loss") of a batch with `sharding`, taken in `parts` micro-batches one after another."""
    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        (value, metrics), grads = value_and_grad(params, batch, key)
        return grads, {"loss": value, **metrics}

    def split(x):
        """(parts, B / parts, ...): every device cuts its own examples, so that none moves; neighbours stay so."""
        devices = sharding.num_devices
        if x.shape[0] % (devices * parts):
            raise InputError(
                f"config.train.accumulate: an array of {x.shape[0]} rows in a batch does not split into {parts} "
                f"micro-batches on {devices} devices; lower it or raise config.train.batch_size"
            )
        x = x.reshape(devices, parts, x.shape[0] // (devices * parts), *x.shape[1:]).swapaxes(0, 1)
        x = x.reshape(parts, devices * x.shape[2], *x.shape[3:])
        return jax.lax.with_sharding_constraint(x, NamedSharding(sharding.mesh, P(None, *sharding.spec)))

    def one(carry, micro):
        index, part = micro
        (value, metrics), grads = value_and_grad(params, part, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, carry, grads), {"loss": value, **metrics}

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, metrics = jax.lax.scan(one, zeros, (jnp.arange(parts), jax.tree.map(split, batch)))
    return jax.tree.map(lambda g: g / parts, grads), jax.tree.map(lambda m: m.mean(0), metrics)


def row_major(grads: Any) -> Any:
    """The same in the memory order of the parameters.

    Left alone, XLA gives an optimiser's arithmetic the order of the convolution that made the gradient: on a GPU
    parameters, both moments and the average are then turned round and back at every update.
    """
    return jax.tree.map(lambda g: with_layout_constraint(g, Layout(major_to_minor=tuple(range(g.ndim)))), grads)

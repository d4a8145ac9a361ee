"""One update: loss, gradients in micro-batches, optimisers, average."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError
from vasa_jax.training.cost import UpdateCost, update_cost
from vasa_jax.training.optimizer import (
    LearningRates,
    make_discriminator_optimizer,
    make_optimizer,
    stop_frozen_gradients,
    tree_norm,
)
from vasa_jax.training.sharding import batch_sharding, make_mesh, replicated, state_sharding
from vasa_jax.training.tasks.base import STATISTICS, Batch, Params, Task
from vasa_jax.training.train_state import Discriminator, TrainState, new_state

Loss = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
Metrics = dict[str, jax.Array]

_PRODUCTS = ("conv_general_dilated", "dot_general")


class TrainStep:
    """The update of one run on a mesh, as a jitted function `update(state, batch, rates, arguments)`.

    rates: `Schedule.rates`; arguments: `arguments()`. The memory of the old state is reused. The compiled program lives
    as long as this object.

    `mesh` replaces the one over all devices that `settings` describe.
    """

    def __init__(self, task: Task, settings: TrainConfig, seed: int = 0, mesh: jax.sharding.Mesh | None = None):
        self.mesh = mesh or make_mesh(settings)
        self.batch_sharding = batch_sharding(self.mesh)
        self._task, self._settings = task, settings
        self._key = jax.random.fold_in(jax.random.key(seed), sum(task.name.encode()))
        self._optimizer = make_optimizer(settings)
        self._discriminator_optimizer = make_discriminator_optimizer(settings)
        self._scalars = _PlacedScalars(replicated(self.mesh))
        self._frozen: Params | None = None
        # Jitted for this object: a program in the cache of a class would keep every task and its data alive.
        self.update = jax.jit(self._update, donate_argnums=0)

    def new_state(self, params: Params | None = None) -> TrainState:
        """Returns the state before the first update, of fresh parameters or of `params`, placed on the mesh.

        With `params` no draw is compiled, which takes a minute or more for a large network on a GPU.
        """
        shardings = jax.tree.map(lambda x: x.sharding, self.abstract_state())
        given = () if params is None else (jax.device_put(params, shardings.params),)
        return own_average(jax.jit(self._new_state, out_shardings=shardings)(*given))

    def abstract_state(self) -> TrainState:
        """Returns shapes, types and shardings of the state; InputError when the sharding rules cannot be met."""
        shapes = jax.eval_shape(self._new_state)
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, self._shardings(shapes)
        )

    def rates(self, rates: LearningRates) -> dict[str, jax.Array]:
        """Returns learning rates on the devices of the mesh."""
        return self._scalars("rates", rates)

    def arguments(self, step: int) -> dict[str, Any]:
        """Returns what the loss of the update that follows `step` updates reads beside parameters and data.

        {"weights": scalars, "frozen": parameters} on the devices; {} for a task that has neither.
        """
        weights = self._task.loss_weights(step)
        if self._frozen is None:
            frozen = self._task.frozen_params()
            self._frozen = jax.device_put(frozen, replicated(self.mesh)) if frozen else frozen
        if not weights and not self._frozen:
            return {}
        return {"weights": self._scalars("weights", weights), "frozen": self._frozen}

    def compile(self, state: TrainState, batch: Batch, rates: Any, arguments: dict[str, Any]) -> tuple[Any, UpdateCost]:
        """Returns (`update` compiled for these, possibly abstract, arguments, what it costs)."""
        traced = self.update.trace(state, batch, rates, arguments)
        program = traced.lower().compile()
        return program, update_cost(traced, program, self.mesh.size)

    def _new_state(self, params: Params | None = None) -> TrainState:
        return new_state(self._task, self._key, self._optimizer, self._discriminator_optimizer, params)

    def _update(
        self, state: TrainState, batch: Batch, rates: dict[str, jax.Array], arguments: dict[str, Any]
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.fold_in(self._key, 1), state.step)
        players = (state.params, state.discriminator.params if state.discriminator else None)
        (grads, discriminator_grads), metrics = value_and_gradients(
            self._loss(arguments), players, batch, key, self._settings.accumulate, self.batch_sharding
        )
        grads = row_major(grads)
        norm = self._norm(grads)
        updates, optimizer = self._optimizer.update(
            grads, state.optimizer, state.params, norm=norm, rate=rates["model"], frozen_rate=rates["frozen"]
        )
        params = optax.apply_updates(state.params, updates)
        if STATISTICS in metrics:
            params = {**params, STATISTICS: metrics.pop(STATISTICS)}
        ema = moving_average(state.ema, params, state.step, self._settings.ema_decay)
        # Norms that were summed while the arrays are written would keep XLA from writing these in place.
        updates, params = jax.lax.optimization_barrier((updates, params))
        metrics = {
            **metrics,
            "gradient_norm": norm,
            "update_norm": self._norm(updates),
            "parameter_norm": self._norm(params),
            "learning_rate": rates["model"],
        }
        state = state.replace(step=state.step + 1, params=params, ema=ema, optimizer=optimizer)
        if state.discriminator:
            discriminator, norm = self._update_discriminator(
                state.discriminator, discriminator_grads, rates["discriminator"]
            )
            metrics["discriminator_gradient_norm"] = norm
            state = state.replace(discriminator=discriminator)
        # Left alone, the compiler might place the new state otherwise than the old one.
        return jax.lax.with_sharding_constraint(state, self._shardings(state)), metrics

    def _loss(self, arguments: dict[str, Any]) -> Loss:
        """The task's loss as a function of (both players' parameters, batch, key)."""

        def loss(players, batch, key):
            params, discriminator = players
            if not self._settings.frozen_from:
                params = stop_frozen_gradients(self._settings.frozen, params)
            rest = arguments if discriminator is None else {**arguments, "discriminator": discriminator}
            return self._task.loss(params, batch, key, **rest)

        return rematerialised(loss) if self._settings.remat else loss

    def _update_discriminator(
        self, discriminator: Discriminator, grads: Params, rate: jax.Array
    ) -> tuple[Discriminator, jax.Array]:
        """(it after its step, the norm of its gradient); without any gradient it rests, counts and all."""
        norm = self._norm(grads)
        updates, optimizer = self._discriminator_optimizer.update(
            grads, discriminator.optimizer, discriminator.params, norm=norm, rate=rate
        )
        moved = Discriminator(optax.apply_updates(discriminator.params, updates), optimizer)
        return jax.tree.map(lambda new, old: jnp.where(norm > 0, new, old), moved, discriminator), norm

    def _norm(self, tree: Params) -> jax.Array:
        settings = self._settings
        return tree_norm(tree, whole=settings.fsdp_axis == 1 and not settings.sharding_rules)

    def _shardings(self, state: TrainState) -> TrainState:
        return state_sharding(self.mesh, state, self._settings.sharding_rules)


class _PlacedScalars:
    """Copies numbers to the devices, each only when it changes: most loss weights never do."""

    def __init__(self, sharding: NamedSharding):
        self._sharding = sharding
        self._placed: dict[tuple[str, str], tuple[float, jax.Array]] = {}

    def __call__(self, group: str, values: Any) -> dict[str, jax.Array]:
        for name, value in values.items():
            known = self._placed.get((group, name))
            if known is None or known[0] != float(value):
                self._placed[group, name] = float(value), place_scalar(value, self._sharding)
        return {name: self._placed[group, name][1] for name in values}


def place_scalar(value: Any, sharding: NamedSharding) -> jax.Array:
    """Returns a float32 scalar on every device, also on several processes, which must all give the same value."""
    copies = [jax.device_put(np.float32(value), device) for device in sharding.addressable_devices]
    return jax.make_array_from_single_device_arrays((), sharding, copies)


def own_average(state: TrainState) -> TrainState:
    """Gives the average memory of its own: an update donates both it and the parameters."""
    return state.replace(ema=jax.tree.map(jnp.copy, state.ema))


def moving_average(ema: Params, params: Params, step: jax.Array, decay: float) -> Params:
    """Returns the exponential moving average after the update number `step`.

    The decay is min(decay, (1 + step) / (10 + step)): early on the average follows closely, or it would carry the
    random start for thousands of steps.
    """
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    # In this form a parameter that equals its average leaves it exactly as it is.
    return jax.tree.map(lambda average, new: average + (1.0 - decay) * (new - average), ema, params)


def rematerialised(loss: Loss) -> Loss:
    """Returns `loss` with a backward pass that keeps the products of convolutions and matrices only.

    Norms, activations, resampling and gathers are computed again: they are many and cheap.
    """

    def keep(primitive, *_, **__) -> bool:
        return primitive.name in _PRODUCTS

    return jax.checkpoint(loss, policy=keep)


def value_and_gradients(
    loss: Loss, params: Any, batch: Any, key: jax.Array, parts: int, sharding: NamedSharding
) -> tuple[Any, Metrics]:
    """Returns (gradients, metrics with "loss") of a batch with `sharding`, in `parts` micro-batches one after another.

    Both are plain means over the micro-batches. For a loss that is a mean over all examples that is the whole batch's.
    A mean over labelled examples, or a comparison of examples, is taken within each micro-batch.

    Raises:
        InputError: a micro-batch does not spread over the devices.
    """
    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        (value, metrics), grads = value_and_grad(params, batch, key)
        return grads, {"loss": value, **metrics}

    def split(x):
        """Cuts into (parts, B / parts, ...): every device its own examples, so that none moves; neighbours stay so."""
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
    """Returns gradients in the memory order of the parameters.

    Left alone, XLA gives an optimiser's arithmetic the order of the convolution that made the gradient: on a GPU
    parameters, both moments and the average are then turned round and back at every update.
    """
    return jax.tree.map(lambda g: with_layout_constraint(g, Layout(major_to_minor=tuple(range(g.ndim)))), grads)

"""The optimiser of every stage: AdamW, clipping, its learning rates, and which parameters it leaves alone."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError
from vasa_jax.training.sharding import FSDP_MINIMUM_SIZE, name_of

LearningRates = dict[str, np.float32]
Label = Callable[[str, jax.Array], str]


class Schedule:
    """Learning rates: a linear warm-up, then a cosine over the run's steps, or over its minutes where those end first.

    With `decay_from` the rate stays at its peak for that share of the run.

    They are arguments of the compiled update, so that runs that differ in learning rates, steps, warm-up or minutes
    share one program.
    """

    def __init__(self, settings: TrainConfig):
        self._steps = settings.steps
        self._warmup = min(settings.warmup_steps, max(settings.steps - 1, 0))
        self._frozen_from, self._decay_from = settings.frozen_from, settings.decay_from
        second = settings.discriminator_learning_rate
        self._bounds = {  # (peak, end)
            "model": (settings.learning_rate, settings.final_learning_rate),
            "discriminator": (second, min(settings.final_learning_rate, second)),
        }

    def rates(self, step: int, passed: float = 0.0) -> LearningRates:
        """Returns the rates of the update that follows `step` updates: `model`, `discriminator`, `frozen`.

        `frozen` is that of the model's parameters which are frozen from some step on. `passed` is the share of the
        run's minutes that is over, 0 without a limit. The cosine is as far on as the further of steps and minutes. So a
        run that is stopped by its minutes has come to rest.
        """
        after_warmup = (step - self._warmup) / max(self._steps - self._warmup, 1)
        over = (max(after_warmup, passed) - self._decay_from) / (1.0 - self._decay_from)
        fall = 0.5 + 0.5 * math.cos(math.pi * min(max(over, 0.0), 1.0))
        rise = min(step / self._warmup, 1.0) if self._warmup else 1.0
        rates = {
            name: np.float32(min(rise * peak, end + (peak - end) * fall)) for name, (peak, end) in self._bounds.items()
        }
        return rates | {"frozen": np.float32(0.0) if self.is_frozen(step, passed) else rates["model"]}

    def is_frozen(self, step: int, passed: float = 0.0) -> bool:
        """Says whether the frozen part has stopped learning: from the first step, or from a share of the run on."""
        return max(step / max(self._steps, 1), passed) >= self._frozen_from


def make_optimizer(settings: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """Returns AdamW with decay on kernels only: biases, norm scales and embeddings of rank 1 do not decay.

    Its `update` takes `rate`, the learning rate; `frozen_rate`, that of the frozen parameters; and `norm`, the
    gradient's norm, by which it is clipped. Frozen parameters do not decay: without a gradient
    (`stop_frozen_gradients`), or at a rate of 0, they stay as they are.

    Raises:
        InputError: a pattern of `settings.frozen` is no regex.
    """
    transforms = []
    if settings.clip_norm:
        transforms.append(_clip(settings.clip_norm))
    transforms.append(
        optax.adamw(
            1.0,
            settings.beta1,
            settings.beta2,
            weight_decay=settings.weight_decay,
            mask=lambda parts: {label: dict.fromkeys(part, label == "decays") for label, part in parts.items()},
        )
    )
    transforms.append(optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), _at_rate))
    # A rule places single arrays, so with rules none is flattened.
    below = 0 if settings.sharding_rules else FSDP_MINIMUM_SIZE
    frozen = _patterns(settings.frozen)

    def label(name: str, leaf: jax.Array) -> str:
        if _finds(frozen, name):
            return "frozen"
        return "decays" if leaf.ndim > 1 else "free"

    return on_flattened(optax.chain(*transforms), label, below)


def make_discriminator_optimizer(settings: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """Returns the same for a discriminator: with a first moment of its own, without decay."""
    return make_optimizer(
        dataclasses.replace(settings, beta1=settings.discriminator_beta1, weight_decay=0.0, frozen=())
    )


def _at_rate(updates, state, params=None, *, rate, frozen_rate=0.0, **_):
    scaled = {
        label: optax.tree.scale(frozen_rate if label == "frozen" else rate, part) for label, part in updates.items()
    }
    return scaled, state


def _clip(limit: float) -> optax.GradientTransformationExtraArgs:
    """Scales updates whose norm, which the caller knows, exceeds `limit` down to it."""

    def update(updates, state, params=None, *, norm, **_):
        return optax.tree.scale(jnp.minimum(1.0, limit / norm), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def tree_norm(tree: Any, whole: bool = False) -> jax.Array:
    """Returns the L2 norm of all numbers in a tree.

    `whole` says that no array is split over devices. Each is then summed in a thousand parts, and those of all arrays
    together: otherwise a GPU sums one array after another.
    """
    arrays = flatten(tree, lambda name, leaf: "all", FSDP_MINIMUM_SIZE)["all"]
    if not whole:
        return optax.tree.norm(arrays)
    rows = [leaf.reshape(math.gcd(leaf.size, 1024), -1) for leaf in arrays.values()]
    parts = jnp.concatenate([jnp.square(row).sum(1) for row in rows])
    # Behind the barrier XLA does not take the sum apart again.
    return jnp.sqrt(jax.lax.optimization_barrier(parts).sum())


def stop_frozen_gradients(patterns: tuple[str, ...], params: Any) -> Any:
    """Stops gradients through every parameter whose path matches one of `patterns`; XLA then skips its backward pass.

    A path is e.g. "encoder/pose_net/head/kernel".

    Raises:
        InputError: a pattern is no regex, or matches no parameter.
    """
    compiled = _patterns(patterns)
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [name_of(path) for path, _ in paths]
    for pattern in compiled:
        if not any(map(pattern.search, names)):
            raise InputError(f"config.train.frozen: '{pattern.pattern}' names no parameter; correct it")
    leaves = [jax.lax.stop_gradient(leaf) if _finds(compiled, name) else leaf for name, (_, leaf) in zip(names, paths)]
    return jax.tree_util.tree_unflatten(structure, leaves)


def with_averages(patterns: tuple[str, ...], params: Any, averages: Any) -> Any:
    """Replaces parameters whose path matches one of `patterns` by copies of their EMA values."""
    compiled = _patterns(patterns)

    def choose(path, value, average):
        return jnp.copy(average) if _finds(compiled, name_of(path)) else value

    return jax.tree_util.tree_map_with_path(choose, params, averages)


def _patterns(patterns: tuple[str, ...]) -> list[re.Pattern]:
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise InputError(f"config.train.frozen: '{pattern}' is no regex ({error}); correct it") from error
    return compiled


def _finds(patterns: list[re.Pattern], name: str) -> bool:
    return any(pattern.search(name) for pattern in patterns)


def flatten(tree: Any, label: Label, below: int) -> dict[str, dict[str, jax.Array]]:
    """Returns {label: {"joined": one vector of all arrays of fewer than `below` numbers, name: each larger array}}.

    A codec has hundreds of parameter arrays of a few hundred numbers. Updating each on its own costs an accelerator
    more in launches, and the compiler more in time, than the arithmetic does. Arrays of one label are joined in the
    order of the tree; all must be of one type.
    """
    result: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        group = result.setdefault(label(name_of(path), leaf), {})
        if leaf.size < below:
            group.setdefault("joined", []).append(leaf.reshape(-1))
        else:
            group[name_of(path)] = leaf
    for group in result.values():
        if "joined" in group:
            group["joined"] = jnp.concatenate(group["joined"])
    return result


def unflatten(parts: dict[str, dict[str, jax.Array]], like: Any, label: Label, below: int) -> Any:
    """Undoes `flatten`; returns a tree with the structure and shapes of `like`."""
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    used = dict.fromkeys(parts, 0)
    leaves = []
    for path, leaf in paths:
        group = label(name_of(path), leaf)
        if leaf.size < below:
            first = used[group]
            used[group] = first + leaf.size
            leaves.append(parts[group]["joined"][first : used[group]].reshape(leaf.shape))
        else:
            leaves.append(parts[group][name_of(path)])
    return jax.tree_util.tree_unflatten(structure, leaves)


def on_flattened(
    inner: optax.GradientTransformation, label: Label, below: int
) -> optax.GradientTransformationExtraArgs:
    """Makes `inner`, which must treat all numbers of a label alike, work on flattened arrays."""
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return inner.init(flatten(params, label, below))

    def update(updates, state, params=None, **extra):
        flat_params = None if params is None else flatten(params, label, below)
        flat, state = inner.update(flatten(updates, label, below), state, flat_params, **extra)
        return unflatten(flat, updates, label, below), state

    return optax.GradientTransformationExtraArgs(init, update)

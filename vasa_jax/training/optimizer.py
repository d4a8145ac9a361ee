"""The optimiser of every stage: AdamW, clipping, and which parameters it leaves alone."""

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError
from vasa_jax.training.joined import join, name_of, on_joined
from vasa_jax.training.sharding import FSDP_MINIMUM_SIZE


def make_optimizer(settings: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """AdamW with decay on kernels only: biases, norm scales and embeddings of rank 1 stay free. `update` takes the
    learning rate as its argument `rate`, that of the frozen parameters as `frozen_rate`, and the gradient's norm, by
    which it is clipped, as `norm`.

    Frozen parameters do not decay; without a gradient (`hold_frozen`) or at a rate of 0 AdamW leaves them as they are.
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
    # A rule places single arrays, so with rules none is joined.
    below = 0 if settings.sharding_rules else FSDP_MINIMUM_SIZE
    frozen = _patterns(settings.frozen)

    def label(name: str, leaf: jax.Array) -> str:
        if _finds(frozen, name):
            return "frozen"
        return "decays" if leaf.ndim > 1 else "free"

    return on_joined(optax.chain(*transforms), label, below)


def make_opponent_optimizer(settings: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """The second player's: the same with a first moment of its own, without decay."""
    return make_optimizer(dataclasses.replace(settings, beta1=settings.opponent_beta1, weight_decay=0.0, frozen=()))


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
    """The L2 norm of all numbers in a tree.

    `whole` says that no array is split over devices. Each is then summed in a thousand parts, and those of all arrays
    together: of many arrays a GPU else sums the parts one array after another.
    """
    arrays = join(tree, lambda name, leaf: "all", FSDP_MINIMUM_SIZE)["all"]
    if not whole:
        return optax.tree.norm(arrays)
    rows = [leaf.reshape(math.gcd(leaf.size, 1024), -1) for leaf in arrays.values()]
    parts = jnp.concatenate([jnp.square(row).sum(1) for row in rows])
    # Behind the barrier XLA does not take the sum apart again.
    return jnp.sqrt(jax.lax.optimization_barrier(parts).sum())


def hold_frozen(patterns: tuple[str, ...], params: Any) -> Any:
    """`params`, of which those whose name, e.g. "encoder/pose_net/head/kernel", one of the regexes finds itself in pass
    no gradient; their backward pass is then never computed.

    InputError for a regex that cannot be read or that finds nothing.
    """
    compiled = _patterns(patterns)
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [name_of(path) for path, _ in paths]
    for pattern in compiled:
        if not any(map(pattern.search, names)):
            raise InputError(f"config.train.frozen: '{pattern.pattern}' names no parameter; correct it")
    leaves = [
        jax.lax.stop_gradient(leaf) if _finds(compiled, name) else leaf for name, (_, leaf) in zip(names, paths)
    ]
    return jax.tree_util.tree_unflatten(structure, leaves)


def with_averages(patterns: tuple[str, ...], params: Any, averages: Any) -> Any:
    """`params`, of which those that one of the regexes finds have the values of `averages`, in memory of their own."""
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

"""The optimiser of every stage: AdamW, warm-up and cosine, clipping, and which parameters it leaves alone."""

import re
from typing import Any

import jax
import optax

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError


def learning_rate_schedule(settings: TrainConfig) -> optax.Schedule:
    """Linear warm-up, then a cosine to `final_learning_rate` at the last step."""
    warmup = min(settings.warmup_steps, max(settings.steps - 1, 0))
    return optax.warmup_cosine_decay_schedule(
        0.0 if warmup else settings.learning_rate,
        settings.learning_rate,
        warmup,
        max(settings.steps, warmup + 1),
        settings.final_learning_rate,
    )


def make_optimizer(settings: TrainConfig) -> optax.GradientTransformation:
    """AdamW with decay on kernels only: biases, norm scales and embeddings of rank 1 stay free.

    Frozen parameters do not decay either; without a gradient (`hold_frozen`) AdamW then leaves them as they are.
    """
    transforms = []
    if settings.clip_norm:
        transforms.append(optax.clip_by_global_norm(settings.clip_norm))
    transforms.append(
        optax.adamw(
            learning_rate_schedule(settings),
            settings.beta1,
            settings.beta2,
            weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree.map(
                lambda p, frozen: p.ndim > 1 and not frozen, params, frozen_mask(settings.frozen, params)
            ),
        )
    )
    return optax.chain(*transforms)


def frozen_mask(patterns: tuple[str, ...], params: Any) -> Any:
    """True for every parameter whose name, e.g. "encoder/pose_net/head/kernel", one of the regexes finds itself in.

    InputError for a regex that cannot be read or that finds nothing.
    """
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise InputError(f"config.train.frozen: '{pattern}' is no regex ({error}); correct it") from error
    names = jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )
    for pattern in compiled:
        if not any(map(pattern.search, jax.tree.leaves(names))):
            raise InputError(f"config.train.frozen: '{pattern.pattern}' names no parameter; correct it")
    return jax.tree.map(lambda name: any(pattern.search(name) for pattern in compiled), names)


def hold_frozen(patterns: tuple[str, ...], params: Any) -> Any:
    """`params`, of which the frozen ones pass no gradient; their backward pass is then never computed."""
    return jax.tree.map(
        lambda p, frozen: jax.lax.stop_gradient(p) if frozen else p, params, frozen_mask(patterns, params)
    )

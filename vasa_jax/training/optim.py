"""The optimiser of every stage: AdamW, warm-up and cosine, clipping, accumulation."""

import dataclasses

import jax
import optax

from vasa_jax.config import TrainConfig


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
    """AdamW with decay on kernels only: biases, norm scales and embeddings of rank 1 stay free."""
    transforms = []
    if settings.clip_norm:
        transforms.append(optax.clip_by_global_norm(settings.clip_norm))
    transforms.append(
        optax.adamw(
            learning_rate_schedule(settings),
            settings.beta1,
            settings.beta2,
            weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        )
    )
    return optax.chain(*transforms)


def make_opponent_optimizer(settings: TrainConfig) -> optax.GradientTransformation:
    """The second player's: the same with a learning rate and first moment of its own, without decay."""
    rate = settings.opponent_learning_rate
    return make_optimizer(
        dataclasses.replace(
            settings,
            learning_rate=rate,
            final_learning_rate=min(settings.final_learning_rate, rate),
            beta1=settings.opponent_beta1,
            weight_decay=0.0,
        )
    )

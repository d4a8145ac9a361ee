"""Losses of head poses and dynamics latents: MegaPortraits' contrast, and what holds latents of one face together."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from vasa_jax.losses.images import masked_mean


def pose_loss(
    pose: Float[Array, "b 9"], label: Float[Array, "b 9"], valid: Shaped[Array, "b"] | None = None
) -> Float[Array, ""]:
    """Computes L1 over the two rotation columns, log scale and translation, over the `valid` examples (None: all)."""
    error = jnp.abs(pose - label).sum(-1)
    return error.mean() if valid is None else masked_mean(error, valid)


def motion_contrast(
    a: Float[Array, "b z"], b: Float[Array, "b z"], scale: float = 5.0, margin: float = 0.2
) -> Float[Array, ""]:
    """Contrasts dynamics latents that share a motion (a_i, b_i) with the rest of the batch.

    This is MegaPortraits' L_cos in CosFace's form: the margin is on the positives only. On both sides, as the paper
    prints it, the margin would cancel.
    """
    # The small constant is inside the root: a latent of zeros must not have an infinite gradient.
    a, b = (z * jax.lax.rsqrt(jnp.square(z).sum(-1, keepdims=True) + 1e-12) for z in (a, b))
    logits = scale * (a @ b.T - margin * jnp.eye(a.shape[0]))
    diagonal = jnp.diag(logits)
    return 0.5 * (jax.nn.logsumexp(logits, 1) - diagonal + jax.nn.logsumexp(logits, 0) - diagonal).mean()


def disagreement(a: Float[Array, "b z"], b: Float[Array, "b z"]) -> Float[Array, ""]:
    """Computes the share of variance that latents of one motion (a_i, b_i) do not share, mean over the z dimensions.

    It is 1 - Lin's concordance with a common mean: 0 where a = b, about 1 where a dimension tells nothing of the
    motion. Unlike the cosine of the contrast it weighs all dimensions alike, however little they vary. So traces of
    identity and pose in small dimensions count too.
    """
    mean = 0.5 * (a.mean(0) + b.mean(0))
    spread = jnp.square(a - mean).sum(0) + jnp.square(b - mean).sum(0)
    return (jnp.square(a - b).sum(0) / (spread + 1e-6)).mean()


def code_size(dynamics: Float[Array, "b z"]) -> Float[Array, ""]:
    """Computes the mean square of the latents, which bounds their scale; the contrast does not."""
    return jnp.square(dynamics).mean()


def margin_softmax(
    embedding: Float[Array, "b e"],
    directions: Float[Array, "people e"],
    person: Int[Array, "b"],
    scale: float = 30.0,
    margin: float = 0.3,
) -> tuple[Float[Array, "b people"], Float[Array, ""]]:
    """Returns (cosines to the classes' directions, CosFace's loss).

    The loss is the cross-entropy of scale * (cosine - margin of the true class): Wang et al. 2018, equation 4.
    `embedding` has unit length; `directions` need not.
    """
    directions = directions * jax.lax.rsqrt(jnp.square(directions).sum(-1, keepdims=True) + 1e-12)
    cosine = embedding @ directions.T
    logits = scale * (cosine - margin * jax.nn.one_hot(person, len(directions)))
    truth = jnp.take_along_axis(logits, person[:, None], -1)[:, 0]
    return cosine, (jax.nn.logsumexp(logits, -1) - truth).mean()

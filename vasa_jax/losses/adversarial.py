"""GAN losses of a decoder and a patch discriminator: hinge form, and matching of the discriminator's features.

Scores and features are lists over scales, as `PatchDiscriminator` returns them. `rows` (b,) weighs the images of a
batch; without it they count alike. Geometric GAN (Lim and Ye 2017) for the hinge, pix2pixHD (Wang et al. 2018) for
feature matching; MegaPortraits weights them 1 and 40.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scores = Sequence[Float[Array, "b _ _ 1"]]
Rows = Float[Array, "b"] | None


def discriminator_hinge(real: Scores, fake: Scores, rows: Rows = None) -> Float[Array, ""]:
    """Computes mean relu(1 - D(real)) + mean relu(1 + D(fake)), averaged over the scales."""
    terms = [
        _mean(jax.nn.relu(1.0 - r), rows) + _mean(jax.nn.relu(1.0 + f), rows) for r, f in zip(real, fake, strict=True)
    ]
    return sum(terms) / len(terms)


def generator_hinge(fake: Scores, rows: Rows = None) -> Float[Array, ""]:
    """Computes -mean D(fake), averaged over the scales."""
    return -sum(_mean(score, rows) for score in fake) / len(fake)


def feature_matching(
    real: Sequence[Sequence[Array]], fake: Sequence[Sequence[Array]], rows: Rows = None
) -> Float[Array, ""]:
    """Computes L1 between the discriminator's features of true and decoded images, averaged over layers and scales.

    No gradient reaches `real`.
    """
    terms = [
        _mean(jnp.abs(jax.lax.stop_gradient(r) - f), rows)
        for scale_real, scale_fake in zip(real, fake, strict=True)
        for r, f in zip(scale_real, scale_fake, strict=True)
    ]
    return sum(terms) / len(terms)


def _mean(values: Array, rows: Rows) -> Float[Array, ""]:
    """The mean over everything, rows by their weights."""
    if rows is None:
        return values.mean()
    each = values.reshape(len(values), -1).mean(-1)
    return (each * rows).sum() / jnp.maximum(rows.sum(), 1e-6)

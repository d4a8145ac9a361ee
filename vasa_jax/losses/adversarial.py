"""GAN losses of a decoder and a patch discriminator: hinge form, and matching of the discriminator's features.

Every argument is a list over its scales, as `PatchDiscriminator` returns them. Geometric GAN (Lim and Ye 2017) for
the hinge, pix2pixHD (Wang et al. 2018) for feature matching; MegaPortraits weights them 1 and 40.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scores = Sequence[Float[Array, "b _ _ 1"]]


def discriminator_hinge(real: Scores, fake: Scores) -> Float[Array, ""]:
    """Computes mean relu(1 - D(real)) + mean relu(1 + D(fake)), averaged over the scales."""
    terms = [jax.nn.relu(1.0 - r).mean() + jax.nn.relu(1.0 + f).mean() for r, f in zip(real, fake, strict=True)]
    return sum(terms) / len(terms)


def generator_hinge(fake: Scores) -> Float[Array, ""]:
    """Computes -mean D(fake), averaged over the scales."""
    return -sum(score.mean() for score in fake) / len(fake)


def feature_matching(real: Sequence[Sequence[Array]], fake: Sequence[Sequence[Array]]) -> Float[Array, ""]:
    """Computes L1 between the discriminator's features of true and decoded images, averaged over layers and scales.

    No gradient reaches `real`.
    """
    terms = [
        jnp.abs(jax.lax.stop_gradient(r) - f).mean()
        for scale_real, scale_fake in zip(real, fake, strict=True)
        for r, f in zip(scale_real, scale_fake, strict=True)
    ]
    return sum(terms) / len(terms)

"""GAN losses of a decoder and a patch discriminator: hinge form, matching of its features, penalty of its gradient.

Scores and features are lists over scales, as `PatchDiscriminator` returns them. `rows` (b,) weighs the images of a
batch; without it they count alike. Geometric GAN (Lim and Ye 2017) for the hinge, pix2pixHD (Wang et al. 2018) for
feature matching; MegaPortraits weights them 1 and 40. R1 (Mescheder et al. 2018) for the gradient penalty.
"""

from collections.abc import Callable, Sequence

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


def gradient_penalty(
    scores: Callable[[Float[Array, "b h w 3"]], Scores], real: Float[Array, "b h w 3"], rows: Rows = None
) -> Float[Array, ""]:
    """Computes E |grad D(x)|^2 / 2 over the true images x, R1 (Mescheder et al. 2018, equation 9) at a weight of 1.

    scores: the discriminator, each image by itself. D(x) is the mean of an image's scores over places and scales, which
    the hinge terms average too; pixels count in their own range, [0, 1].
    """

    def of_all(images: Float[Array, "b h w 3"]) -> Float[Array, ""]:
        found = scores(images)
        return sum(score.mean((1, 2, 3)).sum() for score in found) / len(found)

    return 0.5 * _mean(jnp.square(jax.grad(of_all)(real)).sum((1, 2, 3)), rows)


def _mean(values: Array, rows: Rows) -> Float[Array, ""]:
    """The mean over everything, rows by their weights."""
    if rows is None:
        return values.mean()
    each = values.reshape(len(values), -1).mean(-1)
    return (each * rows).sum() / jnp.maximum(rows.sum(), 1e-6)

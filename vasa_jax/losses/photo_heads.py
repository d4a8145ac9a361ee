"""What photo heads tell exactly: the name of a face in latents, places in the portrait, and what it does not show.

Terms of ours: real photographs have no such truth, photo heads have.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from vasa_jax.losses.images import masked_mean

NEAR = 0.5  # pixels: distances below it are as good as none
FAR, SLOW = 10.0, 0.1  # pixels from which a distance counts SLOW times as much more: a wrong label must not reign
WHOLE = 0.7  # share of a coarse cell whose places are told, from which it has one
LEAST_AREA = 60 / 256**2  # of a part, over the image: smaller ones count less


def anchor_loss(
    dynamics: Float[Array, "b z"], truth: Float[Array, "b z"], valid: Shaped[Array, "b"]
) -> Float[Array, ""]:
    """Computes the mean square distance of latents to the true ones, over these' variance, of the `valid` rows."""
    valid = valid.astype(jnp.float32)
    count = jnp.maximum(valid.sum(), 1.0)
    mean = (truth * valid[:, None]).sum(0) / count
    variance = (jnp.square(truth - mean) * valid[:, None]).sum(0) / count
    off = jnp.square(dynamics - truth) / jnp.maximum(variance, 1e-4 * variance.mean() + 1e-9)
    return masked_mean(off.mean(-1), valid)


def place_loss(
    places: Float[Array, "b h h 2"],
    truth: Float[Array, "b h h 2"],
    told: Float[Array, "b h h"],
    weight: Float[Array, "b n n"],
) -> Float[Array, ""]:
    """Computes the mean distance, in pixels of the image, of displaced places to the true ones where they are `told`.

    weight: of the image's pixels; a cell has that of its heaviest one.
    """
    cell = weight.shape[1] // places.shape[1]
    heavy = jax.lax.reduce_window(weight, 0.0, jax.lax.max, (1, cell, cell), (1, cell, cell), "SAME") * told
    return masked_mean(_distance(places, truth, weight.shape[1]), heavy)


def coarse_place_loss(
    places: Float[Array, "b s s 2"], truth: Float[Array, "b h h 2"], told: Float[Array, "b h h"], size: int
) -> Float[Array, ""]:
    """Computes `place_loss` of a coarser grid, against the mean true place in each of its cells; size: of the image."""
    side = places.shape[1]
    cell = truth.shape[1] // side

    def mean(x):
        return x.reshape(x.shape[0], side, cell, side, cell, -1).mean((2, 4))

    share = mean(told)[..., 0]
    rough = mean(truth * told[..., None]) / jnp.maximum(share, 1e-3)[..., None]
    whole = (share > WHOLE).astype(jnp.float32)
    return masked_mean(_distance(places, rough, size), whole)


def kept_loss(
    logits: Float[Array, "b n n"],
    copied: Float[Array, "b h h"],
    painted: Float[Array, "b h h"],
    weight: Float[Array, "b n n"],
) -> Float[Array, ""]:
    """Computes the entropy of the mask that keeps the portrait's pixels: 1 where `copied`, 0 where none shows them."""
    factor = logits.shape[1] // copied.shape[1]
    copied, painted = (jnp.repeat(jnp.repeat(x, factor, 1), factor, 2) for x in (copied, painted))
    entropy = copied * jax.nn.softplus(-logits) + painted * jax.nn.softplus(logits)
    return (entropy * weight).sum() / jnp.maximum(((copied + painted) * weight).sum(), 1.0)


def region_loss(
    image: Float[Array, "b n n 3"], target: Float[Array, "b n n 3"], parts: list[Float[Array, "b n n"]]
) -> Float[Array, ""]:
    """Sums the mean absolute error of each part over the parts: a small one counts as much as a large one."""
    error, least = jnp.abs(image - target).mean(-1), LEAST_AREA * image.shape[1] ** 2
    return sum(((error * part).sum((1, 2)) / jnp.maximum(part.sum((1, 2)), least)).mean() for part in parts)


def _distance(a: Array, b: Array, size: int) -> Array:
    """Pixels between displacements; smooth at none, slower beyond FAR."""
    off = jnp.sqrt(jnp.square((a - b) * size / 2).sum(-1) + NEAR**2) - NEAR
    return jnp.minimum(off, SLOW * off + (1 - SLOW) * FAR)

"""Distances between images, and of a matte to a segmentation.

The reconstruction terms of VASA-1, section 3.1: L1, structure (SSIM, Wang et al. 2004), edges.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def weighted_l1(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"], weight: Float[Array, "b h w"]):
    """Computes the mean absolute difference under per-pixel weights, normalised by their sum."""
    error = jnp.abs(prediction - target).mean(-1)
    return (error * weight).sum() / jnp.maximum(weight.sum(), 1e-6)


def square_error(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """Computes the mean square difference; PSNR is its logarithm."""
    return jnp.square(x - y).mean()


def ssim(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], window: int = 7
) -> Float[Array, "b h-{window}+1 w-{window}+1 c"]:
    """Computes structural similarity (Wang et al. 2004) of images in [0, 1] in a uniform window, per valid position."""

    def mean(image):
        rows = nn.avg_pool(image, (window, 1), strides=(1, 1), padding="VALID")
        return nn.avg_pool(rows, (1, window), strides=(1, 1), padding="VALID")

    mean_x, mean_y = mean(x), mean(y)
    variance_x = mean(x * x) - mean_x**2
    variance_y = mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )


def structure_loss(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], scales: int = 3) -> Float[Array, ""]:
    """Computes 1 - SSIM, averaged over `scales` octaves."""
    total = 0.0
    for scale in range(scales):
        if scale:
            x, y = (nn.avg_pool(image, (2, 2), strides=(2, 2)) for image in (x, y))
        total += 1.0 - ssim(x, y).mean()
    return total / scales


def gradient_loss(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], weight: Float[Array, "b h w"]):
    """Computes L1 between horizontal and vertical pixel differences: edges are to be sharp where the target's are."""
    difference = x - y
    horizontal = weighted_l1(difference[:, :, 1:], difference[:, :, :-1], weight[:, :, 1:])
    vertical = weighted_l1(difference[:, 1:], difference[:, :-1], weight[:, 1:])
    return horizontal + vertical


def matte_loss(
    matte: Float[Array, "b h w"], foreground: Float[Array, "b h w"], valid: Shaped[Array, "b"] | None = None
) -> Float[Array, ""]:
    """Computes binary cross-entropy of the matte against the foreground, over the `valid` examples (None: all)."""
    matte = jnp.clip(matte, 1e-4, 1 - 1e-4)
    entropy = -(foreground * jnp.log(matte) + (1 - foreground) * jnp.log(1 - matte))
    if valid is None:
        return entropy.mean()
    return masked_mean(entropy.mean((1, 2)), valid)


def masked_mean(values: Float[Array, "*b"], valid: Shaped[Array, "*b"]) -> Float[Array, ""]:
    """Averages the valid values, or all of them by weights from 0 to 1; 0 where none is valid."""
    return (values * valid).sum() / jnp.maximum(valid.sum(), 1.0)

"""Blocks and coordinates of the keypoint codec (face-vid2vid, Wang et al. 2021; LivePortrait, Guo et al. 2024).

Channels last. A volume is also seen as an image whose channels are (feature, depth), the depth fastest.
The grid is not that of `geometry`: its ends lie at -1 and 1, while samples are taken as if pixel edges lay there.
LivePortrait's weights were trained with this mismatch, so the identity grid does not return the volume unchanged.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Float

from vasa_jax.models.keypoint_convolutions import KERNEL, volume_convolution
from vasa_jax.models.layers import Conv, Dtype

BATCH_NORM_EPSILON = 1e-5
_MOMENTUM = 0.9  # share of the old running statistics that an update keeps


class BatchNorm(nn.Module):
    """Applies batch norm with the batch's statistics in training, else the running ones.

    Without the collection `batch_stats`, as `fold_batch_norms` leaves parameters, it is scale and bias alone.
    Statistics of a batch that is spread over devices are those of the whole batch. Computes in float32.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space c"], train: bool = False) -> Float[Array, "batch *space c"]:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        x = x.astype(jnp.float32)
        if train or self.is_initializing() or self.has_variable("batch_stats", "mean"):
            mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
            variance = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
            if train:
                count = x.size // channels
                axes = tuple(range(x.ndim - 1))
                batch_mean = x.mean(axes)
                batch_variance = jnp.square(x - batch_mean).mean(axes)
                if not self.is_initializing():
                    mean.value = _MOMENTUM * mean.value + (1.0 - _MOMENTUM) * batch_mean
                    unbiased = batch_variance * (count / max(count - 1, 1))
                    variance.value = _MOMENTUM * variance.value + (1.0 - _MOMENTUM) * unbiased
                scale, bias = _affine(scale, bias, batch_mean, batch_variance, jax.lax.rsqrt)
            else:
                scale, bias = _affine(scale, bias, mean.value, variance.value, jax.lax.rsqrt)
        return (x * scale + bias).astype(self.dtype)


def fold_batch_norms(params: dict[str, Any], batch_stats: dict[str, Any]) -> dict[str, Any]:
    """Takes running statistics into each scale and bias, on the host in float64; returns parameters alone."""
    flat = traverse_util.flatten_dict(params)
    statistics = traverse_util.flatten_dict(batch_stats)
    for layer in [path[:-1] for path in statistics if path[-1] == "mean"]:
        values = (flat[(*layer, "scale")], flat[(*layer, "bias")], statistics[(*layer, "mean")])
        values = (*values, statistics[(*layer, "var")])
        scale, bias = _affine(*(np.asarray(value, np.float64) for value in values), lambda v: 1.0 / np.sqrt(v))
        flat |= {(*layer, "scale"): scale.astype(np.float32), (*layer, "bias"): bias.astype(np.float32)}
    return traverse_util.unflatten_dict(flat)


def _affine(scale, bias, mean, variance, inverse_root: Callable) -> tuple[Array, Array]:
    scale = scale * inverse_root(variance + BATCH_NORM_EPSILON)
    return scale, bias - mean * scale


class VolumeConv(nn.Module):
    """Convolves a volume with an odd kernel and a bias, zero padded to keep the size.

    `channels`: of its input that are no filling (`filled`), 0 = all.
    """

    features: int
    size: int = 3
    channels: int = 0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B D H W C2"]:
        shape = (self.size,) * 3 + (self.channels or x.shape[-1], self.features)
        kernel = self.param("kernel", KERNEL, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        made = volume_convolution(x.astype(self.dtype), kernel.astype(self.dtype))
        return (made + bias).astype(self.dtype)


class ConvBlock(nn.Module):
    """Applies convolution, batch norm and activation, then averages cells of `pool` values per spatial axis.

    The number of axes of its input says whether it is an image or a volume, which has no stride. `channels`: of a
    volume, as in `VolumeConv`.
    """

    features: int
    size: int = 3
    stride: int = 1
    pool: tuple[int, ...] = ()
    channels: int = 0
    activation: Callable[[Array], Array] = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space c_in"], train: bool = False) -> Float[Array, "batch *space2 c"]:
        if x.ndim == 5:
            x = VolumeConv(self.features, self.size, self.channels, self.dtype, name="conv")(x)
        else:
            x = Conv(self.features, self.size, self.stride, False, bias=True, dtype=self.dtype, name="conv")(x)
        x = self.activation(BatchNorm(self.dtype, name="norm")(x, train))
        return nn.avg_pool(x, self.pool, self.pool) if self.pool else x


class ResidualBlock3D(nn.Module):
    """Adds batch norm, ReLU, conv3, twice, to its input."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B D H W C"], train: bool = False) -> Float[Array, "B D H W C"]:
        h = x
        for i in (1, 2):
            h = nn.relu(BatchNorm(self.dtype, name=f"norm{i}")(h, train))
            h = VolumeConv(x.shape[-1], dtype=self.dtype, name=f"conv{i}")(h)
        return x + h


def volume_from_picture(x: Float[Array, "B H W CD"], depth: int) -> Float[Array, "B D H W C"]:
    """Splits channels (feature, depth): the depth becomes an axis in front of the height."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height, width, channels // depth, depth).transpose(0, 4, 1, 2, 3)


def picture_from_volume(x: Float[Array, "B D H W C"]) -> Float[Array, "B H W CD"]:
    """Undoes `volume_from_picture`."""
    batch, depth, height, width, channels = x.shape
    return x.transpose(0, 2, 3, 4, 1).reshape(batch, height, width, channels * depth)


def corner_grid(*sizes: int) -> Float[Array, "... axes"]:
    """Returns coordinates for these axis sizes, e.g. (D, H, W) -> (D, H, W, 3) holding x, y, z.

    x_j = 2 j / (W - 1) - 1: the first and the last value of each axis lie at -1 and 1.
    """
    axes = [2.0 * (jnp.arange(size, dtype=jnp.float32) / (size - 1)) - 1.0 for size in sizes]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij")[::-1], axis=-1)

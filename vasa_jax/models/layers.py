"""Blocks of the volume codec, the same in two and three dimensions, channels last.

Convolutions use weight standardisation, normalisation is GroupNorm, residual blocks are pre-activation (MegaPortraits,
section 3.1). Computation runs in `dtype`; parameters, normalisation statistics and weight standardisation are float32.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Dtype = DTypeLike

TOGETHER_BELOW = 2**18  # numbers of a kernel, see `fold_standardisation`


def group_count(width: int, groups: int) -> int:
    """Returns the largest number of groups up to `groups` that divides `width`."""
    return max(count for count in range(1, min(groups, width) + 1) if width % count == 0)


def standardised(kernel: Float[Array, "*size c_in c_out"], gain: Float[Array, "c_out"]) -> Array:
    """Standardises a kernel: mean 0, variance gain^2 / fan-in per output channel (Qiao et al. 2019, scaled)."""
    return _standardised([kernel.reshape(-1, kernel.shape[-1])], gain)[0].reshape(kernel.shape)


def fold_standardisation(params: dict[str, Any]) -> dict[str, Any]:
    """Writes out each standardised kernel and drops its gain: the same network with plain kernels.

    Small kernels of one fan-in are put together, and all channels' statistics are turned into factors together. A
    network has a hundred kernels; on an accelerator this would otherwise cost more in launches than many of the
    convolutions do. Large kernels would cost more to put together.
    """
    flat = traverse_util.flatten_dict(params)
    groups: dict[Any, list[tuple[str, ...]]] = {}
    for layer in [path[:-1] for path in flat if path[-1] == "gain"]:
        kernel = flat[(*layer, "kernel")]
        small = kernel.size < TOGETHER_BELOW
        groups.setdefault(kernel.size // kernel.shape[-1] if small else layer, []).append(layer)
    kernels = [[flat[(*layer, "kernel")] for layer in layers] for layers in groups.values()]
    matrices = [jnp.concatenate([k.reshape(-1, k.shape[-1]) for k in group], 1) for group in kernels]
    gains = [flat.pop((*layer, "gain")) for layers in groups.values() for layer in layers]
    plain = _standardised(matrices, jnp.concatenate(gains)) if gains else []
    for layers, group, matrix in zip(groups.values(), kernels, plain):
        parts = jnp.split(matrix, _ends(group), axis=1)
        flat |= {(*layer, "kernel"): part.reshape(k.shape) for layer, part, k in zip(layers, parts, group)}
    return traverse_util.unflatten_dict(flat)


def _standardised(
    matrices: Sequence[Float[Array, "_ _"]], gains: Float[Array, "channels"]
) -> list[Float[Array, "_ _"]]:
    """Matrices with one column per output channel, standardised; `gains` has those of all columns in a row."""
    fan_in = np.repeat([m.shape[0] for m in matrices], [m.shape[1] for m in matrices]).astype(np.float32)
    # Both moments from one reading of the kernels; their means are small beside their spread, so little cancels.
    mean = jnp.concatenate([m.sum(0) for m in matrices]) / fan_in
    square = jnp.concatenate([jnp.square(m).sum(0) for m in matrices]) / fan_in
    variance = jnp.maximum(square - jnp.square(mean), 0.0)
    scale = jax.lax.rsqrt(variance * fan_in + 1e-8) * gains
    factors = zip(matrices, *(jnp.split(x, _ends(matrices)) for x in (scale, mean * scale)))
    return [matrix * scale - shift for matrix, scale, shift in factors]


def _ends(arrays: Sequence[Array]) -> Array:
    """Where each array but the last ends when they are put side by side."""
    return np.cumsum([x.shape[-1] for x in arrays])[:-1]


class Conv(nn.Module):
    """Convolves over all axes between the first (batch) and the last (channels), zero padded to keep the size.

    `standardise` adds weight standardisation with a learned gain per output channel. Parameters without a gain, as
    `fold_standardisation` leaves them, are used as they are.
    """

    features: int
    size: int = 3
    stride: int = 1
    standardise: bool = True
    bias: bool = False
    kernel_init: Any = nn.initializers.lecun_normal()
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space c_in"]) -> Float[Array, "batch *space2 c_out"]:
        axes = x.ndim - 2
        shape = (self.size,) * axes + (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        if self.standardise and (self.is_initializing() or self.has_variable("params", "gain")):
            kernel = standardised(kernel, self.param("gain", nn.initializers.ones, (self.features,), jnp.float32))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = _convolve_volume(x, kernel) if axes == 3 and self.stride == 1 else _convolve(x, kernel, self.stride)
        if self.bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        return x


class GroupNorm(nn.Module):
    """Applies GroupNorm with float32 statistics.

    With an embedding it is adaptive (MegaPortraits, supplement): per-channel scale and shift each gain a term U E V.
    E is the embedding with its 4 x 4 places flattened; U and V are learned.
    """

    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *space c"], embedding: Float[Array, "batch places width"] | None = None
    ) -> Float[Array, "batch *space c"]:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)[None]
        shift = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)[None]
        if embedding is not None:
            _, places, width = embedding.shape
            channel_init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform", in_axis=1, out_axis=0)
            place_init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform", in_axis=0, out_axis=1)
            u = self.param("channel_matrix", channel_init, (channels, width), jnp.float32)
            v = self.param("place_matrix", place_init, (places, 2), jnp.float32)
            terms = jnp.einsum("bpe,pk,ce->kbc", embedding.astype(jnp.float32), v, u)
            scale, shift = scale + terms[0], shift + terms[1]

        count = group_count(channels, self.groups)
        space = tuple(range(1, x.ndim - 1))
        x32 = x.astype(jnp.float32)
        mean = _group_mean(jnp.mean(x32, space), count)
        variance = jnp.maximum(_group_mean(jnp.mean(jnp.square(x32), space), count) - jnp.square(mean), 0.0)
        scale = scale * jax.lax.rsqrt(variance + 1e-5)
        shift = shift - mean * scale
        place = (slice(None), *([None] * len(space)), slice(None))
        return (x32 * scale[place] + shift[place]).astype(self.dtype)


class ResidualBlock(nn.Module):
    """Norm, ReLU, conv3, norm, ReLU, conv3, plus the input (through a 1 x 1 convolution where the width changes).

    `upsample`: integer factors per axis, by repetition, in front of the first convolution.
    """

    features: int
    groups: int
    upsample: tuple[int, ...] = ()
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *space c_in"], embedding: Float[Array, "batch places width"] | None = None
    ) -> Float[Array, "batch *space2 c_out"]:
        h = nn.relu(GroupNorm(self.groups, self.dtype, name="norm1")(x, embedding))
        h = Conv(self.features, dtype=self.dtype, name="conv1")(upsample(h, self.upsample))
        h = nn.relu(GroupNorm(self.groups, self.dtype, name="norm2")(h, embedding))
        h = Conv(self.features, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, size=1, dtype=self.dtype, name="skip")(x)
        return h + upsample(x, self.upsample)


def upsample(x: Float[Array, "batch *space c"], factors: Sequence[int]) -> Float[Array, "batch *space2 c"]:
    """Repeats each value `factors` times along each spatial axis."""
    for axis, factor in enumerate(factors, start=1):
        if factor > 1:
            x = jnp.repeat(x, factor, axis=axis)
    return x


def average_pool(x: Float[Array, "batch *space c"], factor: int = 2) -> Float[Array, "batch *space2 c"]:
    """Averages cells of `factor` values along each spatial axis."""
    batch, *space, channels = x.shape
    cells = [part for size in space for part in (size // factor, factor)]
    return x.reshape(batch, *cells, channels).mean(tuple(range(2, 2 * len(space) + 1, 2)))


def pixel_shuffle(x: Float[Array, "batch h w c_r_r"], factor: int) -> Float[Array, "batch h_r w_r c"]:
    """Turns channels (row, column, c) into `factor` times finer pixels."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, factor, factor, channels // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * factor, width * factor, -1)


def pixel_unshuffle(x: Float[Array, "batch h_r w_r c"], factor: int) -> Float[Array, "batch h w c_r_r"]:
    """Undoes `pixel_shuffle`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // factor, width // factor, -1)


def resized(image: Float[Array, "batch h w c"], size: int) -> Float[Array, "batch size size c"]:
    """Resizes images to another side, interpolated linearly."""
    return jax.image.resize(image, (image.shape[0], size, size, image.shape[3]), "linear")


def _convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    axes, size = x.ndim - 2, kernel.shape[0]
    if size == 1 and stride == 1:
        # As a product of matrices: a GPU's convolution wants kernels, and then their optimiser, in another layout.
        return x @ kernel.reshape(kernel.shape[-2:])
    space = "DHW"[3 - axes :]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * axes,
        [((size - 1) // 2, size // 2)] * axes,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
    )


def _convolve_volume(x: Array, kernel: Array) -> Array:
    """A 3D convolution as one 2D convolution whose channels are those of neighbouring slices of depth.

    XLA's own is 3 to 5 times slower on a CPU, and cuDNN's transposes every volume to channels-first and back.
    """
    batch, depth, height, width, channels = x.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    if size == 1:
        return _convolve(x, kernel)
    padded = jnp.pad(x, ((0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0), (0, 0)))
    neighbours = jnp.concatenate([padded[:, i : i + depth] for i in range(size)], axis=-1)
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(*kernel.shape[1:3], size * channels, features)
    result = _convolve(neighbours.reshape(batch * depth, height, width, size * channels), kernel)
    return result.reshape(batch, depth, height, width, features)


def _group_mean(values: Array, groups: int) -> Array:
    """(B, C) -> (B, C), each value replaced by the mean of its group of channels."""
    batch, channels = values.shape
    means = values.reshape(batch, groups, channels // groups).mean(-1, keepdims=True)
    return jnp.repeat(means, channels // groups, axis=1).reshape(batch, channels)

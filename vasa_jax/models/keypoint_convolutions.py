"""Convolutions of LivePortrait's networks in cheaper forms of the same sums.

A GPU computes 32 or 64 output channels at a time, whether they are wanted or not; a CPU copies what it multiplies. So
taps of a kernel stand beside its few output channels, each as a channel of its own, and are then shifted and added. A
map whose values are repeated is convolved before it is repeated.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LARGE = 3  # kernels beyond this side: measured on an H200, the mask's 7 takes 13.4 ms in columns, 16.2 in slices
MULTIPLE = 8  # of channels
KERNEL = nn.initializers.lecun_normal()


class Weights(nn.Module):
    """Holds the kernel and bias of a convolution, as `Conv` does, for the functions below."""

    features: int
    size: int = 3

    @nn.compact
    def __call__(self, channels: int) -> tuple[Float[Array, "k k c_in c_out"], Float[Array, "c_out"]]:
        shape = (self.size, self.size, channels, self.features)
        kernel = self.param("kernel", KERNEL, shape, jnp.float32)
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)


def volume_convolution(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "k k k C1 C2"]
) -> Float[Array, "B D H W C2"]:
    """Convolves a volume, whose channels after the kernel's C1 are zeros, float32."""
    kernel = jnp.pad(kernel, [(0, 0)] * 3 + [(0, x.shape[-1] - kernel.shape[-2]), (0, 0)])
    return _in_columns(x, kernel) if len(kernel) > LARGE else _in_slices(x, kernel)


def _in_slices(x: Array, kernel: Array) -> Array:
    """Convolves each slice with every slice of the kernel, then adds what neighbouring slices have made."""
    batch, depth, height, width, channels = x.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    kernel = kernel.transpose(1, 2, 3, 0, 4).reshape(size, size, channels, size * features)
    made = convolution(x.reshape(batch * depth, height, width, channels), kernel)
    made = made.reshape(batch, depth, height, width, size, features).astype(jnp.float32)
    half = size // 2
    made = jnp.pad(made, ((0, 0), (half, half), (0, 0), (0, 0), (0, 0), (0, 0)))
    return sum(made[:, i : i + depth, :, :, i] for i in range(size))


def _in_columns(x: Array, kernel: Array) -> Array:
    """Convolves columns of places with every column of the kernel, slices side by side as channels, then adds what
    neighbouring columns have made."""
    batch, depth, height, width, channels = x.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    half = size // 2
    padded = jnp.pad(x, ((0, 0), (half, half), (0, 0), (0, 0), (0, 0)))
    slices = jnp.concatenate([padded[:, i : i + depth] for i in range(size)], -1)
    kernel = kernel.transpose(1, 0, 3, 2, 4).reshape(size, 1, size * channels, size * features)
    made = convolution(slices.reshape(batch * depth, height, width, size * channels), kernel)
    made = made.reshape(batch, depth, height, width, size, features).astype(jnp.float32)
    made = jnp.pad(made, ((0, 0), (0, 0), (0, 0), (half, half), (0, 0), (0, 0)))
    return sum(made[:, :, :, i : i + width, i] for i in range(size))


def filled(x: Float[Array, "*batch C"]) -> Float[Array, "*batch C8"]:
    """Adds channels of zeros up to a multiple of MULTIPLE: a GPU's products of 16 bits are whole that way."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % MULTIPLE)])


def single_convolution(x: Float[Array, "B D H W C"], kernel: Float[Array, "k k CD 1"]) -> Float[Array, "B H W 1"]:
    """Convolves a volume, seen as a picture with channels (feature, depth), to a single channel, float32.

    Features of the volume after the kernel's are zeros.
    """
    depth, height, width, channels = x.shape[1:]
    size = kernel.shape[0]
    taps = kernel.reshape(size * size, -1, depth).transpose(2, 1, 0)
    taps = jnp.pad(taps, ((0, 0), (0, channels - taps.shape[1]), (0, 0)))
    precision = "highest" if x.dtype == jnp.float32 else None
    made = jnp.einsum("bdhwc,dcp->bhwp", x, taps, precision=precision, preferred_element_type=jnp.float32)
    half = size // 2
    made = jnp.pad(made, ((0, 0), (half, half), (half, half), (0, 0)))
    return sum(
        made[:, i : i + height, j : j + width, size * i + j] for i in range(size) for j in range(size)
    )[..., None]  # fmt: skip


def repeated_convolution(
    x: Float[Array, "B h w C"], kernel: Float[Array, "3 3 C C2"], factor: int
) -> Float[Array, "B H W C2"]:
    """Convolves with a 3 x 3 kernel what `upsample(x, (factor, factor))` is, without repeating first.

    Within a cell the first and the last row see two cells, all between see one: nine products of smaller kernels, of
    which those between are repeated.
    """
    if factor == 1:
        return convolution(x, kernel)
    height, width = x.shape[1:3]
    rows = {name: _merged(kernel, name, 0) for name in _PLACES}
    kernels = {(r, c): _merged(rows[r], c, 1) for r in _PLACES for c in _PLACES}
    ends, part = ("first", "last"), {}
    groups = [[(r, c) for r in ends for c in ends]]
    if factor > 2:
        groups += [[(r, "between") for r in ends], [("between", c) for c in ends], [("between", "between")]]
    for group in groups:
        made = convolution(x, jnp.concatenate([kernels[place] for place in group], -1), whole=True)
        part |= dict(zip(group, jnp.split(made, len(group), -1)))
    for (row, column), values in part.items():
        values = values if row == "between" else values[:, :height] if row == "first" else values[:, 1:]
        part[row, column] = (
            values if column == "between" else values[:, :, :width] if column == "first" else values[:, :, 1:]
        )
    order = ("first", *("between",) * (factor - 2), "last")
    lines = [jnp.stack([part[row, column] for column in order], 3) for row in order]
    return jnp.stack(lines, 2).reshape(x.shape[0], factor * height, factor * width, kernel.shape[-1])


def convolution(x: Float[Array, "B h w C"], kernel: Float[Array, "k l C C2"], whole: bool = False) -> Array:
    """Convolves pictures; of an even size, or `whole`, also what lies half beyond their edges."""
    padding = [(size // 2, size // 2) if whole else ((size - 1) // 2, size // 2) for size in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


_PLACES = ("first", "between", "last")


def _merged(kernel: Array, place: str, axis: int) -> Array:
    """Returns the sums of three taps that fall on the same cell, along an axis, in a place of the cell."""
    a, b, c = jnp.split(kernel, 3, axis)
    if place == "between":
        return a + b + c
    return jnp.concatenate([a, b + c] if place == "first" else [a + b, c], axis)

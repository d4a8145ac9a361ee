"""From keypoints to a motion field: where each voxel of the driven face lies in the source (LivePortrait's W)."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float

from vasa_jax.models.geometry import trilinear_sample
from vasa_jax.models.keypoint_convolutions import Weights, filled, single_convolution
from vasa_jax.models.keypoint_layers import BatchNorm, ConvBlock, VolumeConv, corner_grid, picture_from_volume
from vasa_jax.models.layers import Conv, Dtype, upsample

HEAT_VARIANCE = 0.01  # of the Gaussian around a keypoint, in squared coordinates
SPOT_VARIANCE = 0.005  # of the Gaussian around a keypoint in the image plane
THIRD_SLOPE = 0.01  # of the leaky ReLU behind the first convolution of the warped features


class MotionField(NamedTuple):
    """A warp of the source volume and its occlusion masks, float32."""

    deformation: Float[Array, "B D H W 3"]  # where in the source volume each voxel is read, x, y, z
    occlusions: Float[Array, "B H W masks"]  # share of the warped features that is kept, [0, 1]


class Hourglass(nn.Module):
    """Runs a U-Net that halves height and width only; the last skip is its own input.

    Volumes in it are filled up with channels of zeros; `channels`: of its input that are none.
    """

    widths: tuple[int, ...]  # after each halving
    out_width: int  # of the last block of the way up, before its skip
    channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B D H W C"], train: bool = False) -> Float[Array, "B D H W C2"]:
        skips = [x]
        for i, width in enumerate(self.widths):
            channels = 0 if i else self.channels
            block = ConvBlock(
                width, pool=(1, 2, 2), channels=channels, dtype=self.dtype, name=f"encoder_down_blocks_{i}"
            )
            skips.append(block(skips[-1], train))
        x = skips.pop()
        for i, width in enumerate([*self.widths[-2::-1], self.out_width]):
            block = ConvBlock(width, dtype=self.dtype, name=f"decoder_up_blocks_{i}")
            x = jnp.concatenate([block(upsample(x, (1, 2, 2)), train), skips.pop()], -1)
        channels = self.out_width + self.channels
        x = VolumeConv(channels, channels=channels, dtype=self.dtype, name="decoder_conv")(x)
        return filled(nn.relu(BatchNorm(self.dtype, name="decoder_norm")(x, train)))


class MotionFieldEstimator(nn.Module):
    """Estimates a motion field from the source volume and the keypoints of both faces.

    Each keypoint proposes that everything moved as it did, the background that nothing moved; a mask mixes them.
    A single source serves any number of driven faces. `occlusions`: masks to estimate, 1 in LivePortrait.
    `mask_size`: side of the convolution that makes the mask.
    Height and width: multiples of 2 to the number of `blocks`.
    """

    keypoints: int = 21
    compress: int = 4
    width: int = 32
    max_width: int = 1024
    blocks: int = 5
    occlusions: int = 1
    mask_size: int = 7
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        volume: Float[Array, "V D H W C"],
        driven: Float[Array, "B K 3"],
        source: Float[Array, "#B K 3"],
        train: bool = False,
    ) -> MotionField:
        batch, (depth, height, width) = driven.shape[0], volume.shape[1:4]
        driven, source = driven.astype(jnp.float32), source.astype(jnp.float32)
        features = Conv(self.compress, 1, standardise=False, bias=True, dtype=self.dtype, name="compress")(volume)
        features = nn.relu(BatchNorm(self.dtype, name="norm")(features, train))

        grid = corner_grid(depth, height, width)
        # Displacements of the background, which stays, and of each keypoint.
        shifts = jnp.pad(jnp.broadcast_to(source - driven, driven.shape), ((0, 0), (1, 0), (0, 0)))
        moved = _displaced(features, shifts)
        heat = _heat(grid, driven) - _heat(grid, source)
        heat = jnp.pad(heat, ((0, 0),) * 4 + ((1, 0),))[..., None].astype(self.dtype)
        # Per keypoint, background first: its heat, then its moved features.
        x = jnp.concatenate([heat, moved.astype(self.dtype)], -1).reshape(batch, depth, height, width, -1)

        widths = tuple(min(self.max_width, self.width * 2 ** (i + 1)) for i in range(self.blocks))
        channels = self.width + x.shape[-1]
        x = Hourglass(widths, self.width, x.shape[-1], self.dtype, name="hourglass")(filled(x), train)
        mask = VolumeConv(self.keypoints + 1, self.mask_size, channels, self.dtype, name="mask")(x)
        mask = jax.nn.softmax(mask.astype(jnp.float32), axis=-1)
        # Shares add up to one, so the mean of the flows is the grid and the mean of the displacements.
        # Written out per coordinate: by default a product of matrices rounds to bfloat16 or TF32 on accelerators.
        shift = jnp.stack([(mask * shifts[:, None, None, None, :, axis]).sum(-1) for axis in range(3)], -1)

        masks = []
        for i in range(self.occlusions):
            name = "occlusion" if i == 0 else f"occlusion{i + 1}"
            kernel, bias = Weights(1, 7, name=name)(depth * channels)
            masks.append(single_convolution(x, kernel.astype(self.dtype)) + bias)
        return MotionField(grid + shift, jax.nn.sigmoid(jnp.concatenate(masks, -1)))


class WarpingNetwork(nn.Module):
    """Warps the source's features into the driven pose: the map (B, H, W, width) that the generator starts from.

    The first occlusion mask weighs it; the others are only returned. `maps`: whether the map also tells where the
    keypoints of both faces lie. A warp of few places cannot open lips by a few pixels; what is drawn there can.
    """

    keypoints: int = 21
    width: int = 256
    maps: bool = False
    field: Mapping[str, Any] = FrozenDict()  # other fields of `MotionFieldEstimator`
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        volume: Float[Array, "V D H W C"],
        driven: Float[Array, "B K 3"],
        source: Float[Array, "#B K 3"],
        train: bool = False,
    ) -> tuple[Float[Array, "B H W width"], MotionField]:
        estimator = MotionFieldEstimator(self.keypoints, **self.field, dtype=self.dtype, name="dense_motion_network")
        motion = estimator(volume, driven, source, train)
        x = picture_from_volume(trilinear_sample(volume.astype(self.dtype), motion.deformation))
        if self.maps:
            seen = (_spots(x.shape[1:3], driven), _spots(x.shape[1:3], jnp.broadcast_to(source, driven.shape)))
            # Times ten, the displacements of an expression are of order one as well.
            shift = 10.0 * (driven - source).reshape(len(driven), 1, 1, -1)
            near = jnp.repeat(seen[0], 3, -1) * shift
            x = jnp.concatenate([x, *(part.astype(x.dtype) for part in (*seen, near))], -1)
        x = ConvBlock(self.width, activation=_leaky_third, dtype=self.dtype, name="third")(x, train)
        x = Conv(self.width, 1, standardise=False, bias=True, dtype=self.dtype, name="fourth")(x)
        return x * motion.occlusions[..., :1].astype(x.dtype), motion


def _heat(grid: Array, keypoints: Float[Array, "B K 3"]) -> Float[Array, "B D H W K"]:
    """Returns exp(-|p - keypoint|^2 / (2 HEAT_VARIANCE)) at every place p of the grid."""
    offset = grid[None, :, :, :, None] - keypoints[:, None, None, None]
    return jnp.exp(-0.5 / HEAT_VARIANCE * jnp.square(offset).sum(-1))


def _spots(sizes: tuple[int, int], keypoints: Float[Array, "B K 3"]) -> Float[Array, "B H W K"]:
    """Returns a Gaussian of SPOT_VARIANCE around every keypoint in the image plane, seen from the front."""
    offset = corner_grid(*sizes)[None, :, :, None] - keypoints[:, None, None, :, :2].astype(jnp.float32)
    return jnp.exp(-0.5 / SPOT_VARIANCE * jnp.square(offset).sum(-1))


def _displaced(
    features: Float[Array, "V D H W C"], shifts: Float[Array, "B K 3"]
) -> Float[Array, "B D H W K C"]:
    """Samples the volume at the corner grid moved by each shift, as `trilinear_sample` does.

    A shift is the same everywhere, so the eight neighbours' weights are products of one weight per axis: three products
    of matrices, one after another, take the place of a gather, and of a scatter of many points on the way back.
    """
    sizes, dtype = features.shape[1:4], features.dtype
    depth, height, width = (_weights(size, shifts[..., axis], dtype) for size, axis in zip(sizes, (2, 1, 0)))
    # One source serves all; by default a product of matrices of float32 rounds to TF32 on accelerators.
    product = functools.partial(jnp.einsum, precision="highest" if dtype == jnp.float32 else None)
    if len(features) == 1:
        x = product("bkxX,zyXc->bkzyxc", width, features[0])
    else:
        x = product("bkxX,bzyXc->bkzyxc", width, jnp.repeat(features, len(shifts) // len(features), 0))
    x = product("bkyY,bkzYxc->bkzyxc", height, x)
    return product("bkzZ,bkZyxc->bkzyxc", depth, x).transpose(0, 2, 3, 4, 1, 5)


def _weights(size: int, shift: Float[Array, "B K"], dtype: Dtype) -> Float[Array, "B K {size} {size}"]:
    """Returns how much each of `size` places counts at each point of the corner grid, moved by a shift; 0 outside."""
    place = ((corner_grid(size)[:, 0] + shift[..., None] + 1.0) * size - 1.0) / 2.0
    return jnp.maximum(1.0 - jnp.abs(place[..., None] - jnp.arange(size, dtype=jnp.float32)), 0.0).astype(dtype)


def _leaky_third(x: Array) -> Array:
    return nn.leaky_relu(x, THIRD_SLOPE)

"""Networks that read a head pose from an image: at a glance, then again from the view that this pose straightens.

The explicit pose of VASA-1, section 3.1; the second look is an addition of ours.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.conventions import IDENTITY_POSE, POSE_DIM
from vasa_jax.models import geometry
from vasa_jax.models.backbones import ResNet
from vasa_jax.models.layers import Dtype, resized


class PoseNet(nn.Module):
    """Reads z_pose from the whole image; the identity pose at initialisation."""

    size: int
    resnet: Mapping[str, Any]
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B 9"]:
        offset = _offset(resized(image, self.size), self.resnet, self.groups, self.dtype)
        return offset + jnp.asarray(IDENTITY_POSE, jnp.float32)


class PoseCorrection(nn.Module):
    """Reads how far the head in a pose-aligned view is from standing straight; nothing at initialisation.

    An addition of ours to VASA-1's pose encoder. Heads in such views differ little in place, size and turn, so a small
    network tells the rest of the pose finer.
    """

    resnet: Mapping[str, Any]
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, view: Float[Array, "B K K 3"]) -> Float[Array, "B 9"]:
        return _offset(view, self.resnet, self.groups, self.dtype)


def corrected_pose(pose: Float[Array, "B 9"], correction: Float[Array, "B 9"]) -> Float[Array, "B 9"]:
    """Composes the pose of a head that stands in the frame of `pose` as `correction` + IDENTITY_POSE says."""
    rotation, scale, translation = geometry.pose_matrix(pose)
    inner, growth, shift = geometry.pose_matrix(correction + jnp.asarray(IDENTITY_POSE, jnp.float32))
    # Written out: by default a product of matrices rounds to bfloat16 or TF32 on accelerators.
    turned = (rotation[:, :, :, None] * inner[:, None, :, :2]).sum(2)
    moved = translation + scale[:, None] * (rotation * shift[:, None, :]).sum(-1)
    size = jnp.log(scale * growth)
    return jnp.concatenate([turned[..., 0], turned[..., 1], size[:, None], moved[:, :2]], axis=-1)


def _offset(image: Array, resnet: Mapping[str, Any], groups: int, dtype: Dtype) -> Array:
    """Layers of the calling module: images in [0, 1] to nine numbers each, zero at initialisation."""
    x = ResNet(**resnet, groups=groups, dtype=dtype, name="resnet")(2.0 * image - 1.0)
    x = x.astype(jnp.float32).reshape(x.shape[0], -1)
    return nn.Dense(POSE_DIM, kernel_init=nn.initializers.zeros, name="head")(x)

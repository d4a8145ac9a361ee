"""VASAFaceEncoder: an image as canonical appearance, identity, head pose and dynamics (VASA-1, section 3.1)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models import geometry
from vasa_jax.models.backbones import RESNET_18, RESNET_50, ResNet
from vasa_jax.models.layers import Conv, Dtype, GroupNorm, ResidualBlock, average_pool, resized, upsample
from vasa_jax.models.portrait_pixels import Appearance
from vasa_jax.models.pose import PoseCorrection, PoseNet, corrected_pose
from vasa_jax.models.warp import START, MotionEmbedding, WarpGenerator


class Latents(NamedTuple):
    """The latents of images. Float32, except the appearance (compute dtype)."""

    appearance: Float[Array, "B D S S C"] | Appearance  # V_app, canonical: no pose, neutral expression
    identity: Float[Array, "B 4 4 E"]  # z_id
    pose: Float[Array, "B 9"]  # z_pose, see geometry
    dynamics: Float[Array, "B Z"]  # z_dyn


class AppearanceEncoder(nn.Module):
    """Lifts an image to the volume of its own view (E_app): 2D blocks, depth split off the channels, 3D blocks."""

    volume: tuple[int, int, int]
    stem: int
    widths: tuple[int, ...]
    blocks_3d: int
    pool_first: bool
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B D S S C"]:
        channels, depth, side = self.volume
        stem = Conv(self.stem, 7, standardise=False, bias=True, dtype=self.dtype, name="stem")
        x_BHWC = stem(2.0 * image - 1.0)
        for i, width in enumerate(self.widths):
            block = ResidualBlock(width, self.groups, dtype=self.dtype, name=f"block{i}")
            x_BHWC = block(average_pool(x_BHWC)) if self.pool_first else average_pool(block(x_BHWC))
        if x_BHWC.shape[1] != side:
            raise ValueError(f"{len(self.widths)} widths take {image.shape[1]} pixels to {x_BHWC.shape[1]}, not {side}")
        x_BHWC = nn.relu(GroupNorm(self.groups, self.dtype, name="norm")(x_BHWC))
        x_BHWC = Conv(depth * channels, 1, bias=True, dtype=self.dtype, name="to_volume")(x_BHWC)
        x_BDHWC = x_BHWC.reshape(-1, side, side, depth, channels).transpose(0, 3, 1, 2, 4)
        for i in range(self.blocks_3d):
            x_BDHWC = ResidualBlock(channels, self.groups, dtype=self.dtype, name=f"block3d_{i}")(x_BDHWC)
        return x_BDHWC


class CanonicalNet(nn.Module):
    """Repairs the volume after it was brought to the canonical pose (G3D): a U-Net with additive skips."""

    widths: tuple[int, ...]
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B D S S C"]) -> Float[Array, "B D S S C"]:
        channels = x.shape[-1]
        skips = []
        for i, width in enumerate(self.widths):
            x = average_pool(x) if i > 0 else x
            x = ResidualBlock(width, self.groups, dtype=self.dtype, name=f"down{i}")(x)
            skips.append(x)
        for i in reversed(range(len(self.widths) - 1)):
            x = ResidualBlock(self.widths[i], self.groups, dtype=self.dtype, name=f"up{i}")(x)
            x = upsample(x, (2, 2, 2)) + skips[i]
        return Conv(channels, dtype=self.dtype, bias=True, name="head")(x)


class IdentityNet(nn.Module):
    """Reads z_id as a 4 x 4 map."""

    width: int
    size: int
    resnet: Mapping[str, Any]
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B 4 4 width"]:
        x = 2.0 * resized(image, self.size) - 1.0
        x = ResNet(**self.resnet, groups=self.groups, dtype=self.dtype, name="resnet")(x)
        x = Conv(self.width, 1, standardise=False, bias=True, dtype=self.dtype, name="head")(x)
        return average_pool(x.astype(jnp.float32), x.shape[1] // START)


class DynamicsNet(nn.Module):
    """Reads z_dyn from the pose-aligned crop of the face."""

    width: int
    head_width: int
    resnet: Mapping[str, Any]
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, crop: Float[Array, "B K K 3"]) -> Float[Array, "B Z"]:
        x = ResNet(**self.resnet, groups=self.groups, dtype=self.dtype, name="resnet")(2.0 * crop - 1.0)
        x = Conv(self.head_width, 1, standardise=False, bias=True, dtype=self.dtype, name="reduce")(x)
        x = average_pool(x.astype(jnp.float32), x.shape[1] // START).reshape(x.shape[0], -1)
        return nn.Dense(self.width, use_bias=False, name="head")(x)


class VASAFaceEncoder(nn.Module):
    """Encodes images as latents. Call `apply` with `method="encode"` or one of the other public methods.

    The appearance volume is lifted from the image and brought to the canonical pose and expression with the image's
    own pose and dynamics. G3D repairs it; all this happens once per portrait. z_dyn is read from a crop aligned by the
    pose, so that the pose need not be in it; no gradient reaches the pose through that crop.
    """

    image_size: int = 512
    volume: tuple[int, int, int] = (96, 16, 64)  # channels C, depth D, side S
    stem: int = 64
    widths: tuple[int, ...] = (128, 256, 512)  # of the 2D residual blocks of E_app
    pool_first: bool = True  # average pooling before each of them rather than after
    blocks_3d: int = 3
    canonical_widths: tuple[int, ...] = (96, 192, 384, 512)  # G3D
    warp_widths: tuple[int, ...] = (256, 128, 64, 32)
    embedding_width: int = 512  # channels E of the identity map
    embedding_map_width: int = 512  # see MotionEmbedding
    dynamics_width: int = 128  # Z
    dynamics_head_width: int = 128
    identity_resnet: Mapping[str, Any] = RESNET_50
    identity_size: int = 256  # pixels
    pose_resnet: Mapping[str, Any] = RESNET_18
    pose_size: int = 128  # pixels
    correction_resnet: Mapping[str, Any] | None = None  # of the second reading of the pose; None = no second reading
    correction_size: int = 128  # pixels of the aligned view that it reads
    correction_zoom: float = 1.5
    dynamics_resnet: Mapping[str, Any] = RESNET_18
    crop_size: int = 128  # pixels of the aligned crop
    crop_zoom: float = 2.0
    crop_centre: tuple[float, float, float] = (0.0, 0.2, -0.23)  # of both views; canonical, between eyes and mouth
    portrait_pixels: bool = False  # whether the decoder sees the portrait's own pixels too
    groups: int = 32
    dtype: Dtype = jnp.float32

    def setup(self):
        _, depth, side = self.volume
        common = {"groups": self.groups, "dtype": self.dtype}
        self.appearance_net = AppearanceEncoder(
            self.volume, self.stem, self.widths, self.blocks_3d, self.pool_first, **common
        )
        self.identity_net = IdentityNet(self.embedding_width, self.identity_size, self.identity_resnet, **common)
        self.pose_net = PoseNet(self.pose_size, self.pose_resnet, **common)
        if self.correction_resnet is not None:
            self.pose_correction = PoseCorrection(self.correction_resnet, **common)
        self.dynamics_net = DynamicsNet(self.dynamics_width, self.dynamics_head_width, self.dynamics_resnet, **common)
        self.embedding = MotionEmbedding(self.embedding_width, self.embedding_map_width, self.dtype)
        self.warp_net = WarpGenerator(depth, side, self.warp_widths, **common)
        self.canonical_net = CanonicalNet(self.canonical_widths, **common)

    def __call__(self, image: Float[Array, "B H W 3"]) -> Latents:
        return self.encode(image)

    def encode(self, image: Float[Array, "B H W 3"]) -> Latents:
        """Encodes all four latents of images in [0, 1]."""
        pose, dynamics = self.encode_motion(image)
        appearance, identity = self.encode_appearance(image, pose, dynamics)
        return Latents(appearance, identity, pose, dynamics)

    def encode_motion(self, image: Float[Array, "B H W 3"]) -> tuple[Float[Array, "B 9"], Float[Array, "B Z"]]:
        """Encodes (pose, dynamics) of images in [0, 1]."""
        pose = self.encode_pose(image)
        return pose, self.encode_dynamics(image, pose)

    def encode_pose(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B 9"]:
        """Encodes head poses; give it the clean image, not one augmented for the dynamics."""
        self._check(image)
        pose = self.pose_net(image)
        if self.correction_resnet is None:
            return pose
        straight = jax.lax.stop_gradient(pose)
        view = geometry.align_crop(image, straight, self.correction_size, self.correction_zoom, self.crop_centre)
        return corrected_pose(pose, self.pose_correction(view))

    def encode_dynamics(self, image: Float[Array, "B H W 3"], pose: Float[Array, "B 9"]) -> Float[Array, "B Z"]:
        """Encodes facial dynamics of images whose poses are known."""
        return self.encode_crop(self.crop(image, pose))

    def crop(self, image: Float[Array, "B H W 3"], pose: Float[Array, "B 9"]) -> Float[Array, "B K K 3"]:
        """Cuts out the pose-aligned crop that the dynamics are read from; augmentations against leakage belong here."""
        self._check(image)
        pose = jax.lax.stop_gradient(pose)
        return geometry.align_crop(image, pose, self.crop_size, self.crop_zoom, self.crop_centre)

    def encode_crop(self, crop: Float[Array, "B K K 3"]) -> Float[Array, "B Z"]:
        """Encodes facial dynamics of aligned crops."""
        return self.dynamics_net(crop)

    def encode_identity(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B 4 4 E"]:
        """Encodes identity maps of images in [0, 1]."""
        self._check(image)
        return self.identity_net(image)

    def encode_appearance(
        self, image: Float[Array, "B H W 3"], pose: Float[Array, "B 9"], dynamics: Float[Array, "B Z"]
    ) -> tuple[Float[Array, "B D S S C"] | Appearance, Float[Array, "B 4 4 E"]]:
        """Encodes (canonical appearance, identity map) of images with their own poses and dynamics."""
        identity = self.encode_identity(image)
        warp = self._source_warp(identity, dynamics)
        source = self.appearance_net(image)
        volume = self.canonical_net(geometry.trilinear_sample(source, self._placed(warp, pose)))
        return Appearance(volume, image, warp, pose) if self.portrait_pixels else volume, identity

    def source_grid(
        self, identity: Float[Array, "B 4 4 E"], pose: Float[Array, "B 9"], dynamics: Float[Array, "B Z"]
    ) -> Float[Array, "B D S S 3"]:
        """Returns where in the image's volume each canonical voxel is found: s R (p + delta(p)) + t."""
        return self._placed(self._source_warp(identity, dynamics), pose)

    def _source_warp(
        self, identity: Float[Array, "B 4 4 E"], dynamics: Float[Array, "B Z"]
    ) -> Float[Array, "B D S S 3"]:
        return self.warp_net(self.embedding(identity, dynamics))

    def _placed(self, warp: Float[Array, "B D S S 3"], pose: Float[Array, "B 9"]) -> Float[Array, "B D S S 3"]:
        """The canonical grid, displaced, in the image."""
        _, depth, side = self.volume
        return geometry.image_from_canonical(geometry.pixel_grid(depth, side, side) + warp, pose)

    def _check(self, image: Array) -> None:
        if image.shape[1:] != (self.image_size, self.image_size, 3):
            raise ValueError(f"image of shape {image.shape}; this encoder takes sides of {self.image_size}, 3 channels")

"""Well-known convolutional networks: ResNet inside the codec, ArcFace's IResNet, VGG and AlexNet that judge pictures.

ResNet: He et al. 2016. IResNet: Deng et al. 2019 (ArcFace). VGG: Simonyan and Zisserman 2015. AlexNet: Krizhevsky 2014.

Weights of the last three come from files of their makers' (weights/loss_networks.py, weights/lpips.py).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float

from vasa_jax.models.layers import Conv, Dtype, GroupNorm

RESNET_18 = FrozenDict(depths=(2, 2, 2, 2), widths=(64, 128, 256, 512), stem=64, bottleneck=False)
RESNET_50 = FrozenDict(depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), stem=64, bottleneck=True)


class ResNetBlock(nn.Module):
    """Adds convolutions to its input: two of 3 x 3, or 1 x 1, 3 x 3, 1 x 1 with a quarter of the width inside."""

    features: int
    stride: int
    bottleneck: bool
    groups: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B h w c"]) -> Float[Array, "B h2 w2 c2"]:
        inner = self.features // 4 if self.bottleneck else self.features
        sizes = ((inner, 1, 1), (inner, 3, self.stride), (self.features, 1, 1))
        if not self.bottleneck:
            sizes = ((inner, 3, self.stride), (inner, 3, 1))
        h = x
        for i, (features, size, stride) in enumerate(sizes, start=1):
            h = nn.relu(h) if i > 1 else h
            h = Conv(features, size, stride, dtype=self.dtype, name=f"conv{i}")(h)
            h = GroupNorm(self.groups, self.dtype, name=f"norm{i}")(h)
        if x.shape != h.shape:
            x = Conv(self.features, 1, self.stride, dtype=self.dtype, name="skip")(x)
            x = GroupNorm(self.groups, self.dtype, name="skip_norm")(x)
        return nn.relu(x + h)


class ResNet(nn.Module):
    """Computes the feature map before the classifier (He et al. 2015), with GroupNorm and weight standardisation.

    The 7 x 7 stem halves the size and so does a max pooling (`stem_pool`); a slim network for small images takes
    stem_size 3, stem_stride 1 and no pooling. Stage i halves the size again where strides[i] is 2.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stem: int
    bottleneck: bool = False
    strides: tuple[int, ...] = (1, 2, 2, 2)
    stem_size: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    groups: int = 32
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w c"]) -> Float[Array, "B h2 w2 c2"]:
        x = Conv(self.stem, self.stem_size, self.stem_stride, standardise=False, dtype=self.dtype, name="stem")(x)
        x = nn.relu(GroupNorm(self.groups, self.dtype, name="stem_norm")(x))
        if self.stem_pool:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, (depth, width, stride) in enumerate(zip(self.depths, self.widths, self.strides, strict=True)):
            for i in range(depth):
                block_stride = stride if i == 0 else 1
                name = f"stage{stage}_block{i}"
                x = ResNetBlock(width, block_stride, self.bottleneck, self.groups, self.dtype, name=name)(x)
        return x


IRESNET_DEPTHS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 14, 3), "100": (3, 13, 30, 3)}
IRESNET_WIDTHS = (64, 128, 256, 512)
IRESNET_SIZE = 112  # pixels


class Affine(nn.Module):
    """Computes x * scale + bias per channel: a batch norm with its stored statistics folded in."""

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return x * scale.astype(x.dtype) + bias.astype(x.dtype)


class PReLU(nn.Module):
    """Computes max(x, 0) + slope min(x, 0), a slope per channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],), jnp.float32).astype(x.dtype)
        return jnp.maximum(x, 0) + slope * jnp.minimum(x, 0)


class IBlock(nn.Module):
    """Adds norm, conv, norm, PReLU, conv (with the stride) and norm to its input."""

    features: int
    stride: int
    skip: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B h w c"]) -> Float[Array, "B h2 w2 c2"]:
        plain = {"standardise": False, "dtype": self.dtype}
        h = Affine(name="bn1")(x)
        h = Conv(self.features, 3, **plain, name="conv1")(h)
        h = PReLU(name="prelu")(Affine(name="bn2")(h))
        h = Affine(name="bn3")(Conv(self.features, 3, self.stride, **plain, name="conv2")(h))
        if self.skip:
            x = Conv(self.features, 1, self.stride, **plain, name="skip")(x)
            x = Affine(name="skip_bn")(x)
        return h + x


class IResNet(nn.Module):
    """Maps images of aligned faces in [0, 1] to embeddings of identity (ArcFace, Deng et al. 2019).

    They are resized to 112 pixels per side.
    """

    depths: tuple[int, ...] = IRESNET_DEPTHS["50"]
    widths: tuple[int, ...] = IRESNET_WIDTHS
    embedding: int = 512
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
        batch = image.shape[0]
        x = jax.image.resize(image, (batch, IRESNET_SIZE, IRESNET_SIZE, 3), "linear", antialias=True)
        x = Conv(self.widths[0], 3, standardise=False, dtype=self.dtype, name="conv1")(2.0 * x - 1.0)
        x = PReLU(name="prelu")(Affine(name="bn1")(x))
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), start=1):
            for i in range(depth):
                first = i == 0
                x = IBlock(width, 2 if first else 1, first, self.dtype, name=f"layer{stage}_{i}")(x)
        x = Affine(name="bn2")(x)
        # The dense layer's weights expect channels outside of places.
        x = x.transpose(0, 3, 1, 2).reshape(batch, -1).astype(jnp.float32)
        return Affine(name="features")(nn.Dense(self.embedding, name="fc")(x))


class VGGLayout(NamedTuple):
    """Convolutions per stage, and mean and deviation of the network's inputs for images in [0, 1].

    last: features are taken behind the last convolution of each stage, else behind the first.
    """

    depths: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    last: bool = False


VGG_WIDTHS = (64, 128, 256, 512, 512)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VGG19 = VGGLayout((2, 2, 4, 4, 1), IMAGENET_MEAN, IMAGENET_STD)
VGG16 = VGGLayout((2, 2, 3, 3, 3), IMAGENET_MEAN, IMAGENET_STD, last=True)
# VGGFace takes values of 0 to 255, of which a mean colour is subtracted.
VGGFACE = VGGLayout(
    (2, 2, 3, 3, 1), tuple(value / 255.0 for value in (129.1863, 104.7624, 93.5940)), (1 / 255.0,) * 3
)


class VGG(nn.Module):
    """Maps images in [0, 1] to features of each stage, relu1_1 to relu5_1; only what lies before them is built.

    VGG-19 (Simonyan and Zisserman 2014), VGG-16 of VGGFace (Parkhi et al. 2015), and VGG-16 as LPIPS reads it, whose
    features are relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.
    """

    layout: VGGLayout
    widths: tuple[int, ...] = VGG_WIDTHS
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> list[Array]:
        x = (image - jnp.array(self.layout.mean)) / jnp.array(self.layout.std)
        taps = []
        for stage, (depth, width) in enumerate(zip(self.layout.depths, self.widths, strict=True), start=1):
            if stage > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
            for i in range(1, depth + 1):
                name = f"conv{stage}_{i}"
                x = nn.relu(Conv(width, standardise=False, bias=True, dtype=self.dtype, name=name)(x))
                if i == (depth if self.layout.last else 1):
                    taps.append(x)
        return taps


ALEXNET_WIDTHS = (64, 192, 384, 256, 256)


class AlexNet(nn.Module):
    """Maps images in [0, 1] to the features behind its five convolutions (Krizhevsky 2014, as torchvision has it)."""

    widths: tuple[int, ...] = ALEXNET_WIDTHS

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> list[Array]:
        x = (image - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)
        taps = []
        sizes = zip(self.widths, (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), strict=True)
        for number, (width, size, stride, padding) in enumerate(sizes, start=1):
            if number in (2, 3):
                x = nn.max_pool(x, (3, 3), (2, 2))
            x = nn.relu(nn.Conv(width, (size, size), stride, padding, name=f"conv{number}")(x))
            taps.append(x)
        return taps

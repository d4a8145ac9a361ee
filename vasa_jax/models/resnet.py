"""Residual networks (He et al. 2015) with GroupNorm and weight standardisation, at any width."""

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float

from vasa_jax.models.layers import Conv, Dtype, GroupNorm

RESNET_18 = FrozenDict(depths=(2, 2, 2, 2), widths=(64, 128, 256, 512), stem=64, bottleneck=False)
RESNET_50 = FrozenDict(depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), stem=64, bottleneck=True)


class ResNetBlock(nn.Module):
    """Post-activation block: two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 with a quarter of the width inside."""

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
    """Feature map before the classifier.

    The 7 x 7 stem halves the size and so does a max pooling (`stem_pool`); a slim network for small pictures takes
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

"""The residual network of ArcFace (Deng et al. 2019): a face crop as a vector of identity.

Batch norms are at their stored statistics: `scale` and `bias` already contain them (weights/loss_networks.py).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.layers import Conv, Dtype

IRESNET_DEPTHS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 14, 3), "100": (3, 13, 30, 3)}
WIDTHS = (64, 128, 256, 512)
SIZE = 112


class Affine(nn.Module):
    """x * scale + bias per channel: a batch norm that learns no more."""

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return x * scale.astype(x.dtype) + bias.astype(x.dtype)


class PReLU(nn.Module):
    """max(x, 0) + slope min(x, 0), a slope per channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],), jnp.float32).astype(x.dtype)
        return jnp.maximum(x, 0) + slope * jnp.minimum(x, 0)


class IBlock(nn.Module):
    """Norm, conv, norm, PReLU, conv (with the stride), norm, plus the input."""

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
    """Pictures (B, 112, 112, 3) of aligned faces in [0, 1] to embeddings (B, 512); other sizes are resized."""

    depths: tuple[int, ...] = IRESNET_DEPTHS["50"]
    widths: tuple[int, ...] = WIDTHS
    embedding: int = 512
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
        batch = image.shape[0]
        x = jax.image.resize(image, (batch, SIZE, SIZE, 3), "linear", antialias=True)
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

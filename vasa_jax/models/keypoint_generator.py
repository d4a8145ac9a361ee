"""Generator: warped features to the image, normalised by themselves (LivePortrait's G; SPADE, Park et al. 2019)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.keypoint_convolutions import Weights, convolution, repeated_convolution
from vasa_jax.models.layers import Conv, Dtype, pixel_shuffle, upsample

SLOPE = 0.2  # of the leaky ReLUs
NORM_EPSILON = 1e-5


class SpatiallyAdaptiveNorm(nn.Module):
    """Applies SPADE: instance norm without parameters; scale and shift of each place come from a map.

    `repeat`: how often each value of x is repeated along both axes, after its statistics, which are the same. The map
    is repeated up to that size before the shared convolution.
    """

    hidden: int = 128
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], map_BHWC: Float[Array, "B h w M"], repeat: int = 1
    ) -> Float[Array, "B H2 W2 C"]:
        x32 = x.astype(jnp.float32)
        mean = x32.mean((1, 2), keepdims=True)
        variance = jnp.square(x32 - mean).mean((1, 2), keepdims=True)
        normalised = upsample((x32 - mean) * jax.lax.rsqrt(variance + NORM_EPSILON), (repeat, repeat))
        factor = normalised.shape[1] // map_BHWC.shape[1]
        kernel, bias = Weights(self.hidden, name="mlp_shared_0")(map_BHWC.shape[-1])
        shared = repeated_convolution(map_BHWC.astype(self.dtype), kernel, factor)
        shared = nn.relu(shared + bias.astype(self.dtype))
        # Scales and shifts in one convolution.
        pair = [Weights(x.shape[-1], name=name)(self.hidden) for name in ("mlp_gamma", "mlp_beta")]
        kernels, biases = (jnp.concatenate(both, -1) for both in zip(*pair))
        gamma, beta = jnp.split(convolution(shared, kernels).astype(jnp.float32) + biases, 2, -1)
        return (normalised * (1.0 + gamma) + beta).astype(self.dtype)


class SpadeBlock(nn.Module):
    """Adds norm, leaky ReLU, conv3, twice, to its input (by a norm and a 1 x 1 convolution where widths differ).

    `norm_width`: channels of the hidden map in each norm; `repeat`: as of the norms, of the block's input.
    """

    features: int
    norm_width: int = 128
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], map_BHWC: Float[Array, "B h w M"], repeat: int = 1
    ) -> Float[Array, "B H2 W2 C2"]:
        plain = {"standardise": False, "dtype": self.dtype}
        inner = min(x.shape[-1], self.features)
        h = SpatiallyAdaptiveNorm(self.norm_width, self.dtype, name="norm_0")(x, map_BHWC, repeat)
        h = Conv(inner, 3, bias=True, **plain, name="conv_0")(nn.leaky_relu(h, SLOPE))
        h = SpatiallyAdaptiveNorm(self.norm_width, self.dtype, name="norm_1")(h, map_BHWC)
        h = Conv(self.features, 3, bias=True, **plain, name="conv_1")(nn.leaky_relu(h, SLOPE))
        if x.shape[-1] != self.features:
            x = SpatiallyAdaptiveNorm(self.norm_width, self.dtype, name="norm_s")(x, map_BHWC, repeat)
            return Conv(self.features, 1, **plain, name="conv_s")(x) + h
        return upsample(x, (repeat, repeat)) + h


class Generator(nn.Module):
    """Draws images in [0, 1], float32, from features (B, H, W, width): 4 times the side, 8 times with `shuffle` 2.

    Spectral norms of training are folded into the kernels. `hidden=True` also returns what the last convolution reads:
    (B, 4 H, 4 W, out_width).
    """

    width: int = 256
    blocks: int = 6  # at the features' own size
    out_width: int = 64
    shuffle: int = 2
    norm_width: int = 128
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, features: Float[Array, "B H W width"], hidden: bool = False
    ) -> Float[Array, "B H2 W2 3"] | tuple[Float[Array, "B H2 W2 3"], Float[Array, "B H4 W4 out_width"]]:
        features = features.astype(self.dtype)
        x = Conv(2 * self.width, 3, standardise=False, bias=True, dtype=self.dtype, name="fc")(features)
        for i in range(self.blocks):
            x = SpadeBlock(2 * self.width, self.norm_width, self.dtype, name=f"G_middle_{i}")(x, features)
        x = SpadeBlock(self.width, self.norm_width, self.dtype, name="up_0")(x, features, 2)
        x = SpadeBlock(self.out_width, self.norm_width, self.dtype, name="up_1")(x, features, 2)
        last = nn.leaky_relu(x, SLOPE)
        colours = 3 * self.shuffle**2
        name = "conv_img" if self.shuffle == 1 else "conv_img_0"
        x = Conv(colours, 3, standardise=False, bias=True, dtype=self.dtype, name=name)(last)
        image = jax.nn.sigmoid(pixel_shuffle(x.astype(jnp.float32), self.shuffle))
        return (image, last) if hidden else image

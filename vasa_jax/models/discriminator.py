"""The discriminator of the GAN loss: scores of patches at several scales (MegaPortraits; pix2pixHD)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.layers import Conv, Dtype, GroupNorm, average_pool

WIDTHS = (64, 128, 256, 512)


class PatchScale(nn.Module):
    """Scores patches at one scale: 3 x 3 convolution, instance norm and leaky ReLU per width.

    All but the last halve the size.

    The first block has no norm, so that it sees colours. The score is a 1 x 1 convolution.
    """

    widths: tuple[int, ...] = WIDTHS
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b h2 w2 1"], list[Array]]:
        x, features = 2.0 * image - 1.0, []
        for i, width in enumerate(self.widths):
            x = Conv(width, standardise=False, bias=True, dtype=self.dtype, name=f"conv{i}")(x)
            if i:
                # As many groups as channels: instance norm.
                x = GroupNorm(width, self.dtype, name=f"norm{i}")(x)
            x = nn.leaky_relu(x, 0.2)
            x = average_pool(x) if i < len(self.widths) - 1 else x
            features.append(x.astype(jnp.float32))
        score = Conv(1, 1, standardise=False, bias=True, dtype=self.dtype, name="score")(x)
        return score.astype(jnp.float32), features


class PatchDiscriminator(nn.Module):
    """Maps images in [0, 1] to (scores, features), lists over `scales` octaves, float32."""

    widths: tuple[int, ...] = WIDTHS
    scales: int = 2
    dtype: Dtype = jnp.float32

    @property
    def halvings(self) -> int:
        """Returns how often an image's side is halved, without a rest, on its way to the coarsest scores."""
        return len(self.widths) - 1 + self.scales - 1

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> tuple[list[Array], list[list[Array]]]:
        scores, features = [], []
        for scale in range(self.scales):
            image = average_pool(image) if scale else image
            score, layers = PatchScale(self.widths, self.dtype, name=f"scale{scale}")(image)
            scores.append(score)
            features.append(layers)
        return scores, features

    def initial(self, key: jax.Array, size: int) -> dict:
        """Returns fresh float32 parameters for images of `size` pixels."""
        return self.init(key, jnp.zeros((1, size, size, 3)))["params"]

"""Transformer encoder layer (Vaswani et al. 2017) of the audio encoder and the motion diffusion transformer."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vasa_jax.models.fused_attention import fused_attention
from vasa_jax.models.layers import Dtype


class SelfAttention(nn.Module):
    """Applies multi-head self-attention over the second axis; logits and softmax in float32.

    `fused`: by one kernel (models/fused_attention.py), which has no gradient.
    """

    width: int
    heads: int
    dtype: Dtype = jnp.float32
    fused: bool = False

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        batch, time, _ = x_BTC.shape
        head_width = self.width // self.heads

        def project(name):
            y = nn.Dense(self.width, dtype=self.dtype, name=name)(x_BTC)
            return y.reshape(batch, time, self.heads, head_width)

        names = ("q_proj", "k_proj", "v_proj")
        if self.fused and not self.is_initializing():
            kernels, biases = (
                [self.variables["params"][name][leaf].astype(self.dtype) for name in names]
                for leaf in ("kernel", "bias")
            )
            qkv_BTE = x_BTC.astype(self.dtype) @ jnp.concatenate(kernels, axis=-1)
            y_BTC = fused_attention(qkv_BTE, biases, self.heads)
        else:
            q_BTHD, k_BTHD, v_BTHD = map(project, names)
            q_BTHD = q_BTHD * head_width**-0.5
            logits = jnp.einsum("bqhd,bkhd->bhqk", q_BTHD, k_BTHD, preferred_element_type=jnp.float32)
            weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
            y_BTC = jnp.einsum("bhqk,bkhd->bqhd", weights, v_BTHD).reshape(batch, time, self.width)
        return nn.Dense(self.width, dtype=self.dtype, name="out_proj")(y_BTC)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Computes x / 2 (1 + erf(x / sqrt 2)) in float32, then in the type of x.

    As jax.nn.gelu(x, approximate=False), whose erfc is two functions and a choice between them: on a GPU a sixth of the
    time of sixteen windows was spent in it.
    """
    exact = x.astype(jnp.float32)
    return (0.5 * exact * (1.0 + jax.lax.erf(exact * 0.5**0.5))).astype(x.dtype)


class FeedForward(nn.Module):
    """Applies Dense, exact (erf) GELU, Dense."""

    width: int
    hidden_width: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        hidden = nn.Dense(self.hidden_width, dtype=self.dtype, name="intermediate_dense")(x_BTC)
        return nn.Dense(self.width, dtype=self.dtype, name="output_dense")(gelu(hidden))


class EncoderLayer(nn.Module):
    """Applies one encoder layer, post-norm (wav2vec2-base) or pre-norm, named as in the public wav2vec2 checkpoints.

    With a `condition` vector the layer becomes adaptive (AdaLN-Zero of DiT, arXiv 2212.09748): the vector shifts and
    scales both normalised inputs and gates both residuals, and every gate starts at zero. Only pre-norm layers adapt.
    Dropout acts exactly when a "dropout" random key is given to `apply`.
    """

    width: int
    heads: int
    ff_width: int
    pre_norm: bool = True
    dropout: float = 0.0
    dtype: Dtype = jnp.float32
    fused: bool = False

    @nn.compact
    def __call__(
        self, x_BTC: Float[Array, "batch time width"], condition_BC: Float[Array, "batch width"] | None = None
    ) -> Float[Array, "batch time width"]:
        if condition_BC is not None and not self.pre_norm:
            raise ValueError("only a pre-norm layer can be adaptive")
        attention = SelfAttention(self.width, self.heads, dtype=self.dtype, fused=self.fused, name="attention")
        feed_forward = FeedForward(self.width, self.ff_width, dtype=self.dtype, name="feed_forward")
        attention_norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="layer_norm")
        final_norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="final_layer_norm")
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))

        if not self.pre_norm:
            x_BTC = attention_norm(x_BTC + drop(attention(x_BTC)))
            return final_norm(x_BTC + drop(feed_forward(x_BTC)))
        if condition_BC is None:
            x_BTC = x_BTC + drop(attention(attention_norm(x_BTC)))
            return x_BTC + drop(feed_forward(final_norm(x_BTC)))

        modulation = nn.Dense(6 * self.width, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="modulation")
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = jnp.split(
            modulation(jax.nn.silu(condition_BC))[:, None, :], 6, axis=-1
        )
        x_BTC = x_BTC + gate_a * drop(attention(attention_norm(x_BTC) * (1 + scale_a) + shift_a))
        return x_BTC + gate_f * drop(feed_forward(final_norm(x_BTC) * (1 + scale_f) + shift_f))

"""DittoTransformer: the motion denoiser of Ditto (arXiv 2411.19509, 2024; antgroup/ditto-talkinghead).

Predicts 80 frames of LivePortrait's motion from conditions of every frame and one frame of motion. Rotary positions
turn the whole width before the projections, not the heads after them; values are not turned.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from vasa_jax.models.layers import Dtype
from vasa_jax.models.transformer import FeedForward

_TIME_TOKENS = 2


class DittoConditions(NamedTuple):
    """The conditions of one window's motion."""

    frames: Float[Array, "batch window conditions"]  # sound, emotion, eyes and canonical keypoints of every frame
    start: Float[Array, "batch motion_dim"]  # motion that the window follows
    known: Bool[Array, "batch"]  # whether `frames` are; else the learned null


class DittoContext(NamedTuple):
    """What a window's conditions give to every step."""

    tokens: Float[Array, "batch window width"]
    hidden: Float[Array, "batch width"]
    start: Float[Array, "batch motion_dim"]


def rotated(x_BTC: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
    """Turns each pair of neighbouring channels by its frequency times the place in the sequence (arXiv 2104.09864)."""
    width = x_BTC.shape[-1]
    frequencies = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(x_BTC.shape[1])[:, None] * frequencies
    cos, sin = (jnp.asarray(f(angles), x_BTC.dtype) for f in (np.cos, np.sin))
    first, second = x_BTC[..., 0::2], x_BTC[..., 1::2]
    turned = jnp.stack([first * cos - second * sin, second * cos + first * sin], -1)
    return turned.reshape(x_BTC.shape)


class RotaryAttention(nn.Module):
    """Applies multi-head attention whose queries and keys were turned before their projections; softmax in float32."""

    width: int
    heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x_BTC: Float[Array, "batch time width"], memory_BMC: Float[Array, "batch memory width"]
    ) -> Float[Array, "batch time width"]:
        head_width = self.width // self.heads

        def project(name, values):
            y = nn.Dense(self.width, dtype=self.dtype, name=name)(values)
            return y.reshape(*y.shape[:2], self.heads, head_width)

        q_BTHD = project("q_proj", rotated(x_BTC)) * head_width**-0.5
        k_BMHD, v_BMHD = project("k_proj", rotated(memory_BMC)), project("v_proj", memory_BMC)
        logits = jnp.einsum("bqhd,bkhd->bhqk", q_BTHD, k_BMHD, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        y_BTC = jnp.einsum("bhqk,bkhd->bqhd", weights, v_BMHD).reshape(x_BTC.shape)
        return nn.Dense(self.width, dtype=self.dtype, name="out_proj")(y_BTC)


class DittoEncoderLayer(nn.Module):
    """Applies an encoder layer of the conditions, pre-norm."""

    width: int
    heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        normed = _norm(self.dtype, "norm1")(x_BTC)
        x_BTC = x_BTC + RotaryAttention(self.width, self.heads, self.dtype, name="self_attn")(normed, normed)
        feed_forward = FeedForward(self.width, 2 * self.width, self.dtype, name="feed_forward")
        return x_BTC + feed_forward(_norm(self.dtype, "norm2")(x_BTC))


class DittoDecoderLayer(nn.Module):
    """Applies a decoder layer, pre-norm; a vector scales and shifts what each part adds (FiLM, arXiv 1709.07871)."""

    width: int
    heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x_BTC: Float[Array, "batch time width"],
        memory_BMC: Float[Array, "batch memory width"],
        vector_BC: Float[Array, "batch width"],
    ) -> Float[Array, "batch time width"]:
        def film(number, y_BTC):
            dense = nn.Dense(2 * self.width, dtype=self.dtype, name=f"film{number}")
            scale, shift = jnp.split(dense(jax.nn.mish(vector_BC))[:, None], 2, axis=-1)
            return (scale + 1) * y_BTC + shift

        def attention(name):
            return RotaryAttention(self.width, self.heads, self.dtype, name=name)

        normed = _norm(self.dtype, "norm1")(x_BTC)
        x_BTC = x_BTC + film(1, attention("self_attn")(normed, normed))
        x_BTC = x_BTC + film(2, attention("multihead_attn")(_norm(self.dtype, "norm2")(x_BTC), memory_BMC))
        feed_forward = FeedForward(self.width, 2 * self.width, self.dtype, name="feed_forward")
        return x_BTC + film(3, feed_forward(_norm(self.dtype, "norm3")(x_BTC)))


class DittoTransformer(nn.Module):
    """Predicts clean motion of a window, in Ditto's units, from noisy motion, its time and conditions."""

    width: int = 512
    layers: int = 8
    condition_layers: int = 2
    heads: int = 8
    motion_dim: int = 265
    conditions: int = 1103
    window: int = 80  # frames
    dtype: Dtype = jnp.float32

    def setup(self):
        normal = nn.initializers.normal(1.0)
        self.null_cond_embed = self.param("null_cond_embed", normal, (self.window, self.width))
        self.null_cond_hidden = self.param("null_cond_hidden", normal, (self.width,))
        dense = lambda width: nn.Dense(width, dtype=self.dtype)  # noqa: E731
        self.cond_projection, self.input_projection = dense(self.width), dense(self.width)
        self.cond_encoder = [
            DittoEncoderLayer(self.width, self.heads, self.dtype, name=f"cond_encoder_{i}")
            for i in range(self.condition_layers)
        ]
        self.hidden_norm = _norm(self.dtype)
        self.hidden_in, self.hidden_out = dense(self.width), dense(self.width)
        self.time_mlp = dense(4 * self.width)
        self.to_time_cond, self.to_time_tokens = dense(self.width), dense(_TIME_TOKENS * self.width)
        self.norm_cond = _norm(self.dtype)
        self.stack = [
            DittoDecoderLayer(self.width, self.heads, self.dtype, name=f"stack_{i}") for i in range(self.layers)
        ]
        self.final_layer = nn.Dense(self.motion_dim, dtype=jnp.float32)

    def __call__(
        self,
        noisy_BWD: Float[Array, "batch window motion_dim"],
        t_B: Int[Array, "batch"],
        conditions: DittoConditions,
    ) -> Float[Array, "batch window motion_dim"]:
        """Predicts x0 (B, W, D) float32 from noisy (B, W, D), t (B,) in [0, 1000) and conditions."""
        return self.denoise(noisy_BWD, t_B, self.context(conditions))

    def context(self, conditions: DittoConditions) -> DittoContext:
        """Turns conditions into what `denoise` takes."""
        tokens_BWC = self.cond_projection(conditions.frames.astype(self.dtype))
        for layer in self.cond_encoder:
            tokens_BWC = layer(tokens_BWC)
        hidden_BC = self.hidden_out(jax.nn.silu(self.hidden_in(self.hidden_norm(tokens_BWC.mean(1)))))
        return DittoContext(
            jnp.where(conditions.known[:, None, None], tokens_BWC, self.null_cond_embed.astype(self.dtype)),
            jnp.where(conditions.known[:, None], hidden_BC, self.null_cond_hidden.astype(self.dtype)),
            conditions.start,
        )

    def denoise(
        self, noisy_BWD: Float[Array, "batch window motion_dim"], t_B: Int[Array, "batch"], context: DittoContext
    ) -> Float[Array, "batch window motion_dim"]:
        """Predicts x0 (B, W, D) float32 from noisy (B, W, D) and t (B,) in [0, 1000)."""
        start = jnp.broadcast_to(context.start[:, None], noisy_BWD.shape)
        x_BWC = self.input_projection(jnp.concatenate([noisy_BWD, start], -1).astype(self.dtype))
        time_BC = jax.nn.mish(self.time_mlp(self._time_features(t_B).astype(self.dtype)))
        time_tokens = self.to_time_tokens(time_BC).reshape(len(t_B), _TIME_TOKENS, self.width)
        vector_BC = self.to_time_cond(time_BC) + context.hidden
        memory_BMC = self.norm_cond(jnp.concatenate([context.tokens, time_tokens], 1))
        for layer in self.stack:
            x_BWC = layer(x_BWC, memory_BMC, vector_BC)
        return self.final_layer(x_BWC.astype(jnp.float32))

    def _time_features(self, t_B: Int[Array, "batch"]) -> Float[Array, "batch width"]:
        half = self.width // 2
        frequencies = np.exp(np.arange(half) * (-np.log(10_000.0) / (half - 1))).astype(np.float32)
        angles = t_B[:, None].astype(jnp.float32) * frequencies
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def _norm(dtype: Dtype, name: str | None = None) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)

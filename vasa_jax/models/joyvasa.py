"""JoyVASATransformer: the motion denoiser of JoyVASA (arXiv 2411.09209, 2024; jdh-algo/JoyVASA, MIT).

A transformer decoder over K frames before and W noisy ones. The mask of its cross-attention leaves frame i only frame i
of the sound, so that the softmax is over one number: the attention is two Dense layers of the sound, made once.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from vasa_jax.conventions import JOYVASA_POSITIONS
from vasa_jax.models.layers import Dtype
from vasa_jax.models.motion import MotionConditions
from vasa_jax.models.transformer import FeedForward, SelfAttention, gelu

_FEED_FORWARD = 4  # over the width


class JoyVASAContext(NamedTuple):
    """What a window's conditions give to every step."""

    previous: Float[Array, "batch previous motion_dim"]  # motion before the window
    heard: Float[Array, "batch layers total width"]  # what cross-attention adds in each layer


def interleaved_sinusoids(positions: Array, width: int) -> Float[Array, "*shape width"]:
    """Encodes positions (...,) as sine and cosine in turn (arXiv 1706.03762)."""
    frequencies = np.exp(np.arange(0, width, 2) * (-np.log(10_000.0) / width)).astype(np.float32)
    angles = jnp.asarray(positions, jnp.float32)[..., None] * frequencies
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(*angles.shape[:-1], width)


class JoyVASALayer(nn.Module):
    """Applies a decoder layer, post-norm: self-attention, what is heard, feed-forward."""

    width: int
    heads: int
    dtype: Dtype = jnp.float32
    fused: bool = False

    def setup(self):
        self.attention = SelfAttention(self.width, self.heads, self.dtype, self.fused)
        self.cross_v, self.cross_out = (nn.Dense(self.width, dtype=self.dtype) for _ in range(2))
        self.feed_forward = FeedForward(self.width, _FEED_FORWARD * self.width, self.dtype)
        self.norm1, self.norm2, self.norm3 = (
            nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype) for _ in range(3)
        )

    def hear(self, sound_BTC: Float[Array, "batch total width"]) -> Float[Array, "batch total width"]:
        """Returns what cross-attention adds, each frame hearing itself alone."""
        return self.cross_out(self.cross_v(sound_BTC))

    def __call__(
        self, x_BTC: Float[Array, "batch total width"], heard_BTC: Float[Array, "batch total width"]
    ) -> Float[Array, "batch total width"]:
        x_BTC = self.norm1(x_BTC + self.attention(x_BTC))
        x_BTC = self.norm2(x_BTC + heard_BTC)
        return self.norm3(x_BTC + self.feed_forward(x_BTC))


class JoyVASATransformer(nn.Module):
    """Predicts clean motion of W frames, in JoyVASA's units, from noisy motion, its time and the sound.

    It is called as `VASADiffusionTransformer` is, and knows no control but the sound. Where no
    frame is heard it takes the learned null.

    Attributes:
      positions: "constant" = one row of the table of positions, that after the last frame, is added to every frame, as
        the published weights were trained; "sequence" = each frame its own, as its code does since December 2025.
    """

    width: int = 256
    layers: int = 8
    heads: int = 8
    motion_dim: int = 73
    audio_dim: int = 768
    window: int = 100  # W, frames
    previous: int = 10  # K, frames
    positions: str = "constant"
    dtype: Dtype = jnp.float32
    fused: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens of a sequence."""
        return self.previous + self.window

    def setup(self):
        if self.positions not in JOYVASA_POSITIONS:
            raise ValueError(f"positions must be one of {JOYVASA_POSITIONS}, not {self.positions!r}")
        normal = nn.initializers.normal(1.0)
        self.start_motion_feat = self.param("start_motion_feat", normal, (self.previous, self.motion_dim))
        self.start_audio_feat = self.param("start_audio_feat", normal, (self.previous, self.width))
        self.null_audio_feat = self.param("null_audio_feat", normal, (self.width,))
        dense = lambda width: nn.Dense(width, dtype=self.dtype)  # noqa: E731
        self.audio_feature_map, self.feature_proj = dense(self.width), dense(self.width)
        self.diff_step_map_0, self.diff_step_map_2 = dense(self.width), dense(self.width)
        self.transformer = [
            JoyVASALayer(self.width, self.heads, self.dtype, self.fused, name=f"layers_{i}") for i in range(self.layers)
        ]
        self.motion_dec_0 = dense(self.width // 2)
        self.motion_dec_2 = nn.Dense(self.motion_dim, dtype=jnp.float32)

    def __call__(
        self,
        noisy_BWD: Float[Array, "batch window motion_dim"],
        t_B: Int[Array, "batch"],
        conditions: MotionConditions,
    ) -> Float[Array, "batch window motion_dim"]:
        """Predicts x0 (B, W, D) float32 from noisy (B, W, D), t (B,) in [0, T) and conditions."""
        return self.denoise(noisy_BWD, t_B, self.context(conditions))

    def context(self, conditions: MotionConditions) -> JoyVASAContext:
        """Turns conditions into what `denoise` takes. Audio is the encoder's, at 25 Hz."""
        known = conditions.prev_mask[:, None, None]
        previous = jnp.where(known, conditions.prev_motion, self.start_motion_feat)
        before = jnp.where(known, self.audio_feature_map(conditions.prev_audio), self.start_audio_feat)
        heard = conditions.audio_mask.any(1)[:, None, None]
        audio = jnp.where(heard, self.audio_feature_map(conditions.audio), self.null_audio_feat)
        sound = jnp.concatenate([before, audio], axis=1).astype(self.dtype)
        return JoyVASAContext(previous, jnp.stack([layer.hear(sound) for layer in self.transformer], axis=1))

    def denoise(
        self, noisy_BWD: Float[Array, "batch window motion_dim"], t_B: Int[Array, "batch"], context: JoyVASAContext
    ) -> Float[Array, "batch window motion_dim"]:
        """Predicts x0 (B, W, D) float32 from noisy (B, W, D) and t (B,) in [0, T)."""
        motion_BTD = jnp.concatenate([context.previous, noisy_BWD], axis=1)
        # The published steps count from 1.
        time_BC = self.diff_step_map_0(interleaved_sinusoids(t_B + 1, self.width).astype(self.dtype))
        time_BC = self.diff_step_map_2(gelu(time_BC))
        places = np.arange(self.tokens) if self.positions == "sequence" else np.array([self.tokens])
        x_BTC = self.feature_proj(motion_BTD.astype(self.dtype)) + time_BC[:, None]
        x_BTC = x_BTC + interleaved_sinusoids(places, self.width).astype(self.dtype)
        for i, layer in enumerate(self.transformer):
            x_BTC = layer(x_BTC, context.heard[:, i])
        x_BWC = gelu(self.motion_dec_0(x_BTC[:, self.previous :]))
        return self.motion_dec_2(x_BWC.astype(jnp.float32))

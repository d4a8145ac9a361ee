"""WhisperEncoder: the encoder of Whisper (Radford et al. 2023), 30 s of sound to 50 Hz features.

A teacher for audio encoders in training; nothing that generates needs it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.models.layers import Dtype
from vasa_jax.models.transformer import SelfAttention, gelu

MELS, HOP, FFT = 80, 160, 400
WINDOW = 30 * SAMPLE_RATE  # samples that are heard at once
HEAD_WIDTH = 64


@functools.cache
def _analysis() -> tuple[np.ndarray, np.ndarray]:
    """Returns the windowed transform (FFT, FFT + 2), real parts first, and the mel filters (FFT / 2 + 1, MELS)."""
    import librosa

    angle = 2.0 * np.pi * np.outer(np.arange(FFT), np.arange(FFT // 2 + 1)) / FFT
    window = np.hanning(FFT + 1)[:-1, None]
    transform = (window * np.concatenate([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)
    return transform, librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT, n_mels=MELS).T.astype(np.float32)


def whisper_mels(samples_BN: Float[Array, "batch samples"]) -> Float[Array, "batch steps 80"]:
    """Returns Whisper's log mels at 100 Hz of 16 kHz sound: within 80 dB of the loudest, about [-1, 1.5]."""
    transform, filters = _analysis()
    heard = jnp.pad(samples_BN.astype(jnp.float32), ((0, 0), (FFT // 2, FFT // 2)), mode="reflect")
    steps = samples_BN.shape[1] // HOP
    parts = heard[:, np.arange(steps)[:, None] * HOP + np.arange(FFT)] @ transform
    real, imaginary = jnp.split(parts, 2, axis=-1)
    mels = jnp.log10(jnp.maximum((real**2 + imaginary**2) @ filters, 1e-10))
    loudest = mels.max((1, 2), keepdims=True)
    return (jnp.maximum(mels, loudest - 8.0) + 4.0) / 4.0


class WhisperLayer(nn.Module):
    """Adds self-attention, then a feed-forward network, each after a norm."""

    width: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        def norm(name):
            return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)

        attention = SelfAttention(self.width, self.width // HEAD_WIDTH, self.dtype, name="self_attn")
        x_BTC = x_BTC + attention(norm("self_attn_layer_norm")(x_BTC))
        y_BTC = gelu(nn.Dense(4 * self.width, dtype=self.dtype, name="fc1")(norm("final_layer_norm")(x_BTC)))
        return x_BTC + nn.Dense(self.width, dtype=self.dtype, name="fc2")(y_BTC)


class WhisperEncoder(nn.Module):
    """Maps log mels of 30 s, (B, 3000, 80), to float32 features (B, 1500, width), one every 20 ms."""

    width: int
    layers: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, mels_BTC: Float[Array, "batch steps 80"]) -> Float[Array, "batch time width"]:
        x_BTC = gelu(nn.Conv(self.width, (3,), padding=1, dtype=self.dtype, name="conv1")(mels_BTC))
        x_BTC = gelu(nn.Conv(self.width, (3,), (2,), padding=1, dtype=self.dtype, name="conv2")(x_BTC))
        steps = x_BTC.shape[1:]
        positions = self.param("embed_positions", nn.initializers.normal(0.02), steps)
        x_BTC = x_BTC + positions.astype(self.dtype)
        for number in range(self.layers):
            x_BTC = WhisperLayer(self.width, self.dtype, name=f"layers_{number}")(x_BTC)
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="layer_norm")(x_BTC).astype(jnp.float32)


def whisper_features(
    encoder: WhisperEncoder, params: dict, samples_BN: Float[Array, "batch samples"]
) -> Float[Array, "batch time width"]:
    """Returns features (B, N // 320, width) of sounds of at most 30 s, each with silence after it."""
    time = samples_BN.shape[1] // (2 * HOP)
    if samples_BN.shape[1] > WINDOW:
        raise ValueError(f"{samples_BN.shape[1]} samples; at most {WINDOW} are heard at once")
    heard = jnp.pad(samples_BN, ((0, 0), (0, WINDOW - samples_BN.shape[1])))
    return encoder.apply({"params": params}, whisper_mels(heard))[:, :time]


def initial(encoder: WhisperEncoder) -> dict:
    """Returns the shapes of the encoder's parameters."""
    steps = jnp.zeros((1, WINDOW // HOP, MELS))
    return jax.eval_shape(encoder.init, jax.random.key(0), steps)["params"]

"""AudioEncoder: wav2vec 2.0 (Baevski et al. 2020) or HuBERT (Hsu et al. 2021), 16 kHz sound to 50 Hz features.

VASA-1 conditions its motion on such features (section 3.2).

The module tree mirrors the public PyTorch checkpoints: replace `conv_layers.0` by `conv_layers_0`, `layers.3` by
`layers_3`, `weight` by `kernel` (or `scale` in a norm); convolution kernels are transposed (2, 1, 0), dense kernels
(1, 0), and the weight-normalised positional convolution is folded into one plain kernel.

Feature frame k is computed from samples [320 k, 320 k + 400): a hop of 20 ms and a field of 25 ms.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from vasa_jax.conventions import SAMPLES_PER_FRAME, frame_count
from vasa_jax.models.layers import Dtype
from vasa_jax.models.transformer import EncoderLayer

CONV_KERNELS = (10, 3, 3, 3, 3, 2, 2)
CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)


def feature_frames(samples: int, kernels: Sequence[int] = CONV_KERNELS, strides: Sequence[int] = CONV_STRIDES) -> int:
    """Returns the number of 50 Hz features that `samples` samples give: 16 000 -> 49, 640 L + 80 -> 2 L."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
    return samples


def pad_for_video(samples: Float[Array, "*batch samples"]) -> Float[Array, "*batch padded"]:
    """Appends zeros up to 640 L + 80 samples, L = ceil(n / 640), which give exactly 2 L features.

    Nothing is put in front, so features 2 i and 2 i + 1 start at samples 640 i and 640 i + 320 of the sound: together
    they see [640 i, 640 i + 720), video frame i and 5 ms after it.
    """
    length = samples.shape[-1]
    pad = [(0, 0)] * (samples.ndim - 1) + [(0, frame_count(length) * SAMPLES_PER_FRAME + 80 - length)]
    return np.pad(samples, pad) if isinstance(samples, np.ndarray) else jnp.pad(samples, pad)


def pair_mean(features: Float[Array, "*batch time50 width"]) -> Float[Array, "*batch time25 width"]:
    """Averages each pair of 50 Hz features: linear interpolation to 25 Hz with half-pixel centres."""
    if features.shape[-2] % 2:
        raise ValueError(f"an even number of 50 Hz features is needed, got {features.shape[-2]}; use pad_for_video")
    return 0.5 * (features[..., 0::2, :] + features[..., 1::2, :])


def _uniform_bias(fan_in: int):
    bound = 1.0 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class ConvLayer(nn.Module):
    """Applies a convolution without padding, a norm and exact GELU.

    `norm`: "group" (per channel over time), "layer" or "none".
    """

    width: int
    kernel: int
    stride: int
    bias: bool
    norm: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time_in channels"]) -> Float[Array, "batch time width"]:
        # A bias away from zero lets the layer norm after it keep the loudness of the sound: it sets the level below
        # which the sound no longer moves the features.
        x_BTC = nn.Conv(
            self.width, (self.kernel,), (self.stride,), padding="VALID", use_bias=self.bias, dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(), bias_init=_uniform_bias(self.kernel * x_BTC.shape[-1]),
            name="conv",
        )(x_BTC)  # fmt: skip
        if self.norm == "group":
            x_BTC = nn.GroupNorm(
                num_groups=self.width, epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="layer_norm"
            )(x_BTC)
        elif self.norm == "layer":
            x_BTC = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="layer_norm")(x_BTC)
        elif self.norm != "none":
            raise ValueError(f"norm must be group, layer or none, not {self.norm!r}")
        return jax.nn.gelu(x_BTC, approximate=False)


class FeatureExtractor(nn.Module):
    """Applies the strided convolutions from sound to 50 Hz. With `norm="group"` only the first layer has a norm."""

    width: int
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    bias: bool
    norm: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, samples_BN: Float[Array, "batch samples"]) -> Float[Array, "batch time width"]:
        x_BTC = samples_BN[:, :, None].astype(self.dtype)
        for i, (kernel, stride) in enumerate(zip(self.kernels, self.strides, strict=True)):
            norm = "none" if self.norm == "group" and i > 0 else self.norm
            x_BTC = ConvLayer(self.width, kernel, stride, self.bias, norm, self.dtype, name=f"conv_layers_{i}")(x_BTC)
        return x_BTC


class FeatureProjection(nn.Module):
    """Applies layer norm over the convolution's channels, then Dense to the transformer's width."""

    width: int
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time channels"]) -> Float[Array, "batch time width"]:
        x_BTC = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="layer_norm")(x_BTC)
        x_BTC = nn.Dense(self.width, dtype=self.dtype, name="projection")(x_BTC)
        return nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x_BTC)


class ConvPositions(nn.Module):
    """Adds relative positions: grouped convolution, GELU; an even kernel leaves one step too many, which is dropped."""

    width: int
    kernel: int
    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        half = self.kernel // 2
        y_BTC = nn.Conv(
            self.width, (self.kernel,), padding=[(half, half)], feature_group_count=self.groups, dtype=self.dtype,
            kernel_init=nn.initializers.normal(2.0 / math.sqrt(self.kernel * self.width)), name="conv",
        )(x_BTC)  # fmt: skip
        return jax.nn.gelu(y_BTC[:, : x_BTC.shape[1]], approximate=False)


class Encoder(nn.Module):
    """Applies positional convolution and transformer; the norm is before the layers (post-norm) or after (pre-norm)."""

    width: int
    layers: int
    heads: int
    ff_width: int
    pos_kernel: int
    pos_groups: int
    pre_norm: bool
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="layer_norm")
        x_BTC = x_BTC + ConvPositions(
            self.width, self.pos_kernel, self.pos_groups, self.dtype, name="pos_conv_embed"
        )(x_BTC)  # fmt: skip
        if not self.pre_norm:
            x_BTC = norm(x_BTC)
        x_BTC = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x_BTC)
        for i in range(self.layers):
            x_BTC = EncoderLayer(
                self.width, self.heads, self.ff_width, self.pre_norm, self.dropout, self.dtype, name=f"layers_{i}"
            )(x_BTC)
        return norm(x_BTC) if self.pre_norm else x_BTC


class AudioEncoder(nn.Module):
    """Maps 16 kHz mono sound to 50 Hz features: wav2vec2 / HuBERT, the checkpoints' last hidden state.

    `AudioEncoder(**AUDIO_VARIANTS[name]).apply({"params": params}, samples)`. `waveform` says how the sound enters.
    "utterance": zero mean and unit variance over each row, as the public base models expect; features then depend on
    the whole chunk. "scale": multiplied by `waveform_scale`, so that loudness, which moves the face, is kept.
    Dropout acts exactly when a "dropout" random key is given to `apply`.
    """

    conv_width: int = 512
    conv_kernels: tuple[int, ...] = CONV_KERNELS
    conv_strides: tuple[int, ...] = CONV_STRIDES
    conv_bias: bool = False
    conv_norm: str = "group"
    width: int = 768
    layers: int = 12
    heads: int = 12
    ff_width: int = 3072
    pos_kernel: int = 128
    pos_groups: int = 16
    pre_norm: bool = False
    waveform: str = "utterance"
    waveform_scale: float = 10.0  # speech at an RMS of 0.1 enters with unit variance
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    def setup(self):
        if self.waveform not in ("utterance", "scale"):
            raise ValueError(f"waveform must be utterance or scale, not {self.waveform!r}")
        self.feature_extractor = FeatureExtractor(
            self.conv_width, self.conv_kernels, self.conv_strides, self.conv_bias, self.conv_norm, self.dtype
        )
        self.feature_projection = FeatureProjection(self.width, self.dropout, self.dtype)
        self.encoder = Encoder(
            self.width, self.layers, self.heads, self.ff_width, self.pos_kernel, self.pos_groups, self.pre_norm,
            self.dropout, self.dtype,
        )  # fmt: skip

    def extract(self, samples_BN: Float[Array, "batch samples"]) -> Float[Array, "batch time conv_width"]:
        """Returns features of the convolutions alone; with `conv_norm="layer"` frame k depends on its 400 samples."""
        samples_BN = samples_BN.astype(jnp.float32)
        if self.waveform == "utterance":
            variance = jnp.var(samples_BN, axis=-1, keepdims=True)
            samples_BN = (samples_BN - jnp.mean(samples_BN, axis=-1, keepdims=True)) / jnp.sqrt(variance + 1e-7)
        else:
            samples_BN = samples_BN * self.waveform_scale
        return self.feature_extractor(samples_BN)

    def __call__(self, samples_BN: Float[Array, "batch samples"]) -> Float[Array, "batch time width"]:
        """Maps float samples in [-1, 1], (B, N), to float32 features (B, feature_frames(N), width)."""
        return self.encoder(self.feature_projection(self.extract(samples_BN))).astype(jnp.float32)


class PhonemeHead(nn.Module):
    """Reads phonemes, stress and loudness linearly from features; dropped after training."""

    classes: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "B T C"]
    ) -> tuple[Float[Array, "B T classes"], Float[Array, "B T"], Float[Array, "B T"]]:
        """Returns phoneme logits, the stress logit and the log energy."""
        out = nn.Dense(self.classes + 2, name="out")(features)
        return out[..., :-2], out[..., -2], out[..., -1]

"""StreamingAudioEncoder: 16 kHz sound to 50 Hz features with a bounded look-ahead, so that a stream hears as a file.

Log mels, a strided convolution and residual blocks of depthwise convolutions in time (ConvNeXt, Liu et al. 2022).
Every layer sees some steps of the past, and the first ones one step of the future each. Before its beginning a sound is
silence. A stream keeps the last inputs of each layer; a file is the same steps, one after another.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME, TAIL
from vasa_jax.models.layers import Dtype

MEL_HOP, MEL_SPAN, MEL_WINDOW, FFT = 160, 480, 400, 512  # samples; the window stands in the middle of the span
LOWEST, HIGHEST = 60.0, 7600.0  # Hz
FLOOR = 1e-7  # power below which sound is silence
LOG_OFFSET, LOG_SCALE = 5.0, 4.0  # a log mel m of a power is (log power + LOG_OFFSET) / LOG_SCALE
STEM_KERNEL = 4  # mels at 100 Hz, with a stride of 2
LOOK_AHEAD = 2  # video frames after its own that a feature may depend on: 80 ms

State = tuple[Array, ...]


def mel_filters(mels: int) -> np.ndarray:
    """Returns triangular filters of equal width in mels (HTK): float32 (FFT / 2 + 1, mels)."""
    points = _mel_points(mels)
    bins = np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1)[:, None]
    rise = (bins - points[:-2]) / (points[1:-1] - points[:-2])
    fall = (points[2:] - bins) / (points[2:] - points[1:-1])
    return np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)


def mel_centres(mels: int) -> np.ndarray:
    """Returns the frequency in Hz at which each filter of `mel_filters` is greatest: float32 (mels,)."""
    return _mel_points(mels)[1:-1].astype(np.float32)


def _mel_points(mels: int) -> np.ndarray:
    ends = 2595.0 * np.log10(1.0 + np.array([LOWEST, HIGHEST]) / 700.0)
    return 700.0 * (10.0 ** (np.linspace(*ends, mels + 2) / 2595.0) - 1.0)


def _fourier() -> np.ndarray:
    """Returns the windowed real and imaginary parts of the transform of a span: float32 (MEL_SPAN, FFT + 2)."""
    edge = (MEL_SPAN - MEL_WINDOW) // 2
    window = np.pad(np.hanning(MEL_WINDOW + 1)[:-1], edge)
    angle = 2.0 * np.pi * np.outer(np.arange(MEL_SPAN), np.arange(FFT // 2 + 1)) / FFT
    return (window[:, None] * np.concatenate([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)


def log_mels(samples_BN: Float[Array, "batch samples"], mels: int) -> Float[Array, "batch time mels"]:
    """Returns log mels at 100 Hz of sound, float32: step j is that of samples [160 j, 160 j + 480)."""
    count = (samples_BN.shape[-1] - MEL_SPAN) // MEL_HOP + 1
    places = np.arange(count)[:, None] * MEL_HOP + np.arange(MEL_SPAN)
    parts = samples_BN.astype(jnp.float32)[:, places] @ _fourier()
    real, imaginary = jnp.split(parts, 2, axis=-1)
    power = (real**2 + imaginary**2) @ mel_filters(mels)
    return (jnp.log(power + FLOOR) + LOG_OFFSET) / LOG_SCALE


class TimeBlock(nn.Module):
    """Adds to each step what a depthwise convolution around it and two dense layers make of it.

    Takes `kernel - 1` x `dilation` steps more than it gives; `ahead` steps of the kernel lie in the future.
    """

    width: int
    kernel: int
    dilation: int
    ahead: int
    expansion: int
    dtype: Dtype = jnp.float32

    @property
    def context(self) -> int:
        """Says how many steps more go in than come out."""
        return (self.kernel - 1) * self.dilation

    @nn.compact
    def __call__(self, x_BTC: Float[Array, "batch time_in width"]) -> Float[Array, "batch time width"]:
        taps = self.param("taps", nn.initializers.normal(self.kernel**-0.5), (self.kernel, self.width))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        count = x_BTC.shape[1] - self.context
        y_BTC = bias.astype(self.dtype)
        for tap in range(self.kernel):
            first = tap * self.dilation
            y_BTC = y_BTC + taps[tap].astype(self.dtype) * x_BTC[:, first : first + count]
        y_BTC = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="layer_norm")(y_BTC)
        y_BTC = jax.nn.gelu(nn.Dense(self.expansion * self.width, dtype=self.dtype, name="widen")(y_BTC))
        y_BTC = nn.Dense(self.width, dtype=self.dtype, name="narrow")(y_BTC)
        own = (self.kernel - 1 - self.ahead) * self.dilation
        return x_BTC[:, own : own + count] + y_BTC


class TimeBlocks(nn.Module):
    """Applies the blocks and a last norm; with a state, to the next steps of a stream."""

    width: int
    kernel: int
    dilations: tuple[int, ...]
    ahead: tuple[int, ...]
    expansion: int
    dtype: Dtype = jnp.float32

    def setup(self):
        self.blocks = [
            TimeBlock(self.width, self.kernel, dilation, ahead, self.expansion, self.dtype, name=f"blocks_{i}")
            for i, (dilation, ahead) in enumerate(zip(self.dilations, self.ahead, strict=True))
        ]
        self.layer_norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype)

    def __call__(self, x_BTC, state: State | None = None):
        """Returns (features, the next state); without a state the context is taken from the beginning of x."""
        kept = []
        for number, block in enumerate(self.blocks):
            if state is not None:
                x_BTC = jnp.concatenate([state[number], x_BTC], 1)
                kept.append(x_BTC[:, -block.context :])
            x_BTC = block(x_BTC)
        return self.layer_norm(x_BTC), tuple(kept)


class StreamingAudioEncoder(nn.Module):
    """Maps 16 kHz mono sound to 50 Hz features, LOOK_AHEAD video frames ahead, as `AudioEncoder` does to its own.

    `apply({"params": params}, samples)` hears a whole sound at once, for training. `silent_state` and
    `apply(..., method="step")` hear it as it comes.
    """

    mels: int = 64
    width: int = 192
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 1, 1, 2, 2, 4, 4, 8)
    ahead: tuple[int, ...] = (1, 1, 1, 0, 0, 0, 0, 0)
    expansion: int = 4
    dtype: Dtype = jnp.float32

    def setup(self):
        if sum(a * d for a, d in zip(self.ahead, self.dilations, strict=True)) != LOOK_AHEAD * 2 - 1:
            raise ValueError(f"blocks look ahead {self.ahead}, dilations {self.dilations}: 3 steps in all are needed")
        if max(self.ahead) >= self.kernel or self.kernel < 2:
            raise ValueError(f"kernel {self.kernel} holds no {max(self.ahead)} steps ahead")
        self.stem = nn.Conv(
            self.width, (STEM_KERNEL,), (2,), padding="VALID", dtype=self.dtype, kernel_init=nn.initializers.he_normal()
        )
        self.encoder = TimeBlocks(self.width, self.kernel, self.dilations, self.ahead, self.expansion, self.dtype)

    def __call__(self, samples_BN: Float[Array, "batch samples"]) -> Float[Array, "batch time width"]:
        """Maps float samples in [-1, 1], (B, 640 L + 80), to float32 features (B, 2 L, width).

        Silence is heard before and after them.
        """
        return self.of_mels(self.spectrum(samples_BN))

    def spectrum(self, samples_BN: Float[Array, "batch samples"]) -> Float[Array, "batch steps mels"]:
        """Returns the log mels at 100 Hz that `__call__` hears, with the silence before and after."""
        frames = max((samples_BN.shape[-1] - TAIL) // SAMPLES_PER_FRAME, 1)
        after = (frames + LOOK_AHEAD) * SAMPLES_PER_FRAME - samples_BN.shape[-1]
        heard = jnp.pad(samples_BN, ((0, 0), (context_samples(self.kernel, self.dilations), after)))
        return log_mels(heard, self.mels)

    def of_mels(self, mels_BTC: Float[Array, "batch steps mels"]) -> Float[Array, "batch time width"]:
        """Returns the features of what `spectrum` gives."""
        features, _ = self.encoder(self._stem(mels_BTC))
        return features.astype(jnp.float32)

    def step(
        self, state: State, samples_BN: Float[Array, "batch samples"]
    ) -> tuple[State, Float[Array, "batch time width"]]:
        """Hears the next n video frames of sound, (B, 640 n): returns the next state and features (B, 2 n, width).

        They are those of the n frames that end LOOK_AHEAD frames before.
        """
        sound, mels, *blocks = state
        heard = jnp.concatenate([sound, samples_BN.astype(jnp.float32)], 1)
        steps = jnp.concatenate([mels, log_mels(heard, self.mels)], 1)
        features, kept = self.encoder(self._stem(steps), tuple(blocks))
        next_state = (heard[:, MEL_HOP - MEL_SPAN :], steps[:, 2 - STEM_KERNEL :], *kept)
        return next_state, features.astype(jnp.float32)

    def _stem(self, mels_BTC):
        return jax.nn.gelu(self.stem(mels_BTC.astype(self.dtype)))


def context_samples(kernel: int, dilations: tuple[int, ...]) -> int:
    """Returns how many samples before a video frame, less its look-ahead, its features depend on."""
    steps = (kernel - 1) * sum(dilations)
    one_frame = 2 * MEL_HOP * (steps + 1) + (STEM_KERNEL - 1) * MEL_HOP + MEL_SPAN  # what its two features see
    return one_frame - SAMPLES_PER_FRAME * (LOOK_AHEAD + 1)


def silent_state(network: StreamingAudioEncoder, params: Mapping[str, Any], batch: int = 1) -> State:
    """Returns the state of a stream that has heard nothing but silence."""
    context = (network.kernel - 1) * sum(network.dilations)
    widths = [(MEL_SPAN - MEL_HOP, None), (STEM_KERNEL - 2, network.mels)]
    widths += [((network.kernel - 1) * dilation, network.width) for dilation in network.dilations]
    state = tuple(
        jnp.zeros((batch, length) if width is None else (batch, length, width), jnp.float32 if i < 2 else network.dtype)
        for i, (length, width) in enumerate(widths)
    )
    silence = jnp.zeros((batch, SAMPLES_PER_FRAME * (context // 2 + 2)), jnp.float32)
    state, _ = network.apply({"params": params}, state, silence, method="step")
    return state

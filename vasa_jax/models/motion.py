"""VASADiffusionTransformer: the motion denoiser of VASA-1 (arXiv 2404.10667, section 3.2).

A transformer encoder over one token per frame (K frames of the window before, W of this one) and one per condition. It
predicts the clean motion of the W frames. Every condition has its own learned null, used where its mask is False.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Bool, Float, Int

from vasa_jax.conventions import MOTION_DIM
from vasa_jax.models.layers import Dtype
from vasa_jax.models.transformer import EncoderLayer


class MotionConditions(NamedTuple):
    """The conditions of one window's motion. Masks are True where the condition is known.

    Motion is z-scored. The units of gaze, distance and emotion are those of training (of order one).
    """

    audio: Float[Array, "batch window audio_dim"]  # 25 Hz features of this window
    prev_motion: Float[Array, "batch previous motion_dim"]  # X_pre
    prev_audio: Float[Array, "batch previous audio_dim"]  # A_pre
    gaze: Float[Array, "batch 2"]
    distance: Float[Array, "batch 1"]
    emotion: Float[Array, "batch 8"]
    audio_mask: Bool[Array, "batch window"]
    prev_mask: Bool[Array, "batch"]  # X_pre and A_pre together
    gaze_mask: Bool[Array, "batch"]
    distance_mask: Bool[Array, "batch"]
    emotion_mask: Bool[Array, "batch"]
    blinks: Float[Array, "batch window"] | None = None  # how far blinking closes the lids, 1 = shut
    blinks_mask: Bool[Array, "batch"] | None = None  # both None: not known


class MotionContext(NamedTuple):
    """The part of a window's tokens that depends on its conditions alone, made once for all steps of the sampler."""

    frames: Float[Array, "batch total width"]  # of the K + W frames, float32; the noisy motion's share is missing
    controls: Float[Array, "batch 3 width"]  # gaze, distance, emotion


class PositionalEncoding(nn.Module):
    """Encodes real positions (...,) as sinusoids (..., width); no parameters (arXiv 1706.03762)."""

    width: int
    max_period: float = 10_000.0

    def __call__(self, positions: Array) -> Float[Array, "*shape width"]:
        half = self.width // 2
        frequencies = jnp.exp(-jnp.log(self.max_period) * jnp.arange(half, dtype=jnp.float32) / half)
        angles = positions[..., None].astype(jnp.float32) * frequencies
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def _known(mask: Bool[Array, "..."], value: Float[Array, "..."], null: Float[Array, "..."]) -> Float[Array, "..."]:
    """`value` where `mask` (of fewer trailing axes) is True, else `null`; unknown values may even be NaN."""
    mask = mask.reshape(mask.shape + (1,) * (value.ndim - mask.ndim))
    return jnp.where(mask, value, null)


@functools.partial(jax.jit, static_argnums=1)
def cast_products(params: dict[str, Any], dtype: Dtype) -> dict[str, Any]:
    """Casts the kernels and biases of a `VASADiffusionTransformer` that are used in `dtype`.

    Casting once here, instead of in every solver step, does not change the result.
    """
    flat = traverse_util.flatten_dict(params)

    def product(path):
        return path[-1] in ("kernel", "bias") and (*path[:-1], "kernel") in flat and path[0] != "motion_out"

    return traverse_util.unflatten_dict({path: x.astype(dtype) if product(path) else x for path, x in flat.items()})


class FrameInput(nn.Module):
    """A Dense layer of all features of a frame, which can also tell the share of the first ones; sums are float32."""

    features: int
    width: int
    dtype: Dtype = jnp.float32

    def setup(self):
        self.kernel = self.param("kernel", nn.linear.default_kernel_init, (self.features, self.width))
        self.bias = self.param("bias", nn.initializers.zeros, (self.width,))

    def __call__(self, features_BTF: Float[Array, "batch time features"]) -> Float[Array, "batch time width"]:
        return self.share(features_BTF) + self.bias.astype(self.dtype)

    def share(self, first_BTP: Float[Array, "batch time part"]) -> Float[Array, "batch time width"]:
        """Returns what the first features add to the output."""
        kernel = self.kernel[: first_BTP.shape[-1]].astype(self.dtype)
        return jnp.einsum("btp,pc->btc", first_BTP.astype(self.dtype), kernel, preferred_element_type=jnp.float32)


class VASADiffusionTransformer(nn.Module):
    """Predicts clean motion from noisy motion, its timestep and the conditions.

    Parameters are float32, activations `dtype`, the softmax float32. Dropout acts exactly when a "dropout" random key
    is given to `apply`.

    Attributes:
      time_conditioning: "token" = the timestep is one more token; "adaln" = it modulates every layer.
      positions: "learned" or "sinusoidal", of the frames.
      fused: attention as one GPU kernel, without a gradient.
    """

    width: int = 512
    layers: int = 8
    heads: int = 8
    ff_width: int = 2048
    motion_dim: int = MOTION_DIM
    audio_dim: int = 768
    window: int = 100  # W, frames
    previous: int = 10  # K, frames
    time_conditioning: str = "token"
    positions: str = "learned"
    time_features: int = 64
    dropout: float = 0.0
    blinks: bool = False  # whether it can be told when to blink, a condition of ours
    dtype: Dtype = jnp.float32
    fused: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens of a sequence."""
        return self.previous + self.window + 3 + (1 if self.time_conditioning == "token" else 0)

    def setup(self):
        if self.time_conditioning not in ("token", "adaln"):
            raise ValueError(f"time_conditioning must be token or adaln, not {self.time_conditioning!r}")
        if self.positions not in ("learned", "sinusoidal"):
            raise ValueError(f"positions must be learned or sinusoidal, not {self.positions!r}")
        null_init = nn.initializers.normal(0.02)
        self.null_audio = self.param("null_audio", null_init, (self.audio_dim,))
        self.null_prev_motion = self.param("null_prev_motion", null_init, (self.previous, self.motion_dim))
        self.null_prev_audio = self.param("null_prev_audio", null_init, (self.previous, self.audio_dim))
        for name in ("gaze", "distance", "emotion"):
            setattr(self, f"null_{name}", self.param(f"null_{name}", null_init, (self.width,)))
            setattr(self, f"{name}_in", nn.Dense(self.width, dtype=self.dtype))
        features = self.motion_dim + self.audio_dim + 3 + (2 if self.blinks else 0)
        self.frame_in = FrameInput(features, self.width, self.dtype)
        if self.positions == "learned":
            # learned, from the sinusoidal table: neighbouring frames are alike from the first step
            self.frame_positions = self.param("frame_positions", lambda key: self._sinusoids())
        self.time_encoding = PositionalEncoding(self.time_features)
        self.time_in, self.time_out = (nn.Dense(self.width, dtype=self.dtype) for _ in range(2))
        self.encoder = [
            EncoderLayer(
                self.width, self.heads, self.ff_width, pre_norm=True, dropout=self.dropout, dtype=self.dtype,
                fused=self.fused, name=f"layers_{i}",
            )
            for i in range(self.layers)
        ]  # fmt: skip
        self.final_layer_norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype)
        self.motion_out = nn.Dense(self.motion_dim, dtype=jnp.float32)

    def __call__(
        self,
        noisy_BWD: Float[Array, "batch window motion_dim"],
        t_B: Int[Array, "batch"],
        conditions: MotionConditions,
    ) -> Float[Array, "batch window motion_dim"]:
        """Predicts x0 (B, W, D) float32 from noisy (B, W, D) float32, t (B,) in [0, T) and conditions.

        Raises:
          ValueError: the inputs' W or K are not the model's, or a field has an unknown value.
        """
        return self.denoise(noisy_BWD, t_B, self.context(conditions))

    def context(self, conditions: MotionConditions) -> MotionContext:
        """Turns conditions into what `denoise` takes; ValueError as above."""
        if conditions.audio.shape[1] != self.window or conditions.prev_motion.shape[1] != self.previous:
            raise ValueError(
                f"the model has W = {self.window} and K = {self.previous}, the conditions "
                f"W = {conditions.audio.shape[1]} and K = {conditions.prev_motion.shape[1]}"
            )
        controls = [
            self._condition_token("gaze", conditions.gaze, conditions.gaze_mask),
            self._condition_token("distance", conditions.distance, conditions.distance_mask),
            self._condition_token("emotion", conditions.emotion, conditions.emotion_mask),
        ]
        return MotionContext(self._frame_tokens(conditions), jnp.concatenate(controls, axis=1))

    def denoise(
        self, noisy_BWD: Float[Array, "batch window motion_dim"], t_B: Int[Array, "batch"], context: MotionContext
    ) -> Float[Array, "batch window motion_dim"]:
        """Predicts x0 (B, W, D) float32 from noisy (B, W, D) float32 and t (B,) in [0, T); ValueError for another W."""
        if noisy_BWD.shape[1] != self.window:
            raise ValueError(
                f"the model has W = {self.window} and K = {self.previous}, the noisy motion W = {noisy_BWD.shape[1]}"
            )
        frames = context.frames + jnp.pad(self.frame_in.share(noisy_BWD), ((0, 0), (self.previous, 0), (0, 0)))
        tokens = [context.controls]

        # the timestep
        time_BC = self.time_out(jax.nn.silu(self.time_in(self.time_encoding(t_B).astype(self.dtype))))
        modulation = time_BC if self.time_conditioning == "adaln" else None
        if modulation is None:
            tokens.append(time_BC[:, None, :])

        # the encoder; only the current frames leave it
        x_BTC = jnp.concatenate([*tokens, frames.astype(self.dtype)], axis=1)
        for layer in self.encoder:
            x_BTC = layer(x_BTC, modulation)
        x_BWC = self.final_layer_norm(x_BTC[:, -self.window :])
        return self.motion_out(x_BWC.astype(jnp.float32))

    def _frame_tokens(self, conditions: MotionConditions) -> Array:
        """Tokens of the K + W frames: Dense of motion, audio, three flags and, where the model has them, blinks. The
        motion of the W frames is not known yet: as if it were zero."""
        batch = conditions.audio.shape[0]
        prev_motion = _known(conditions.prev_mask, conditions.prev_motion, self.null_prev_motion)
        prev_audio = _known(conditions.prev_mask, conditions.prev_audio, self.null_prev_audio)
        audio = _known(conditions.audio_mask, conditions.audio, self.null_audio)
        motion_BTD = jnp.pad(prev_motion, ((0, 0), (0, self.window), (0, 0)))
        audio_BTA = jnp.concatenate([prev_audio, audio], axis=1)

        total = self.previous + self.window
        prev_valid = jnp.broadcast_to(conditions.prev_mask[:, None], (batch, total))
        is_prev = jnp.broadcast_to(jnp.arange(total) < self.previous, (batch, total))
        audio_valid = jnp.concatenate([prev_valid[:, : self.previous], conditions.audio_mask], axis=1)
        flags_BTF = jnp.stack([is_prev, audio_valid, prev_valid], axis=-1).astype(jnp.float32)

        features = [motion_BTD, audio_BTA, flags_BTF]
        if self.blinks:
            features.append(self._blink_features(conditions, batch))
        tokens_BTC = self.frame_in(jnp.concatenate(features, axis=-1))
        return tokens_BTC + (self.frame_positions if self.positions == "learned" else self._sinusoids())

    def _sinusoids(self) -> Float[Array, "total width"]:
        return PositionalEncoding(self.width, parent=None)(jnp.arange(-self.previous, self.window))

    def _blink_features(self, conditions: MotionConditions, batch: int) -> Float[Array, "batch total 2"]:
        """Lid closure and whether it is known, per frame; of the frames before the window the motion tells it."""
        if conditions.blinks is None:
            return jnp.zeros((batch, self.previous + self.window, 2))
        known = conditions.blinks_mask[:, None] & jnp.ones(conditions.blinks.shape, bool)
        features = jnp.stack([jnp.where(known, conditions.blinks, 0.0), known.astype(jnp.float32)], axis=-1)
        return jnp.pad(features, ((0, 0), (self.previous, 0), (0, 0)))

    def _condition_token(self, name: str, value_BD: Array, mask_B: Array) -> Array:
        """(B, 1, width): Dense of a known condition, its own learned null otherwise."""
        null, dense = getattr(self, f"null_{name}"), getattr(self, f"{name}_in")
        value_BD = _known(mask_B, value_BD, jnp.zeros_like(value_BD))
        return _known(mask_B, dense(value_BD.astype(self.dtype)), null.astype(self.dtype))[:, None, :]

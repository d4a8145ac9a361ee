"""LipReader: how far a mouth is open, read from the log mels of its voice alone.

A few convolutions in time over mels relative to the voice's own mean spectrum (cepstral mean subtraction, Atal 1974):
microphone, room and loudness fall out. It is small enough to learn from minutes of measured mouths. Log mels are those
of `streaming_audio.py`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL
from vasa_jax.models.layers import Dtype
from vasa_jax.models.streaming_audio import LOG_OFFSET, LOG_SCALE, MEL_HOP, MEL_SPAN, log_mels

STEPS = SAMPLES_PER_FRAME // MEL_HOP  # of log mels in a video frame
LEAD = MEL_SPAN + (STEPS - 1) * MEL_HOP - SAMPLES_PER_FRAME - TAIL  # samples before a frame that it hears
PARTS = 2  # of a video frame: pairs of steps are averaged
LOUD = 0.018  # mean power of the mels above which a part counts as sound, about 48 dB under full scale
PRIOR = 20.0  # parts that the training voices' mean spectrum counts as, in that of a voice: 0.4 s


class VoiceMean(NamedTuple):
    """Sums from which the mean spectrum of a voice so far follows."""

    mels: Float[Array, "*batch mels"]  # of parts that count as sound
    parts: Float[Array, "*batch"]  # how many they are

    def spectrum(self, prior: Float[Array, "mels"]) -> Float[Array, "*batch mels"]:
        """Returns the mean log mels; `prior` where nothing has been heard."""
        return (self.mels + PRIOR * prior) / (self.parts[..., None] + PRIOR)


def frame_mels(samples_BN: Float[Array, "batch samples"], mels: int) -> Float[Array, "batch frames parts mels"]:
    """Returns log mels of the parts of each video frame, of sound (B, LEAD + 640 T + TAIL) whose frames follow LEAD."""
    steps = log_mels(samples_BN, mels)
    return steps.reshape(steps.shape[0], -1, PARTS, STEPS // PARTS, mels).mean(3)


def heard_mean(mels_TPC: Float[Array, "*batch frames parts mels"]) -> VoiceMean:
    """Returns the sums of log mels as `frame_mels` gives them; silence does not count."""
    loud = (jnp.exp(LOG_SCALE * mels_TPC - LOG_OFFSET).mean(-1) > LOUD).astype(mels_TPC.dtype)
    return VoiceMean((loud[..., None] * mels_TPC).sum((-3, -2)), loud.sum((-2, -1)))


def relative_mels(
    mels_TPC: Float[Array, "*batch frames parts mels"], spectrum: Float[Array, "*batch mels"]
) -> Float[Array, "*batch frames channels"]:
    """Returns log mels over a mean spectrum, the parts of a frame side by side."""
    over = mels_TPC - spectrum[..., None, None, :]
    return over.reshape(*over.shape[:-2], -1)


class LipReader(nn.Module):
    """Maps `relative_mels` at 25 frames a second to the mouth's opening, in units that its training chose.

    `before` frames of context go in before the first frame that comes out, and `after` behind the last.
    """

    mels: int = 32
    width: int = 96
    kernel: int = 5
    ahead: tuple[int, ...] = (1, 1, 1)  # of each layer's kernel, frames in the future
    dropout: float = 0.2
    dtype: Dtype = jnp.float32

    @property
    def after(self) -> int:
        """Says how many frames of the future an opening depends on."""
        return sum(self.ahead)

    @property
    def before(self) -> int:
        """Says how many frames of the past an opening depends on."""
        return (self.kernel - 1) * len(self.ahead) - self.after

    @nn.compact
    def __call__(
        self, x_BTC: Float[Array, "batch heard channels"], training: bool = False
    ) -> Float[Array, "batch frames"]:
        for layer in range(len(self.ahead)):
            x_BTC = nn.Conv(self.width, (self.kernel,), padding="VALID", dtype=self.dtype, name=f"conv_{layer}")(x_BTC)
            # Whole channels go (Tompson et al. 2015): a mouth is to be heard in many of them.
            x_BTC = nn.Dropout(self.dropout, broadcast_dims=(1,), deterministic=not training)(jax.nn.gelu(x_BTC))
        return nn.Dense(1, dtype=self.dtype, name="opening")(x_BTC)[..., 0].astype(jnp.float32)

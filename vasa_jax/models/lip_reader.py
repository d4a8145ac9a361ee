"""LipReader: how far a mouth is open, read from the log mels of its voice alone.

A few convolutions in time over mels relative to the voice's own mean spectrum (cepstral mean subtraction, Atal 1974):
microphone, room and loudness fall out. It is small enough to learn from minutes of measured mouths. Log mels are those
of `streaming_audio.py`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL
from vasa_jax.models.layers import Dtype
from vasa_jax.models.streaming_audio import LOG_OFFSET, LOG_SCALE, MEL_HOP, MEL_SPAN, log_mels

STEPS = SAMPLES_PER_FRAME // MEL_HOP  # of log mels in a video frame
LEAD = MEL_SPAN + (STEPS - 1) * MEL_HOP - SAMPLES_PER_FRAME - TAIL  # samples before a frame that it hears
PARTS = 2  # of a video frame: pairs of steps are averaged
LOUD = 0.018  # mean power of the mels above which a part counts as sound, about 48 dB under full scale
PRIOR = 20.0  # parts that the training voices' mean spectrum counts as, in that of a voice: 0.4 s
PRIOR_FRAMES = 25.0  # of readings of mean 0 and deviation 1 that count beside a voice's own: 1 s


class VoiceMean(NamedTuple):
    """Sums from which the mean spectrum of a voice so far follows."""

    mels: Float[Array, "*batch mels"]  # of parts that count as sound
    parts: Float[Array, "*batch"]  # how many they are

    def spectrum(self, prior: Float[Array, "mels"]) -> Float[Array, "*batch mels"]:
        """Returns the mean log mels; `prior` where nothing has been heard."""
        return (self.mels + PRIOR * prior) / (self.parts[..., None] + PRIOR)


class ReadingSums(NamedTuple):
    """Sums from which mean and deviation of a voice's readings so far follow; over frames that hold sound."""

    readings: Float[Array, "*batch"]
    squares: Float[Array, "*batch"]
    frames: Float[Array, "*batch"]  # how many they are


class Voice(NamedTuple):
    """What is kept of a voice so far."""

    mean: VoiceMean
    readings: ReadingSums


def frame_mels(samples_BN: Float[Array, "batch samples"], mels: int) -> Float[Array, "batch frames parts mels"]:
    """Returns log mels of the parts of each video frame, of sound (B, LEAD + 640 T + TAIL) whose frames follow LEAD."""
    steps = log_mels(samples_BN, mels)
    return steps.reshape(steps.shape[0], -1, PARTS, STEPS // PARTS, mels).mean(3)


def log_power(mels_TPC: Float[Array, "*batch frames parts mels"]) -> Float[Array, "*batch frames"]:
    """Returns the natural logarithm of each frame's mean power."""
    return jnp.log(_power(mels_TPC).mean((-2, -1)))


def is_sound(mels_TPC: Float[Array, "*batch frames parts mels"]) -> Bool[Array, "*batch frames parts"]:
    """Says which parts are louder than silence."""
    return _power(mels_TPC).mean(-1) > LOUD


def _power(mels_TPC: Float[Array, "*batch frames parts mels"]) -> Float[Array, "*batch frames parts mels"]:
    return jnp.exp(LOG_SCALE * mels_TPC - LOG_OFFSET)


def reading_sums(
    readings_T: Float[Array, "*batch frames"], mels_TPC: Float[Array, "*batch frames parts mels"]
) -> ReadingSums:
    """Returns the sums of the reader's openings and of their squares; silence does not count."""
    sound = is_sound(mels_TPC).any(-1).astype(readings_T.dtype)
    return ReadingSums((sound * readings_T).sum(-1), (sound * readings_T**2).sum(-1), sound.sum(-1))


def standardised(readings_T: Float[Array, "*batch frames"], sums: ReadingSums) -> Float[Array, "*batch frames"]:
    """Returns openings about the voice's own mean, in its own deviation.

    The reader learns by correlation, which leaves both open: it reads some voices flat, some wide.
    """
    count = sums.frames + PRIOR_FRAMES
    mean = sums.readings / count
    variance = (sums.squares + PRIOR_FRAMES) / count - mean**2
    # Sound whose readings hardly vary is no voice, and its mean tells nothing about one.
    shift = mean * jnp.minimum(variance, 1.0)
    return (readings_T - shift[..., None]) / jnp.sqrt(variance)[..., None]


def heard_mean(mels_TPC: Float[Array, "*batch frames parts mels"]) -> VoiceMean:
    """Returns the sums of log mels as `frame_mels` gives them; silence does not count."""
    loud = is_sound(mels_TPC).astype(mels_TPC.dtype)
    return VoiceMean((loud[..., None] * mels_TPC).sum((-3, -2)), loud.sum((-2, -1)))


def heard_so_far(mels_TPC: Float[Array, "frames parts mels"]) -> VoiceMean:
    """Returns what `heard_mean` gives at each frame for the frames up to and with it, as a live voice is heard."""
    each = heard_mean(mels_TPC[:, None])
    return VoiceMean(*(part.cumsum(0) for part in each))


def relative_mels(
    mels_TPC: Float[Array, "*batch frames parts mels"], spectrum: Float[Array, "*batch mels"]
) -> Float[Array, "*batch frames channels"]:
    """Returns natural logarithms of power over a mean spectrum, the parts of a frame side by side."""
    return over_spectra(mels_TPC, spectrum[..., None, :])


def over_spectra(
    mels_TPC: Float[Array, "*batch frames parts mels"], spectra: Float[Array, "*batch frames_or_one mels"]
) -> Float[Array, "*batch frames channels"]:
    """Returns `relative_mels` with a spectrum for each frame."""
    # In nats a first layer learns four times as fast as in the units of `log_mels`: r with unheard people +0.012.
    over = LOG_SCALE * (mels_TPC - spectra[..., None, :])
    return over.reshape(*over.shape[:-2], -1)


class LipReader(nn.Module):
    """Maps `relative_mels` at 25 frames a second to the mouth's opening, in units that its training chose.

    `before` frames of context go in before the first frame that comes out, and `after` behind the last.
    """

    mels: int = 32
    width: int = 128
    kernel: int = 5
    ahead: tuple[int, ...] = (2, 2, 2)  # of each layer's kernel, frames in the future
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

"""Changes log mels of speech while an audio encoder trains, so that it hears every example in another voice and room.

Vocal-tract length (Jaitly and Hinton 2013), a microphone's curve, steady noise, and masked times and bands
(SpecAugment, Park et al. 2019). Each example draws its own; phonemes and their times stay.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vasa_jax.models.streaming_audio import LOG_SCALE, mel_centres

TRACT = (0.82, 1.22)  # by which the frequencies of a voice are multiplied
CURVE = 6.0  # decibels, deviation of a microphone's curve
CURVES = 5  # half waves over the mel axis, at most
NOISE = (5.0, 45.0)  # decibels by which it lies under the example's own loud parts
TIMES, LONGEST = 2, 20  # masked stretches, and their greatest length in steps of 10 ms
BANDS, WIDEST = 2, 0.15  # masked bands, and their greatest share of the mels


def changed_mels(
    mels_BTC: Float[Array, "batch time mels"], key: PRNGKeyArray, share: float
) -> Float[Array, "batch time mels"]:
    """Returns log mels as `log_mels` gives them, those of `share` of the examples changed."""
    keys = jax.random.split(key, 6)
    batch = mels_BTC.shape[0]
    changed = _warped(mels_BTC, keys[0])
    changed = _noisy(changed + _microphone(changed, keys[1]), keys[2])
    changed = _masked(changed, keys[3], axis=1, count=TIMES, longest=LONGEST)
    changed = _masked(changed, keys[4], axis=2, count=BANDS, longest=round(WIDEST * mels_BTC.shape[2]))
    chosen = jax.random.uniform(keys[5], (batch, 1, 1)) < share
    return jnp.where(chosen, changed, mels_BTC)


def _warped(mels_BTC, key):
    """Reads each mel where a tract of another length has put it."""
    centres = jnp.asarray(mel_centres(mels_BTC.shape[2]))
    low, high = jnp.log(jnp.asarray(TRACT))
    factor = jnp.exp(jax.random.uniform(key, (mels_BTC.shape[0], 1), minval=low, maxval=high))
    place = jnp.interp((centres * factor).ravel(), centres, jnp.arange(len(centres), dtype=jnp.float32))
    place = place.reshape(mels_BTC.shape[0], 1, -1)
    below = jnp.clip(place.astype(jnp.int32), 0, len(centres) - 2)
    rest = place - below
    first, second = (jnp.take_along_axis(mels_BTC, below + step, 2) for step in (0, 1))
    return first + rest * (second - first)


def _microphone(mels_BTC, key):
    """Draws a smooth curve over the mels, the same at every time: (B, 1, C), in units of the log mels."""
    batch, _, mels = mels_BTC.shape
    waves = jnp.cos(jnp.pi * jnp.arange(1, CURVES + 1)[:, None] * (jnp.arange(mels) + 0.5) / mels)
    weights = jax.random.normal(key, (batch, CURVES)) * CURVE / jnp.sqrt(CURVES / 2)
    return _from_decibels(weights @ waves)[:, None]


def _noisy(mels_BTC, key):
    """Adds power that is steady over time, of a colour of its own."""
    keys = jax.random.split(key)
    batch, _, mels = mels_BTC.shape
    loud = jnp.quantile(mels_BTC, 0.9, axis=(1, 2), keepdims=True)
    under = jax.random.uniform(keys[0], (batch, 1, 1), minval=NOISE[0], maxval=NOISE[1])
    tilt = jax.random.uniform(keys[1], (batch, 1, 1), minval=-15.0, maxval=15.0) * jnp.linspace(1, -1, mels)
    noise = loud + _from_decibels(tilt - under)
    return jnp.logaddexp(LOG_SCALE * mels_BTC, LOG_SCALE * noise) / LOG_SCALE


def _masked(mels_BTC, key, axis, count, longest):
    """Sets stretches of an axis to the example's mean, up to `longest` steps each."""
    size = mels_BTC.shape[axis]
    keys = jax.random.split(key)
    shape = (mels_BTC.shape[0], count, 1)
    length = jax.random.uniform(keys[0], shape) * min(longest, size)
    start = jax.random.uniform(keys[1], shape) * (size - length)
    place = jnp.arange(size)
    hidden = ((place >= start) & (place < start + length)).any(1)
    hidden = jnp.expand_dims(hidden, 3 - axis)
    return jnp.where(hidden, mels_BTC.mean((1, 2), keepdims=True), mels_BTC)


def _from_decibels(decibels):
    return decibels * (jnp.log(10.0) / 10.0 / LOG_SCALE)

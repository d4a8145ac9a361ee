"""What `LipReader`, a network of ours, hears in whole sounds of any length, in pieces of one compiled shape."""

import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL, frame_count
from vasa_jax.models.lip_reader import LEAD, LipReader, frame_mels, heard_mean, relative_mels

PIECE = 250  # frames heard at once


def sound_mels(samples: Float[np.ndarray, "N"], mels: int) -> Float[np.ndarray, "T parts mels"]:
    """Returns what `frame_mels` gives for a sound of any length, silence before and after it, in pieces."""
    frames = frame_count(len(samples))
    wide = -(-frames // PIECE) * PIECE * SAMPLES_PER_FRAME
    padded = np.pad(np.asarray(samples, np.float32), (LEAD, wide + TAIL - len(samples)))
    span = LEAD + PIECE * SAMPLES_PER_FRAME + TAIL
    starts = range(0, wide, PIECE * SAMPLES_PER_FRAME)
    return np.concatenate([np.asarray(_mels(padded[None, start : start + span], mels))[0] for start in starts])[:frames]


def read_sound(
    network: LipReader, params: Any, mels: Float[np.ndarray, "T parts mels"], prior: Float[np.ndarray, "mels"]
) -> Float[np.ndarray, "T"]:
    """Returns the reader's openings of a whole sound over its own mean spectrum, in the reader's units, in pieces.

    mels: as `sound_mels` gives them. The first and the last frame go on at the ends.
    """
    frames, spectrum = len(mels), np.asarray(heard_mean(mels).spectrum(prior))
    wide = np.pad(mels, ((network.before, network.after + -frames % PIECE), (0, 0), (0, 0)), "edge")
    span = network.before + PIECE + network.after
    starts = range(0, frames, PIECE)
    parts = [_read(network, params, wide[None, start : start + span], spectrum[None])[0] for start in starts]
    return np.concatenate(parts)[:frames]


_mels = jax.jit(frame_mels, static_argnums=1)


@functools.partial(jax.jit, static_argnums=0)
def _read(network: LipReader, params: Any, mels: Array, spectrum: Array) -> Array:
    return network.apply({"params": params}, relative_mels(mels, spectrum))

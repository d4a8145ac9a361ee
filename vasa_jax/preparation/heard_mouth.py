"""HeardMouth: the mouth's opening that a voice asks for, every 10 ms, to hold against the mouth that is seen."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from vasa_jax.conventions import SAMPLES_PER_FRAME
from vasa_jax.models.lip_reader import LipReader
from vasa_jax.models.lip_reading import read_sound, sound_mels
from vasa_jax.models.variants import from_json
from vasa_jax.preparation.av_sync import STEP
from vasa_jax.weights.parts import LIPS, load_part

CENTRE = SAMPLES_PER_FRAME // 2  # of a frame, samples after its beginning


class HeardMouth:
    """Reads sound by the lip reader, whose frames of 40 ms are laid every 10 ms."""

    def __init__(self, directory: str | Path = ""):
        """directory: holds lips.safetensors; empty: the shipped one. InputError where it cannot be read."""
        params, metadata = load_part(directory, LIPS)
        self._network, self._params = LipReader(**from_json(metadata["fields"])), jax.device_put(params["reader"])
        self._spectrum = np.asarray(params["spectrum"])

    def __call__(self, samples: Float[np.ndarray, "N"]) -> Float[np.ndarray, "M"]:
        """Returns openings in the reader's units, M = ceil(N / 160); value k is around sample 160 k, as loudness is."""
        count = -(-len(samples) // STEP)
        sound = np.concatenate([np.zeros(CENTRE, np.float32), np.asarray(samples, np.float32)])
        readings = [self._read(sound[start:]) for start in range(0, SAMPLES_PER_FRAME, STEP)]
        return np.stack([reading[: min(map(len, readings))] for reading in readings], 1).ravel()[:count]

    def _read(self, sound: Float[np.ndarray, "N"]) -> Float[np.ndarray, "T"]:
        return read_sound(self._network, self._params, sound_mels(sound, self._network.mels), self._spectrum)

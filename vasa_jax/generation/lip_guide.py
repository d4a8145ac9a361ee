"""LipGuide: lips that follow a voice, laid on the motion that the transformer samples.

The transformer learnt from synthetic voices. `LipReader` learnt from people too, and hears how far the mouth opens. In
the codec's dynamics the opening is linear: it is `read . dynamics + offset`. Dynamics are moved along one direction,
`move = C read / (read' C read)`, with their covariance C. That is the likeliest change of a face whose mouth opens by
so much: what is uncorrelated with the opening stays as it was.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vasa_jax.conventions import POSE_DIM, SAMPLES_PER_FRAME, TAIL
from vasa_jax.models.lip_reader import (
    LEAD,
    LipReader,
    ReadingSums,
    Voice,
    VoiceMean,
    frame_mels,
    heard_mean,
    reading_sums,
    relative_mels,
    standardised,
)
from vasa_jax.models.lip_reading import read_sound, sound_mels
from vasa_jax.models.variants import from_json

# Where the transformer shuts the lips for a moment, as for m, b and p, they stay shut unless the voice contradicts. All
# are openings: inner lips over the eyes' distance. Chosen on the corpus and on people of GRID.
REACH = 4  # frames on either side within which the lips were open
SHUT = (0.01, 0.05)  # wholly shut, not shut
RISE = 0.05  # by which they are more open on both sides of a closure
CONTRADICTED = (0.1, 0.2)  # what the voice says of a closure: may be one, is none

Lips = tuple[dict[str, Any], dict[str, Any]]  # parameters and metadata of lips.safetensors


class LipGuide:
    """The reader, and the direction of the codec's dynamics in which a mouth opens."""

    def __init__(self, lips: Lips, mean: np.ndarray, std: np.ndarray):
        """lips: as `load_part` gives them; mean, std: (9 + D,) of the transformer's z-score."""
        params, metadata = lips
        self._network, self._params = LipReader(**from_json(metadata["fields"])), jax.device_put(params["reader"])
        self._spectrum = np.asarray(params["spectrum"])
        direction = {name: np.asarray(value, np.float64) for name, value in params["direction"].items()}
        self._about, self._scale = (direction[name].item() for name in ("mean", "deviation"))
        # In z-scored units; the offset is that of the transformer's mean motion.
        self._read = direction["read"] * std[POSE_DIM:]
        self._offset = direction["offset"].item() + direction["read"] @ mean[POSE_DIM:]
        self._move = direction["move"] / std[POSE_DIM:]

    def heard(self, samples: Float[np.ndarray, "N"]) -> Float[np.ndarray, "T"]:
        """Returns the opening, T = ceil(N / 640), that a whole sound asks for; over the mean spectrum of all of it."""
        mels = sound_mels(samples, self._network.mels)
        readings = read_sound(self._network, self._params, mels, self._spectrum)
        return self._opening(np.asarray(standardised(readings, reading_sums(readings, mels))))

    def no_voice(self) -> Voice:
        """Returns what is kept of a live voice that has not spoken yet."""
        zero = np.zeros((), np.float32)
        return Voice(VoiceMean(np.zeros(self._network.mels, np.float32), zero), ReadingSums(zero, zero, zero))

    def recent(
        self, sound: Float[np.ndarray, "batch samples"], voices: Voice, hop: int, look_ahead: int
    ) -> tuple[Float[np.ndarray, "batch hop"], Voice]:
        """Returns the openings of live voices' next `hop` frames, and what is kept of them with those.

        Args:
          sound: ends TAIL samples after the frames that are heard, hop + look_ahead; before them at least HISTORY more.
          voices: what is kept of the frames before, a batch.
        """
        n = self._network
        heard = LEAD + (n.before + hop + look_ahead) * SAMPLES_PER_FRAME + TAIL
        openings, sums = _read_next(n, self._params, self._spectrum, sound[:, -heard:], voices, hop)
        return self._opening(np.asarray(openings)), jax.tree.map(np.asarray, sums)

    def own(self, sample: Float[np.ndarray, "T motion"]) -> Float[np.ndarray, "T"]:
        """Returns the openings that z-scored motion has by itself."""
        return sample[:, POSE_DIM:].astype(np.float64) @ self._read + self._offset

    def laid_on(
        self,
        sample: Float[np.ndarray, "T_and_more motion"],
        heard: Float[np.ndarray, "T"],
        strength: Float[np.ndarray, "T"],
        before: Float[np.ndarray, "past"] | None = None,
    ) -> Float[np.ndarray, "T motion"]:
        """Returns z-scored motion whose mouth goes from its own opening to the heard one, by `strength` in [0, 1].

        Momentary closures are kept. before: `own` of earlier frames; frames of the sample after T say what follows.
        """
        count = len(heard)
        around = np.concatenate([np.zeros(0) if before is None else before, self.own(sample[: count + REACH])])
        first = 0 if before is None else len(before)
        own, kept = around[first : first + count], _closures(around)[first : first + count]
        change = strength * (heard - own)
        kept = kept * _share(heard, CONTRADICTED)
        change = np.where(change > 0.0, change * (1.0 - kept), change)
        moved = sample[:count, POSE_DIM:] + change[:, None] * self._move
        return np.concatenate([sample[:count, :POSE_DIM], moved.astype(sample.dtype)], axis=1)

    def _opening(self, standard: np.ndarray) -> np.ndarray:
        """In units of `read`; a mouth cannot be more than shut."""
        return np.maximum(self._about + self._scale * np.asarray(standard, np.float64), 0.0)


def _share(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """1 below the first of two ends, 0 above the second, linear between them."""
    return np.clip((ends[1] - values) / (ends[1] - ends[0]), 0.0, 1.0)


def _closures(own: np.ndarray) -> np.ndarray:
    """How surely each frame is of a closure between open frames, in [0, 1]; at the ends nobody knows, 0."""
    wide = np.pad(own, REACH, constant_values=-np.inf)
    sides = np.lib.stride_tricks.sliding_window_view(wide, REACH)
    left, right = sides[: len(own)].max(1), sides[REACH + 1 :].max(1)
    return _share(own, SHUT) * np.clip((np.minimum(left, right) - own) / RISE, 0.0, 1.0)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _read_next(network, params, prior, sound, voices, hop):
    """The openings of `hop` frames; where less is heard after them than the network sees, the last frame goes on."""
    mels = frame_mels(sound, network.mels)
    own = mels[:, network.before : network.before + hop]
    mean = VoiceMean(*(sum(parts) for parts in zip(voices.mean, heard_mean(own))))
    missing = max(network.before + hop + network.after - mels.shape[1], 0)
    wide = jnp.pad(mels, ((0, 0), (0, missing), (0, 0), (0, 0)), "edge")[:, : network.before + hop + network.after]
    readings = network.apply({"params": params}, relative_mels(wide, mean.spectrum(prior)))
    sums = ReadingSums(*(sum(parts) for parts in zip(voices.readings, reading_sums(readings, own))))
    return standardised(readings, sums), Voice(mean, sums)

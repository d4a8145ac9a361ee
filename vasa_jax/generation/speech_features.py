"""Audio features of speech of any length, and of the latest sound of a live stream, in pieces of one shape."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL, frame_count
from vasa_jax.models.audio import AudioEncoder, pad_for_video, pair_mean

PIECE = 75  # video frames kept of each piece
MARGIN = 25  # video frames heard on either side, so that seams have context


class SpeechFeatures:
    """AudioEncoder over overlapping pieces of 5 s: memory does not grow with the length, one compilation serves all."""

    def __init__(self, params: dict, fields: dict, dtype=jnp.float32):
        self._params = jax.device_put(params)
        self._encoder = AudioEncoder(**fields, dtype=dtype)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """16 kHz mono float32 (N,) -> float32 (ceil(N / 640), width) at 25 fps."""
        frames = frame_count(len(samples))
        padded = pad_for_video(np.asarray(samples, np.float32))
        features = []
        for start in range(0, frames, PIECE):
            features.append(self._piece(padded, start)[MARGIN : MARGIN + PIECE])
        return np.concatenate(features)[:frames]

    def recent(self, sound: np.ndarray) -> np.ndarray:
        """The last HISTORY + n frames of sound, float32 (B, 640 (HISTORY + n) + TAIL) -> (B, HISTORY + n, width).

        What a live stream can know: unlike those of a whole utterance, these features see no sound after the last frame
        and none more than HISTORY frames before the window. An encoder that normalises its input ("utterance") does so
        over this sound alone.
        """
        return np.asarray(_encode(self._encoder, self._params, sound))

    def _piece(self, padded: np.ndarray, start: int) -> np.ndarray:
        first = (start - MARGIN) * SAMPLES_PER_FRAME
        last = (start + PIECE + MARGIN) * SAMPLES_PER_FRAME + TAIL
        inside = padded[max(first, 0) : last]
        left = max(-first, 0)
        sound = np.pad(inside, (left, last - first - left - len(inside)))
        return np.asarray(_encode(self._encoder, self._params, sound[None]))[0]


@functools.partial(jax.jit, static_argnums=0)
def _encode(encoder: AudioEncoder, params, samples):
    return pair_mean(encoder.apply({"params": params}, samples))

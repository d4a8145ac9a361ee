"""Audio features of speech of any length, and of the latest sound of a live stream, in pieces of one shape."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL, frame_count
from vasa_jax.errors import InputError
from vasa_jax.models.audio import AudioEncoder, pad_for_video, pair_mean

PIECE = 75  # video frames kept of each piece
MARGIN = 25  # video frames heard on either side, so that seams have context


LOUDEST = 8.0  # of full scale; what is louder has another unit, such as that of 16 bit


def as_speech(samples: np.ndarray, where: str = "sound") -> np.ndarray:
    """Returns 16 kHz mono sound as float32 (N,) in [-1, 1]; int16 is divided by 32,768.

    InputError, which begins with `where`, for other integers, another shape, and values that are no sound.
    """
    try:
        samples = np.asarray(samples)
    except (ValueError, TypeError) as error:  # lists of unequal length, and what makes no array of itself
        raise InputError(f"{where}: is no array; give float samples (N,) in [-1, 1], or int16") from error
    if samples.ndim != 1 or not (samples.dtype.kind == "f" or samples.dtype == np.int16):
        raise InputError(f"{where}: {samples.dtype} {samples.shape}; give float samples (N,) in [-1, 1], or int16")
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / 32768.0
    if not np.isfinite(samples).all():
        raise InputError(f"{where}: the samples are not finite; give float samples in [-1, 1]")
    if len(samples) and (peak := float(np.abs(samples).max())) > LOUDEST:
        raise InputError(f"{where}: a peak of {peak:g}; give float samples in [-1, 1]: divide 16 bit by 32768")
    return samples.astype(np.float32)


class SpeechFeatures:
    """AudioEncoder over overlapping pieces of 5 s: memory does not grow with the length, one compilation serves all."""

    def __init__(self, params: dict, fields: dict, dtype=jnp.float32):
        self._params = jax.device_put(params)
        self._encoder = AudioEncoder(**fields, dtype=dtype)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Returns features, float32 (ceil(N / 640), width) at 25 fps, of 16 kHz mono float32 (N,), N > 0."""
        frames = frame_count(len(samples))
        padded = pad_for_video(np.asarray(samples, np.float32))
        features = []
        for start in range(0, frames, PIECE):
            features.append(self._piece(padded, start)[MARGIN : MARGIN + PIECE])
        return np.concatenate(features)[:frames]

    def recent(self, sound: np.ndarray) -> np.ndarray:
        """Returns features (B, HISTORY + n, width) of the last frames of sound, (B, 640 (HISTORY + n) + TAIL).

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

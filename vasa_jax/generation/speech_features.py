"""Audio features of speech of any length, and of the latest sound of a live stream, in pieces of one shape."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL, frame_count
from vasa_jax.errors import InputError
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.models.audio import pad_for_video, pair_mean
from vasa_jax.models.audio_encoders import AnyAudioEncoder, audio_encoder
from vasa_jax.models.streaming_audio import LOOK_AHEAD, State, StreamingAudioEncoder, silent_state

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
    """An audio encoder over speech of any length: memory does not grow with it, one compilation serves all.

    AudioEncoder hears overlapping pieces of 5 s; StreamingAudioEncoder hears the steps of `FeatureStream`.
    """

    def __init__(self, params: dict, fields: dict, dtype=jnp.float32):
        self._params = jax.device_put(params)
        self._encoder = audio_encoder(fields, dtype)

    def __call__(self, samples: np.ndarray, watch: Watch = unwatched) -> np.ndarray:
        """Returns features, float32 (ceil(N / 640), width) at 25 fps, of 16 kHz mono float32 (N,), N > 0.

        watch: sees the pieces pass.
        """
        frames = frame_count(len(samples))
        starts, features = range(0, frames, PIECE), []
        watched = watch(iter(starts), len(starts))
        if isinstance(self._encoder, StreamingAudioEncoder):
            stream = FeatureStream(self._encoder, self._params)
            for start in watched:
                features.append(stream.feed(samples[start * SAMPLES_PER_FRAME : (start + PIECE) * SAMPLES_PER_FRAME]))
            return np.concatenate([*features, stream.finish()])
        padded = pad_for_video(np.asarray(samples, np.float32))
        for start in watched:
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


class FeatureStream:
    """Features of sound as it comes, LOOK_AHEAD frames after it: the same numbers however it is cut into pieces."""

    def __init__(self, encoder: StreamingAudioEncoder, params: dict):
        self._encoder, self._params = encoder, params
        self._state = silent_state(encoder, params)
        self._waiting = np.zeros(0, np.float32)
        self._skip = LOOK_AHEAD  # the first steps give the frames before the sound
        self._heard = self._given = 0

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Hears more 16 kHz f32 (N,), any N; returns the features (n, width) at 25 fps that are known by now."""
        self._heard += len(samples)
        self._waiting = np.concatenate([self._waiting, np.asarray(samples, np.float32)])
        return self._advance(len(self._waiting) // SAMPLES_PER_FRAME)

    def finish(self) -> np.ndarray:
        """Returns the features that are left, up to frame ceil(N / 640): silence is heard after the sound."""
        frames = frame_count(self._heard) - self._given
        steps = frames + self._skip if self._skip else frames
        self._waiting = np.pad(self._waiting, (0, max(steps * SAMPLES_PER_FRAME - len(self._waiting), 0)))
        return self._advance(steps)[:frames]

    def _advance(self, steps: int) -> np.ndarray:
        parts = []
        while steps > 0:
            count = PIECE if steps >= PIECE else 1  # two compilations; the same step in both
            sound = self._waiting[: count * SAMPLES_PER_FRAME].reshape(count, 1, SAMPLES_PER_FRAME)
            self._state, features = _steps(self._encoder, self._params, self._state, sound)
            parts.append(np.asarray(features))
            self._waiting = self._waiting[count * SAMPLES_PER_FRAME :]
            steps -= count
        made = np.concatenate(parts) if parts else np.zeros((0, self._encoder.width), np.float32)
        skipped = min(self._skip, len(made))
        self._skip -= skipped
        self._given += len(made) - skipped
        return made[skipped:]


@functools.partial(jax.jit, static_argnums=0)
def _steps(encoder: StreamingAudioEncoder, params, state: State, sound):
    """Video frames of sound (n, 1, 640), one after another -> the next state and features (n, width)."""

    def step(state, samples):
        state, features = encoder.apply({"params": params}, state, samples, method="step")
        return state, pair_mean(features)[0, 0]

    return jax.lax.scan(step, state, sound)


@functools.partial(jax.jit, static_argnums=0)
def _encode(encoder: AnyAudioEncoder, params, samples):
    return pair_mean(encoder.apply({"params": params}, samples))

"""A pretrained ear: its features of the training speech, which an audio encoder also learns to give.

Any file of Whisper, wav2vec 2.0 or HuBERT; distillation by the squared error of standardised features.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import logging

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.models.whisper import WINDOW, whisper_features
from vasa_jax.weights.tensor_files import flat_state, read_tensors
from vasa_jax.weights.wav2vec2 import encoder_params
from vasa_jax.weights.whisper import is_whisper, load_whisper

BATCH = 16
SMALLEST_STD = 1e-3
WINDOW_FRAMES = WINDOW // SAMPLES_PER_FRAME - 1  # heard at once; with TAIL behind them no more than Whisper's 30 s
GAP = 12  # frames of silence between sounds that share a window
LEVEL = 0.05  # root mean square, of full scale, to which each of them is brought


class Teacher:
    """Hears sounds with a pretrained encoder; InputError for a file that holds none."""

    def __init__(self, path: str | Path):
        self._path = Path(path)
        content = read_tensors(self._path)
        state = flat_state(content)
        if is_whisper(state):
            encoder, self._params = load_whisper(state, self._path)
            self.width = encoder.width
            self._hear = jax.jit(lambda params, samples: whisper_features(encoder, params, samples))
        else:
            self._params, metadata = encoder_params(content, self._path)
            network = audio_encoder(metadata["fields"])
            self.width = network.width
            self._hear = jax.jit(lambda params, samples: network.apply({"params": params}, samples))

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Returns features of sounds int16 (N, 640 T + 80): float16 (N, 2 T, width), each of mean 0 and deviation 1
        over all sounds.
        """
        frames = 2 * ((samples.shape[1] - TAIL) // SAMPLES_PER_FRAME)
        features = np.empty((len(samples), frames, self.width), np.float16)
        for first in range(0, len(samples), BATCH):
            part = samples[first : first + BATCH]
            padded = np.pad(part, ((0, BATCH - len(part)), (0, 0)))  # one shape, one program
            heard = self._hear(self._params, padded.astype(np.float32) / 32767.0)
            features[first : first + BATCH] = np.asarray(heard)[: len(part)]
        mean, std = mean_and_deviation(features)
        for number, one in enumerate(features):  # in place: all at once would need the memory twice
            features[number] = (one - mean) / std
        logging.info("%s teaches %d features of %d sounds", self._path, self.width, len(samples))
        return features

    def each(self, sounds: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the features, float16 (2 T, width), of each sound, int16 (640 T,), as the network gives them.

        Sounds share windows of 30 s, which cost the same for one word; what is longer is heard in parts.
        """
        lengths = [len(sound) // SAMPLES_PER_FRAME for sound in sounds]
        parts: list[np.ndarray] = []
        for window in _windows(lengths):
            samples = np.zeros((1, WINDOW_FRAMES * SAMPLES_PER_FRAME + TAIL), np.float32)
            for sound, first, last, at in window:
                part = sounds[sound][first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME].astype(np.float32) / 32767.0
                level = np.sqrt(np.sum(part**2) / max(len(part), 1))
                samples[0, at * SAMPLES_PER_FRAME :][: len(part)] = LEVEL / max(float(level), 1e-4) * part
            heard = np.asarray(self._hear(self._params, samples)[0]).astype(np.float16)
            for sound, first, last, at in window:
                parts.append(heard[2 * at : 2 * (at + last - first)])
                if last == lengths[sound]:
                    yield np.concatenate(parts)
                    parts = []


def mean_and_deviation(features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns both of each number, float32 (width,), over some 512 of the sounds; features: (time, width) of each."""
    some = np.concatenate(features[:: max(len(features) // 512, 1)]).astype(np.float32)
    return some.mean(0), np.maximum(some.std(0), SMALLEST_STD)


def _windows(lengths: Sequence[int]) -> Iterator[list[tuple[int, int, int, int]]]:
    """Yields what each window holds: number of a sound, its first frame and the one after its last, and where it is."""
    window, free = [], 0
    for sound, length in enumerate(lengths):
        for first in range(0, max(length, 1), WINDOW_FRAMES):
            last = min(first + WINDOW_FRAMES, length)
            if window and free + last - first > WINDOW_FRAMES:
                yield window
                window, free = [], 0
            window.append((sound, first, last, free))
            free += last - first + GAP
    if window:
        yield window

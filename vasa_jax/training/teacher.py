"""A pretrained ear: its features of the training speech, which an audio encoder also learns to give.

Any file of Whisper, wav2vec 2.0 or HuBERT; distillation by the squared error of standardised features.
"""

from pathlib import Path

import jax
import numpy as np
from absl import logging

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.models.whisper import whisper_features
from vasa_jax.weights.tensor_files import flat_state, read_tensors
from vasa_jax.weights.wav2vec2 import encoder_params
from vasa_jax.weights.whisper import is_whisper, load_whisper

BATCH = 16
SMALLEST_STD = 1e-3


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
        some = features[:: max(len(features) // 512, 1)].reshape(-1, self.width).astype(np.float32)
        mean, std = some.mean(0), np.maximum(some.std(0), SMALLEST_STD)
        for number, one in enumerate(features):  # in place: all at once would need the memory twice
            features[number] = (one - mean) / std
        logging.info("%s teaches %d features of %d sounds", self._path, self.width, len(samples))
        return features

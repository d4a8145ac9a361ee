"""Crops of a speech set in device memory: voices of many sources, each drawn as often as its weight says."""

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME, TAIL
from vasa_jax.corpus.clip_set import FRAMES
from vasa_jax.corpus.voices.speech_set import SpeechSet
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.rng import named_key
from vasa_jax.training.processes import ProcessPart


class SpeechCrops(StepIterator):
    """Iterator of random crops. A crop of a passage that is shorter begins at its start; silence follows.

    taught: a teacher's features (M, 2 T, width) of the same passages, cropped alike.
    Of P processes each draws batch_size / P examples from a stream of its own.
    """

    def __init__(self, speech: SpeechSet, seconds: float, batch_size: int, seed: int, taught: np.ndarray | None = None):
        names = ("samples", "phonemes", "stress", "energy", "frames")
        self._arrays = {name: jnp.asarray(getattr(speech, name)) for name in names}
        self._tracks = ("phonemes", "stress", "energy")
        if taught is not None:
            self._arrays["taught"] = jnp.asarray(taught)
            self._tracks += ("taught",)
        sums = np.cumsum(speech.weight, dtype=np.float64)
        self._arrays["sums"] = jnp.asarray(sums / sums[-1], jnp.float32)
        self._frames = min(round(seconds * FPS), FRAMES)
        part = ProcessPart(batch_size, len(speech.samples))
        self._batch, self._key = part.batch, part.key(named_key(seed, "speech"))
        self._draw = jax.jit(self._crops)

    def batch(self, step: int) -> dict[str, jax.Array]:
        """Returns samples (B, 640 T + 80) int16 and phonemes, stress, energy (B, 2 T), and taught (B, 2 T, width)."""
        return self._draw(self._arrays, step)

    def _crops(self, arrays, step):
        keys = jax.random.split(jax.random.fold_in(self._key, step))
        which = jnp.searchsorted(arrays["sums"], jax.random.uniform(keys[0], (self._batch,)), side="right")
        which = jnp.minimum(which, len(arrays["sums"]) - 1)
        starts = jnp.maximum(arrays["frames"][which] - self._frames, 0) + 1
        start = jax.random.randint(keys[1], (self._batch,), 0, starts)

        def crop(passage, start):
            length = self._frames * SAMPLES_PER_FRAME + TAIL
            sound = jax.lax.dynamic_slice(arrays["samples"], (passage, start * SAMPLES_PER_FRAME), (1, length))[0]
            labels = {
                name: jax.lax.dynamic_slice_in_dim(arrays[name][passage], 2 * start, 2 * self._frames)
                for name in self._tracks
            }
            return {"samples": sound, **labels}

        return jax.vmap(crop)(which, start)

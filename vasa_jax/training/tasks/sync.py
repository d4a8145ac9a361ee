"""Trains the sync probe on mouths and speech: rendered heads of the corpus, real clips of job prepare, or both."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, SyncConfig, VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.evaluation.sync_probe import PART, SyncProbeMeter
from vasa_jax.models.sync_probe import COEFFICIENTS, COLUMNS, SIDE, WINDOW, SyncProbe, window_contrast
from vasa_jax.models.variants import SYNC_VARIANTS
from vasa_jax.training.tasks.base import Task, clip_settings
from vasa_jax.training.tasks.sync_data import MouthSpeech, MouthSpeechBatches, corpus_mouths, real_mouths

HELD_OUT_CLIPS = 40
KNOWN_SHIFT = 10  # frames that the sound of held-out clips is moved by, at most


class SyncTask(Task):
    """Trains `SyncProbe`."""

    name = PART

    def __init__(self, settings: SyncConfig, corpus: CorpusConfig, batch_size: int, seed: int):
        self._settings, self._corpus, self._batch, self._seed = settings, corpus, batch_size, seed
        self._fields = SYNC_VARIANTS[settings.variant]
        self._network, self._reader = SyncProbe(**self._fields), FaceReader.from_pretrained()
        self._held_out: dict[str, MouthSpeech] | None = None

    @classmethod
    def from_config(cls, config: VASAConfig) -> "SyncTask":
        return cls(config.sync, config.corpus, config.train.batch_size, config.seed)

    def init(self, key: jax.Array) -> dict[str, Any]:
        patches = jnp.zeros((1, WINDOW, SIDE, SIDE, 1))
        return self._network.init(key, patches, jnp.zeros((1, WINDOW, COLUMNS, COEFFICIENTS)))["params"]

    def data(self, sharding: NamedSharding | None = None) -> MouthSpeechBatches:
        s, sets = self._settings, []
        if s.corpus:
            sets.append(corpus_mouths(self._reader, self._corpus, self._corpus.clips, s.frames, "train", self._seed))
        real = real_mouths(self._reader, s.shards, s.frames, "train") if s.shards else None
        if s.shards and real is None:
            raise InputError(f"{s.shards}: no clip of {s.frames} frames at 25 a second with sound; prepare more")
        sets += [real] if real else []
        shares = [1.0 - s.real_share, s.real_share] if len(sets) == 2 else [1.0]
        return MouthSpeechBatches(sets, shares, s, self._batch, self._seed)

    def data_settings(self) -> dict[str, Any]:
        names = ("corpus", "shards", "real_share", "frames", "misplaced", "shade", "noise", "balance", "hiss")
        return {f"sync.{name}": getattr(self._settings, name) for name in names} | clip_settings(self._corpus)

    def loss(self, params, batch, key):
        """Returns InfoNCE over the windows of each clip."""
        lips, sounds, scale = self._network.apply({"params": params}, batch["patches"], batch["columns"])
        loss, accuracy = window_contrast(lips, sounds, scale)
        return loss, {"accuracy": accuracy, "scale": scale}

    def evaluate(self, params) -> dict[str, float]:
        """Returns `shift_errors` of held-out people: `corpus_...` and, with shards, `real_...`."""
        meter, found = SyncProbeMeter(params, self._fields), {}
        for source, clips in self._held_out_clips().items():
            found |= {f"{source}_{name}": value for name, value in shift_errors(meter, clips).items()}
        return found

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        return params, {"fields": self._fields, "figures": self.evaluate(params)}

    def _held_out_clips(self) -> dict[str, MouthSpeech]:
        if self._held_out is None:
            s, sets = self._settings, {}
            if s.corpus:
                count = min(HELD_OUT_CLIPS, self._corpus.clips)
                sets["corpus"] = corpus_mouths(
                    self._reader, self._corpus, count, s.held_out_frames, "heldout", self._seed
                )
            if s.shards:
                sets["real"] = real_mouths(self._reader, s.shards, s.held_out_frames, "heldout")
            self._held_out = {name: clips for name, clips in sets.items() if clips is not None}
        return self._held_out


def shift_errors(meter: SyncProbeMeter, clips: MouthSpeech) -> dict[str, float]:
    """Returns how well the shift of a sound that was moved by up to KNOWN_SHIFT frames is found.

    `within_1`, `exact`: shares of the clips; `confidence`, and `other_confidence` with another clip's sound. A sound
    without margin is moved over its own pictures, so that both lose as many frames.
    """
    errors, confidences, others = [], [], []
    frames = clips.patches.shape[1]
    for number, patches in enumerate(clips.patches):
        late = number % (2 * KNOWN_SHIFT + 1) - KNOWN_SHIFT
        heard = clips.columns[number, 0].astype(np.float32)
        if clips.margin >= KNOWN_SHIFT:
            start = clips.margin - late
            pair = patches, heard[start : start + frames]
        else:
            pair = patches[max(late, 0) :], heard[max(-late, 0) :]
        found = meter.measure(*pair)
        errors.append(abs(found.offset + late))
        confidences.append(found.confidence)
        other = clips.columns[(number + 1) % len(clips.columns), 0].astype(np.float32)
        others.append(meter.measure(patches, other[clips.margin : clips.margin + frames]).confidence)
    return {
        "within_1": float(np.mean(np.array(errors) <= 1)),
        "exact": float(np.mean(np.array(errors) == 0)),
        "confidence": float(np.mean(confidences)),
        "other_confidence": float(np.mean(others)),
        "clips": float(len(errors)),
    }

"""Trains CAPP on head rotation and speech, of the built-in corpus (nothing is rendered), of real clips, or of both."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CAPPConfig, CorpusConfig, VASAConfig
from vasa_jax.evaluation.capp import RESPONSE_FRAMES, CAPPScore, sanity_curves
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.models.capp import CAPP, WINDOW, contrast
from vasa_jax.models.variants import CAPP_VARIANTS
from vasa_jax.training.tasks.base import Task, clip_settings
from vasa_jax.training.tasks.capp_data import (
    HELD_OUT_CLIPS,
    PoseSpeech,
    WindowPairs,
    corpus_clips,
    joined,
    shard_clips,
)
from vasa_jax.weights.parts import load_part


class CAPPTask(Task):
    """Trains both encoders on the features of a frozen audio encoder, which the export holds too."""

    name = "capp"

    def __init__(self, settings: CAPPConfig, corpus: CorpusConfig, batch_size: int, seed: int):
        self._settings, self._corpus, self._batch, self._seed = settings, corpus, batch_size, seed
        self._audio, metadata = load_part(settings.audio, "audio")
        self._audio_fields = dict(metadata["fields"])
        self._fields = CAPP_VARIANTS[settings.variant]
        self._ear, self._network = audio_encoder(self._audio_fields), CAPP(**self._fields)
        self._held_out: dict[str, tuple[np.ndarray, np.ndarray]] | None = None

    @classmethod
    def from_config(cls, config: VASAConfig) -> "CAPPTask":
        return cls(config.capp, config.corpus, config.train.batch_size, config.seed)

    def init(self, key: jax.Array) -> dict[str, Any]:
        heard = jnp.zeros((1, WINDOW, self._ear.width))
        return self._network.init(key, jnp.zeros((1, WINDOW, 3)), heard)["params"]

    def data(self, sharding: NamedSharding | None = None) -> WindowPairs:
        return WindowPairs(self._clips("train"), self._settings, self._batch, self._seed)

    def data_settings(self) -> dict[str, Any]:
        names = ("corpus", "shards", "poses", "real_share", "takes", "jitter", "gain", "shift")
        return {f"capp.{name}": getattr(self._settings, name) for name in names} | clip_settings(self._corpus)

    def loss(self, params, batch, key):
        """Returns InfoNCE over the pairs of the batch and windows of the same clips at other times."""
        angles, features = (jnp.concatenate([batch[name], batch[f"other_{name}"]]) for name in ("angles", "features"))
        poses, sounds, scale = self._network.apply({"params": params}, angles, features)
        count = len(batch["angles"])
        pose, sound = poses[:count], sounds[:count]
        loss, accuracy = contrast(pose, sound, scale, poses[count:], sounds[count:])
        return loss, {"accuracy": accuracy, "scale": scale, "score": (pose * sound).sum(-1).mean()}

    def evaluate(self, params) -> dict[str, float]:
        """Returns `sanity_curves` of held-out people: `corpus_...` and, with shards, `real_...`."""
        score = CAPPScore({"audio": self._audio, "capp": params}, self._audio_fields, self._fields)
        found: dict[str, float] = {}
        for source, (angles, features) in self._held_out_windows().items():
            found |= {f"{source}_{name}": value for name, value in sanity_curves(score, angles, features).items()}
        return found

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        fields = {"audio": self._audio_fields, "capp": self._fields}
        return {"audio": self._audio, "capp": params}, {"fields": fields, "figures": self.evaluate(params)}

    def of_export(self, content):
        return content["capp"] if content.keys() == {"audio", "capp"} else content

    def _clips(self, split: str) -> PoseSpeech:
        """Returns the clips of the split `train`."""
        s = self._settings
        of_corpus = (
            corpus_clips(self._ear, self._audio, self._corpus, self._corpus.clips, s.takes, split, self._seed)
            if s.corpus
            else None
        )
        of_shards = self._real_clips(split) if s.shards else None
        return joined([of_corpus, of_shards], [1.0 - s.real_share, s.real_share], s.shards or "config.capp")

    def _real_clips(self, split: str) -> PoseSpeech | None:
        reader = FaceReader.from_pretrained() if self._settings.poses == "probe" else None
        return shard_clips(self._ear, self._audio, self._settings.shards, split, reader)

    def _held_out_windows(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns angles (N, T, 3) and features (N, T, C) of the middle of held-out clips, by where they come from."""
        if self._held_out is None:
            s, sets = self._settings, {}
            if s.corpus:
                sets["corpus"] = corpus_clips(
                    self._ear, self._audio, self._corpus, min(HELD_OUT_CLIPS, self._corpus.clips), 1, "heldout", 0
                )
            if s.shards:
                sets["real"] = self._real_clips("heldout")
            self._held_out = {name: _middles(clips) for name, clips in sets.items() if clips is not None}
        return self._held_out


def _middles(clips: PoseSpeech) -> tuple[np.ndarray, np.ndarray]:
    frames = RESPONSE_FRAMES
    features, angles = clips.first()
    starts = [(len(track) - frames) // 2 for track in angles]
    return tuple(
        np.stack([track[start : start + frames] for track, start in zip(tracks, starts)])
        for tracks in (angles, features)
    )

"""Trains the lip reader on voices and measured mouths, and reads from the codec how its dynamics open a mouth."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, LipsConfig, VASAConfig
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.errors import InputError
from vasa_jax.evaluation.metrics import pearson
from vasa_jax.models.lip_reader import PARTS, LipReader
from vasa_jax.models.variants import LIPS_VARIANTS
from vasa_jax.training.tasks.base import Task, clip_settings
from vasa_jax.training.tasks.lips_data import (
    Stretches,
    VoicedMouth,
    VoicedMouthBatches,
    corpus_mouths,
    corpus_openings,
    mean_spectrum,
    read_openings,
    real_mouths,
    stretches,
)
from vasa_jax.training.tasks.lips_direction import opening_direction
from vasa_jax.weights.parts import LIPS, folder_of, load_part

HELD_OUT_CLIPS = 64
GAIN_CLIPS = 128  # stretches of each source whose spread is compared
SMALLEST = 1e-3  # spread of a reader that has learnt nothing


class LipsTask(Task):
    """Trains `LipReader`."""

    name = LIPS

    def __init__(self, settings: LipsConfig, corpus: CorpusConfig, batch_size: int, seed: int):
        self._settings, self._corpus, self._batch, self._seed = settings, corpus, batch_size, seed
        self._fields = LIPS_VARIANTS[settings.variant]
        self._network = LipReader(**self._fields)
        self._known = {} if settings.heads else _known_direction(settings.face)
        self._spoken: dict[str, ClipSet] = {}
        self._read_clips: dict[str, dict[str, list[VoicedMouth]]] = {}

    @classmethod
    def from_config(cls, config: VASAConfig) -> "LipsTask":
        return cls(config.lip_reader, config.corpus, config.train.batch_size, config.seed)

    def init(self, key: jax.Array) -> dict[str, Any]:
        heard = jnp.zeros((1, self._network.before + 1 + self._network.after, PARTS * self._network.mels))
        return self._network.init(key, heard)["params"]

    def data(self, sharding: NamedSharding | None = None) -> VoicedMouthBatches:
        sets, s = self._sets("train"), self._settings
        shares = [1.0 - s.real_share, s.real_share] if len(sets) == 2 else [1.0]
        return VoicedMouthBatches(list(sets.values()), shares, self._batch, self._seed)

    def data_settings(self) -> dict[str, Any]:
        names = ("corpus", "clips", "real_share")
        return {f"lip_reader.{name}": getattr(self._settings, name) for name in names} | clip_settings(self._corpus)

    def loss(self, params, batch, key):
        """Returns the mean squared error of the opening, in units of the corpus's deviation."""
        n = self._network
        wide = jnp.pad(batch["heard"], ((0, 0), (n.before, n.after), (0, 0)), "edge")
        found = n.apply({"params": params}, wide, training=True, rngs={"dropout": key})
        error = batch["known"] * jnp.square(found - batch["opening"])
        return error.sum() / batch["known"].sum(), {}

    def evaluate(self, params) -> dict[str, float]:
        """Returns the mean r of held-out clips with the opening: `corpus_r` and, with clips, `real_r`."""
        return {f"{source}_r": self._follows(params, held) for source, held in self._sets("heldout").items()}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        direction = self._direction | self._scale
        content = {"reader": params, "spectrum": self._spectrum, "direction": direction, "gain": self._gain(params)}
        described = {"fields": self._fields, "dynamics": len(direction["read"]), "figures": self.evaluate(params)}
        return content, described | {"sources": self._settings.sources}

    def of_export(self, content):
        return content.get("reader", content)

    def notes(self) -> list[str]:
        counts = {name: len(clips) for name, clips in self._clips("train").items()}
        return ["; ".join(f"{count} clips of {name}" for name, count in counts.items())]

    def _gain(self, params) -> np.ndarray:
        """How much less the openings that are read vary than the true ones: (1,), the mean over sources."""
        spreads = []
        for clips in self._sets("train").values():
            known = clips.known[:GAIN_CLIPS]
            read = read_openings(self._network, params, clips.heard[:GAIN_CLIPS].astype(np.float32))
            spreads.append(clips.opening[:GAIN_CLIPS][known].std() / max(np.asarray(read)[known].std(), SMALLEST))
        return np.array([np.mean(spreads)])

    def _follows(self, params, held: Stretches) -> float:
        found = []
        for heard, opening, known in zip(held.heard, held.opening, held.known):
            if opening[known].std() > 0:
                read = read_openings(self._network, params, heard[None].astype(np.float32))[0]
                found.append(pearson(np.asarray(read)[known], opening[known]))
        return float(np.mean(found)) if found else 0.0

    def _sets(self, split: str) -> dict[str, Stretches]:
        return {name: stretches(clips, self._spectrum) for name, clips in self._clips(split).items()}

    @functools.cached_property
    def _spectrum(self) -> np.ndarray:
        return mean_spectrum([clip for clips in self._clips("train").values() for clip in clips])

    def _clips(self, split: str) -> dict[str, list[VoicedMouth]]:
        """Returns the clips of a split by their source, where it has some."""
        if split not in self._read_clips:
            self._read_clips[split] = self._clips_by_source(split)
        return self._read_clips[split]

    def _clips_by_source(self, split: str) -> dict[str, list[VoicedMouth]]:
        s, found = self._settings, {}
        if s.corpus:
            clips = self._corpus_clips(split)
            openings, scale = corpus_openings(clips, split, self._seed), self._scale
            found["corpus"] = corpus_mouths(clips, openings, scale["mean"], scale["deviation"], self._network.mels)
        if s.clips:
            found["real"] = real_mouths(s.clips, split, self._network.mels)
            if not found["real"] and split == "train":
                raise InputError(f"{s.clips}: no clip at 25 frames a second has sound and a mouth; prepare more")
        return {name: clips for name, clips in found.items() if clips}

    def _corpus_clips(self, split: str) -> ClipSet:
        if split not in self._spoken:
            count = self._corpus.clips if split == "train" else min(HELD_OUT_CLIPS, self._corpus.clips)
            self._spoken[split] = ClipSet.make(self._corpus, count, split, self._seed)
        return self._spoken[split]

    @functools.cached_property
    def _scale(self) -> dict[str, np.ndarray]:
        """Mean and deviation of the corpus's openings, in which the reader's are told."""
        if not (self._settings.corpus or self._settings.heads):
            return {name: self._known[name] for name in ("mean", "deviation")}
        openings = corpus_openings(self._corpus_clips("train"), "train", self._seed).astype(np.float64)
        return {"mean": np.array([openings.mean()]), "deviation": np.array([openings.std()])}

    @functools.cached_property
    def _direction(self) -> dict[str, np.ndarray]:
        if self._known:
            return {name: self._known[name] for name in ("read", "offset", "move")}
        clips = self._corpus_clips("train")
        return opening_direction(load_part(self._settings.face, "face"), clips, self._settings.heads, self._seed)


def _known_direction(face: str) -> dict[str, np.ndarray]:
    """Returns how lips.safetensors beside a codec opens its mouth; InputError where there is none."""
    folder = folder_of(face, LIPS)
    if not (folder / f"{LIPS}.safetensors").is_file():
        raise InputError(f"{folder}: no {LIPS}.safetensors; set config.lip_reader.heads=2048, and heads are rendered")
    return load_part(face, LIPS)[0]["direction"]

"""Trains the lip reader on voices and measured mouths, and reads from the codec how its dynamics open a mouth."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, LipsConfig, VASAConfig
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.corpus.voices.alignment import EnglishAligner
from vasa_jax.errors import InputError
from vasa_jax.evaluation.metrics import pearson
from vasa_jax.models.lip_reader import PARTS, LipReader, is_sound
from vasa_jax.models.lip_reading import read_sound
from vasa_jax.models.variants import LIPS_VARIANTS
from vasa_jax.training.tasks.base import Task, clip_settings
from vasa_jax.training.tasks.lips_data import (
    VoicedMouth,
    VoicedMouthBatches,
    corpus_mouths,
    corpus_openings,
    half_learnt,
    mean_spectrum,
    real_mouths,
    stretches,
)
from vasa_jax.training.tasks.lips_direction import opening_direction
from vasa_jax.training.tasks.lips_ear import TaughtEar, heard_mouths, recordings
from vasa_jax.training.teacher import Teacher
from vasa_jax.weights.parts import LIPS, folder_of, load_part

HELD_OUT_CLIPS = 64
SCALE_CLIPS = 128  # of each source, in which the reader's own scale is found
SMALLEST = 1e-3  # spread of a reader that has learnt nothing
FLAT = 1e-2  # added under the root of r: the square of the spread, over an example, below which r fades


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
        s = self._settings
        # Before the clips, which take minutes: a faulty file is told at once.
        teaching = (Teacher(s.ear), recordings(s.speech)) if s.ear else None
        found = dict(self._clips("train"))
        if s.articulation:
            found["corpus"] = half_learnt(found["corpus"], found["real"])
        shares = [1.0 - s.real_share, s.real_share] if len(found) == 2 else [1.0]
        if teaching:
            teacher, pieces = teaching
            ear = TaughtEar.learnt(teacher, list(found.values()), shares)
            found["speech"] = heard_mouths(ear, pieces, self._network.mels)
            shares = [*((1.0 - s.speech_share) * share for share in shares), s.speech_share]
        sets = [stretches(clips, self._spectrum) for clips in found.values()]
        return VoicedMouthBatches(sets, shares, self._batch, self._seed)

    def data_settings(self) -> dict[str, Any]:
        names = ["corpus", "clips", "real_share", "articulation"]
        if self._settings.ear:
            names += ["ear", "speech", "speech_share"]
        return {f"lip_reader.{name}": getattr(self._settings, name) for name in names} | clip_settings(self._corpus)

    def loss(self, params, batch, key):
        """Returns 1 - r of the opening, the mean over examples: people agree on when a mouth opens, not on how far."""
        n = self._network
        wide = jnp.pad(batch["heard"], ((0, 0), (n.before, n.after), (0, 0)), "edge")
        found = n.apply({"params": params}, wide, training=True, rngs={"dropout": key})
        return 1.0 - correlation(found, batch["opening"], batch["known"]).mean(), {}

    def evaluate(self, params) -> dict[str, float]:
        """Returns the mean r of held-out clips with the opening: `corpus_r` and, with clips, `real_r`."""
        return {f"{source}_r": self._follows(params, clips) for source, clips in self._clips("heldout").items()}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        direction = self._direction | self._scale
        content = {"reader": self._scaled(params), "spectrum": self._spectrum, "direction": direction}
        described = {"fields": self._fields, "dynamics": len(direction["read"]), "figures": self.evaluate(params)}
        return content, described | {"sources": self._settings.sources}

    def of_export(self, content):
        return content.get("reader", content)

    def notes(self) -> list[str]:
        counts = {name: len(clips) for name, clips in self._clips("train").items()}
        return ["; ".join(f"{count} clips of {name}" for name, count in counts.items())]

    def _scaled(self, params) -> dict[str, Any]:
        """Gives readings mean 0 and deviation 1 over the sources' sound: r, by which they are learnt, leaves both."""
        clips = [clip for clips in self._clips("train").values() for clip in clips[:SCALE_CLIPS]]
        read = np.concatenate([self._read(params, clip)[is_sound(clip.mels).any(-1)] for clip in clips])
        centre, spread = read.mean(), max(read.std(), SMALLEST)
        kernel, bias = params["opening"]["kernel"], params["opening"]["bias"]
        return params | {"opening": {"kernel": kernel / spread, "bias": (bias - centre) / spread}}

    def _follows(self, params, clips: list[VoicedMouth]) -> float:
        return float(np.mean([pearson(self._read(params, clip), clip.opening) for clip in clips]))

    def _read(self, params, clip: VoicedMouth) -> np.ndarray:
        return read_sound(self._network, params, clip.mels, self._spectrum)

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
            found["corpus"] = corpus_mouths(clips, corpus_openings(clips, split, self._seed), self._network.mels)
        if s.clips:
            aligner = EnglishAligner() if s.articulation and split == "train" else None
            found["real"] = real_mouths(s.clips, split, self._network.mels, aligner)
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
        """Mean and deviation of the corpus's openings where there is sound, in which the reader's are told."""
        if not (self._settings.corpus or self._settings.heads):
            return {name: self._known[name] for name in ("mean", "deviation")}
        clips = self._corpus_clips("train")
        openings = corpus_openings(clips, "train", self._seed).astype(np.float64)
        voices = corpus_mouths(dataclasses.replace(clips, samples=clips.samples[:, :1]), openings, self._network.mels)
        sound = np.concatenate([
            opening[is_sound(voice.mels).any(-1)] for opening, voice in zip(openings, voices)
        ])  # fmt: skip
        return {"mean": np.array([sound.mean()]), "deviation": np.array([sound.std()])}

    @functools.cached_property
    def _direction(self) -> dict[str, np.ndarray]:
        if self._known:
            return {name: self._known[name] for name in ("read", "offset", "move")}
        clips = self._corpus_clips("train")
        return opening_direction(load_part(self._settings.face, "face"), clips, self._settings.heads, self._seed)


def correlation(x_BT, y_BT, known_BT) -> jax.Array:
    """Returns Pearson's r of each row, (B,), over the frames that are known; towards 0 where a row hardly moves."""
    count = known_BT.sum(1, keepdims=True)
    x_BT, y_BT = (known_BT * (v - (known_BT * v).sum(1, keepdims=True) / count) for v in (x_BT, y_BT))
    return (x_BT * y_BT).sum(1) / jnp.sqrt(jnp.square(x_BT).sum(1) * jnp.square(y_BT).sum(1) + FLAT)


def _known_direction(face: str) -> dict[str, np.ndarray]:
    """Returns how lips.safetensors beside a codec opens its mouth; InputError where there is none."""
    folder = folder_of(face, LIPS)
    if not (folder / f"{LIPS}.safetensors").is_file():
        raise InputError(f"{folder}: no {LIPS}.safetensors; set config.lip_reader.heads=2048, and heads are rendered")
    return load_part(face, LIPS)[0]["direction"]

"""A set of spoken clips in memory: sound in several voices' colours, phonemes, motion and labels, all of one length."""

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.config import CorpusConfig
from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL
from vasa_jax.corpus.clips import sample_clip
from vasa_jax.corpus.performance.visemes import MOTION_NAMES
from vasa_jax.corpus.speech.voice_augmentation import augment_voice
from vasa_jax.corpus.voices.passage_clips import passage_clip
from vasa_jax.corpus.voices.speech_shards import Passage, natural_passages, passages_key
from vasa_jax.errors import InputError
from vasa_jax.files import cached, run_in_processes

FRAMES = 200  # video frames per clip: 8 s
SAMPLES = SAMPLES_PER_FRAME * FRAMES + TAIL


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """N clips of T = 200 frames."""

    samples: np.ndarray  # int16 (N, V, 640 T + 80), version 0 as spoken, the others with an altered voice
    phonemes: np.ndarray  # int16 (N, 2 T), classes of speech.phonemes
    stress: np.ndarray  # float16 (N, 2 T)
    energy: np.ndarray  # float16 (N, 2 T), log energy
    motion: np.ndarray  # float32 (N, T, M), columns MOTION_NAMES
    gaze: np.ndarray  # float32 (N, 2) degrees
    distance: np.ndarray  # float32 (N,)
    emotion: np.ndarray  # float32 (N, 8)

    @classmethod
    def make(cls, corpus: CorpusConfig, count: int, split: str, seed: int) -> "ClipSet":
        """Synthesises `count` clips over the machine's cores, or reads them from the folder `corpus.cache`.

        The same arguments give the same clips. Raises InputError when processes that synthesise are killed, and for a
        cached file that holds other clips than its name says.
        """
        if not corpus.cache:
            return cls(**_synthesised(corpus, count, split, seed))
        share = _passage_share(corpus, split)
        kind = ("-shipped" if corpus.speech == "shipped" else "") + ("-voices" if share else "")
        path = Path(corpus.cache) / f"clips-{split}-{seed}-{count}x{corpus.voices_per_clip}{kind}.npz"
        key = {
            "split": split, "seed": seed, "clips": count, "voices_per_clip": corpus.voices_per_clip,
            "speech": corpus.speech, "frames": FRAMES, "samples": SAMPLES,
        }  # fmt: skip
        if share:
            key |= {"passages": passages_key(corpus.passages), "passage_share": share}
        return cls(**cached(path, key, lambda: _synthesised(corpus, count, split, seed)))


def _passage_share(corpus: CorpusConfig, split: str) -> float:
    """The share of a split's clips that speak passages; those held out are eSpeak's, as those of every other run."""
    return corpus.passage_share if corpus.passages and split == "train" else 0.0


def _synthesised(corpus: CorpusConfig, count: int, split: str, seed: int) -> dict[str, np.ndarray]:
    """The arrays of a clip set; clip i has the seed 1,000,003 seed + i."""
    share = _passage_share(corpus, split)
    passages = itertools.cycle(natural_passages(corpus.passages)) if share else iter(())
    jobs = []
    for i in range(count):
        passage = next(passages) if int((i + 1) * share) > int(i * share) else None
        jobs.append((split, seed * 1_000_003 + i, corpus.voices_per_clip, corpus.speech, passage))
    workers = min(corpus.workers or os.cpu_count() or 1, count)
    clips = dict(run_in_processes(_make_clip, jobs, 0 if workers == 1 else workers, lost=refuse_lost_clips))
    return {name: np.stack([clips[index][name] for index in range(count)]) for name in clips[0]}


def refuse_lost_clips(job: Any) -> None:
    """Raises InputError for a clip whose process was killed."""
    raise InputError(
        "config.corpus.workers: processes that synthesise speech are killed; free some memory, or make fewer clips "
        "with config.corpus.clips"
    )


def _make_clip(job: tuple[str, int, int, str, Passage | None]) -> dict[str, np.ndarray]:
    split, seed, voices, speech, passage = job
    clip = sample_clip(seed, split, speech=speech) if passage is None else passage_clip(passage, seed)
    rng = np.random.default_rng([seed, 1])
    versions = [clip.samples] + [augment_voice(clip.samples, rng) for _ in range(voices - 1)]
    sound = np.stack([fitted(version, SAMPLES) for version in versions])
    motion = np.stack([clip.motion[name] for name in MOTION_NAMES], -1)
    return {
        "samples": as_int16(sound),
        "phonemes": fitted(clip.phoneme_ids, 2 * FRAMES).astype(np.int16),
        "stress": fitted(clip.stress, 2 * FRAMES).astype(np.float16),
        "energy": fitted(clip.energy, 2 * FRAMES).astype(np.float16),
        "motion": fitted(motion, FRAMES, "edge").astype(np.float32),
        "gaze": np.asarray(clip.gaze, np.float32),
        "distance": np.float32(clip.distance),
        "emotion": np.asarray(clip.emotion, np.float32),
    }


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Returns sound in [-1, 1] as whole numbers."""
    return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)


def fitted(values: np.ndarray, length: int, mode: str = "constant") -> np.ndarray:
    """Returns the first `length` entries; shorter input is continued by silence (zeros) or by its last entry."""
    missing = max(length - len(values), 0)
    return np.pad(values[:length], [(0, missing)] + [(0, 0)] * (values.ndim - 1), mode)

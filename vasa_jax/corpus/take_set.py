"""A set of spoken clips in memory with several performances of each: how heads move to one and the same sound."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus.clip_set import FRAMES, SAMPLES, as_int16, fitted, refuse_lost_clips
from vasa_jax.corpus.clips import sample_takes
from vasa_jax.corpus.performance.visemes import MOTION_NAMES
from vasa_jax.corpus.speech.voice_augmentation import augment_voice
from vasa_jax.files import cached, run_in_processes

HEAD_FIELDS = MOTION_NAMES[:6]  # yaw, pitch, roll, tx, ty, dist


@dataclasses.dataclass(frozen=True)
class TakeSet:
    """N clips of T = 200 frames, K performances of each.

    Version 0 of the sound is as spoken, the others have an altered voice; K takes differ in all but the speech.
    """

    samples: np.ndarray  # int16 (N, V, 640 T + 80)
    head: np.ndarray  # float32 (N, K, T, 6), columns HEAD_FIELDS

    @classmethod
    def make(cls, corpus: CorpusConfig, count: int, takes: int, split: str, seed: int) -> "TakeSet":
        """Synthesises `count` clips over the machine's cores, or reads them from the folder `corpus.cache`.

        They are the clips of `ClipSet.make`, whose errors it raises.
        """
        if not corpus.cache:
            return cls(**_synthesised(corpus, count, takes, split, seed))
        key = {
            "split": split, "seed": seed, "clips": count, "takes": takes, "voices_per_clip": corpus.voices_per_clip,
            "speech": corpus.speech, "frames": FRAMES, "samples": SAMPLES,
        }  # fmt: skip
        shipped = "-shipped" if corpus.speech == "shipped" else ""
        name = f"takes-{split}-{seed}-{count}x{corpus.voices_per_clip}x{takes}{shipped}.npz"
        made = cached(Path(corpus.cache) / name, key, lambda: _synthesised(corpus, count, takes, split, seed))
        return cls(**made)


def _synthesised(corpus: CorpusConfig, count: int, takes: int, split: str, seed: int) -> dict[str, np.ndarray]:
    """The arrays of a take set; clip i has the seed 1,000,003 seed + i."""
    jobs = [(split, seed * 1_000_003 + i, corpus.voices_per_clip, takes, corpus.speech) for i in range(count)]
    workers = min(corpus.workers or os.cpu_count() or 1, count)
    clips = dict(run_in_processes(_make_takes, jobs, 0 if workers == 1 else workers, lost=refuse_lost_clips))
    return {name: np.stack([clips[index][name] for index in range(count)]) for name in clips[0]}


def _make_takes(job: tuple[str, int, int, int, str]) -> dict[str, np.ndarray]:
    split, seed, voices, takes, speech = job
    clips: list[Any] = sample_takes(seed, split, range(takes), speech=speech)
    rng = np.random.default_rng([seed, 1])
    samples = clips[0].samples
    versions = [samples] + [augment_voice(samples, rng) for _ in range(voices - 1)]
    heads = [np.stack([clip.motion[name] for name in HEAD_FIELDS], -1) for clip in clips]
    return {
        "samples": as_int16(np.stack([fitted(version, SAMPLES) for version in versions])),
        "head": np.stack([fitted(head, FRAMES, "edge") for head in heads]).astype(np.float32),
    }

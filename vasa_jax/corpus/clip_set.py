"""A set of spoken clips in memory: sound in several voices' colours, phonemes, motion and labels, all of one length."""

import concurrent.futures
import concurrent.futures.process
import dataclasses
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus.clips import sample_clip
from vasa_jax.corpus.performance.visemes import MOTION_NAMES
from vasa_jax.corpus.speech.voice_augmentation import augment_voice
from vasa_jax.errors import InputError

FRAMES = 200  # video frames per clip: 8 s
SAMPLES = 640 * FRAMES + 80  # with the 5 ms that the last feature needs


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """N clips of T = 200 frames."""

    samples: np.ndarray  # int16 (N, V, 640 T + 80), version 0 as spoken, the others with an altered voice
    phonemes: np.ndarray  # int16 (N, 2 T), classes of synthetic.phonemes
    stress: np.ndarray  # float16 (N, 2 T)
    energy: np.ndarray  # float16 (N, 2 T), log energy
    motion: np.ndarray  # float32 (N, T, M), columns MOTION_NAMES
    gaze: np.ndarray  # float32 (N, 2) degrees
    distance: np.ndarray  # float32 (N,)
    emotion: np.ndarray  # float32 (N, 8)

    @classmethod
    def make(cls, corpus: CorpusConfig, count: int, split: str, seed: int) -> "ClipSet":
        """Synthesises `count` clips over the machine's cores; read from `corpus.cache` when it is there already."""
        path = None
        if corpus.cache:
            shipped = "-shipped" if corpus.speech == "shipped" else ""
            name = f"clips-{split}-{seed}-{count}x{corpus.voices_per_clip}{shipped}.npz"
            path = Path(corpus.cache) / name
            if path.is_file():
                with np.load(path) as file:
                    return cls(**file)
        jobs = [(split, seed * 1_000_003 + i, corpus.voices_per_clip, corpus.speech) for i in range(count)]
        workers = min(corpus.workers or os.cpu_count() or 1, count)
        clips = [_make_clip(job) for job in jobs] if workers == 1 else _make_in_processes(_make_clip, jobs, workers)
        result = cls(**{name: np.stack([clip[name] for clip in clips]) for name in clips[0]})
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(path.name + f".{os.getpid()}.part.npz")
            np.savez(beside, **dataclasses.asdict(result))
            os.replace(beside, path)
        return result


def _make_in_processes(make: Callable, jobs: list, workers: int) -> list:
    """`make` of every job, in order. A worker that dies (out of memory, say) takes its pool along: the clips that are
    missing are made by a smaller one; InputError when a pool of a single worker dies too."""
    clips: dict[int, Any] = {}
    context = multiprocessing.get_context("spawn")
    while missing := [index for index in range(len(jobs)) if index not in clips]:
        try:
            with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
                futures = {pool.submit(make, jobs[index]): index for index in missing}
                for future in concurrent.futures.as_completed(futures):
                    clips[futures[future]] = future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            if workers == 1:
                raise InputError(
                    "config.corpus.workers: processes that synthesise speech are killed; free some memory, or make "
                    "fewer clips with config.corpus.clips"
                ) from error
            workers //= 2
    return [clips[index] for index in range(len(jobs))]


def _make_clip(job: tuple[str, int, int, str]) -> dict[str, np.ndarray]:
    split, seed, voices, speech = job
    clip = sample_clip(seed, split, speech=speech)
    rng = np.random.default_rng([seed, 1])
    versions = [clip.samples] + [augment_voice(clip.samples, rng) for _ in range(voices - 1)]
    sound = np.stack([_fit(version, SAMPLES) for version in versions])
    motion = np.stack([clip.motion[name] for name in MOTION_NAMES], -1)
    return {
        "samples": np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16),
        "phonemes": _fit(clip.phoneme_ids, 2 * FRAMES).astype(np.int16),
        "stress": _fit(clip.stress, 2 * FRAMES).astype(np.float16),
        "energy": _fit(clip.energy, 2 * FRAMES).astype(np.float16),
        "motion": _fit(motion, FRAMES, "edge").astype(np.float32),
        "gaze": np.asarray(clip.gaze, np.float32),
        "distance": np.float32(clip.distance),
        "emotion": np.asarray(clip.emotion, np.float32),
    }


def _fit(values: np.ndarray, length: int, mode: str = "constant") -> np.ndarray:
    """The first `length` entries; shorter input is continued by silence (zeros) or by its last entry."""
    missing = max(length - len(values), 0)
    return np.pad(values[:length], [(0, missing)] + [(0, 0)] * (values.ndim - 1), mode)

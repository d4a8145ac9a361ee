"""The built-in corpus in files: rendered heads that speak, as shards of records.

    python -m vasa_jax.main --config configs/synthesize.py --workdir data/corpus

Splits share neither person nor voice nor sentence; persons and held-out clips are also none of the evaluation's or of
a training task's. A clip is a pure function of the settings and its number. So a run that was stopped goes on with
the shards that are missing.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from vasa_jax.config import SynthesisConfig, VASAConfig
from vasa_jax.conventions import FPS, LANDMARK_SET, SAMPLES_PER_FRAME
from vasa_jax.corpus.clips import Clip, sample_clip
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.muscles import MOTION_NAMES
from vasa_jax.corpus.render_cache import restyle
from vasa_jax.data.records import Record, encode_jpeg, encode_matte
from vasa_jax.data.shards import Manifest, Shard, is_finished, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.files import run_in_processes
from vasa_jax.rng import named_key

_FIRST_CLIP = {"train": 0, "heldout": 500_000_000}  # the evaluation's held-out clips are counted from 0
_SOURCE = "vasa_jax.corpus seed={} split={} person={} clip={} altered={:d} styled={:d} speech={}"


def person(seed: int, split: str, number: int) -> dict[str, np.ndarray]:
    """Returns the identity of a person of the corpus, scalars by name."""
    return jax.device_get(_sample_identity(jax.random.fold_in(named_key(seed, f"corpus {split}"), number)))


def make_record(settings: SynthesisConfig, seed: int, split: str, number: int) -> Record:
    """Synthesises, performs and renders one clip; a pure function of its arguments on one kind of machine."""
    altered = np.random.default_rng([seed, number, 7]).random() < settings.altered_voices
    clip = _clip(seed, split, number, altered, settings.speech)
    who = number // settings.clips_per_person
    styled = split == "train" and np.random.default_rng([seed, who, 11]).random() < settings.style
    frames = min(round(settings.seconds * FPS), clip.frames)
    motion = {name: np.asarray(clip.motion[name][:frames], np.float32) for name in MOTION_NAMES}
    images = _render(settings, person(seed, split, who), motion, style_key(seed, split, who) if styled else None)
    samples = np.clip(clip.samples[: frames * SAMPLES_PER_FRAME], -1, 1)
    return Record(
        clip_id=f"{split}-{seed}-{number:07d}",
        person_id=f"{split}-{seed}-{who:06d}",
        split=split,
        source=_SOURCE.format(seed, split, who, number, altered, styled, settings.speech),
        fps=float(FPS),
        frames=tuple(encode_jpeg(image, settings.quality) for image in images["rgb"]),
        audio=np.round(samples * 32767).astype(np.int16),
        landmark_set=LANDMARK_SET,
        matte=tuple(encode_matte(matte) for matte in images["matte"]) if settings.matte else None,
        main_gaze=np.asarray(clip.gaze, np.float32),
        distance=np.float32(clip.distance),
        emotion=np.asarray(clip.emotion, np.float32),
        **{name: images[name] for name in ("pose", "gaze", "lids", "mouth", "landmarks")},
    )


def style_key(seed: int, split: str, number: int) -> jax.Array:
    """Returns the key of the look of a person, where that person is styled: `render_cache.restyle(key, images)`."""
    return jax.random.fold_in(named_key(seed, f"corpus style {split}"), number)


class Origin(NamedTuple):
    """What a record of the corpus was made from."""

    seed: int
    split: str
    person: int
    clip: int
    altered: bool  # the sound is moved away from the synthesiser's
    styled: bool  # the look is changed
    speech: str  # of conventions.SPEECH_SOURCES


def origin_of(record: Record) -> Origin:
    """Returns what a record was made from; InputError for a record from elsewhere."""
    pattern = re.sub(r"\\\{.*?\\\}", r"(\\w+)", re.escape(_SOURCE))
    match = re.fullmatch(pattern, record.source)
    if match is None:
        raise InputError(f"clip '{record.clip_id}': from '{record.source}'; only the built-in corpus has exact truth")
    seed, split, who, number, altered, styled, speech = match.groups()
    return Origin(int(seed), split, int(who), int(number), altered == "1", styled == "1", speech)


def clip_of(origin: Origin) -> Clip:
    """Synthesises speech and motion of a record anew (0.3 s)."""
    return _clip(origin.seed, origin.split, origin.clip, origin.altered, origin.speech)


def synthesize(settings: SynthesisConfig, seed: int, directory: str | Path) -> Manifest:
    """Writes all shards that are missing, over processes, then the manifest and, if asked for, the TFDS build.

    Raises InputError for speech 'espeak' without espeakng_loader, for a directory with data of other settings, and
    for a shard whose process is killed.
    """
    from tqdm import tqdm

    directory = Path(directory)
    jobs = [(settings, seed, shard, str(directory)) for shard in _plan(settings)]
    jobs = [job for job in jobs if not is_finished(directory, job[2], settings.formats, _stored(settings, seed))]
    # One process feeds an accelerator; on a CPU much of a clip's time is spent outside of XLA's threads.
    workers = settings.workers or (os.cpu_count() or 1 if jax.default_backend() == "cpu" else 1)
    workers = min(workers, len(jobs))
    with tqdm(total=len(jobs), unit="shard", disable=None) as bar:
        cache = jax.config.jax_compilation_cache_dir
        for _ in run_in_processes(_write, jobs, 0 if workers <= 1 else workers, _start_worker, (cache,), _refuse):
            bar.update()
    manifest = write_manifest(directory)
    if settings.tfds:
        from vasa_jax.corpus.vasa_corpus.vasa_corpus_dataset_builder import build

        build(directory, directory / "tfds")
    return manifest


def synthesize_job(config: VASAConfig, workdir: str | Path) -> Manifest:
    """Does the job `synthesize`."""
    return synthesize(config.synthesis, config.seed, workdir)


def _plan(settings: SynthesisConfig) -> list[Shard]:
    counts = {"train": settings.shards, "heldout": settings.held_out_shards}
    return [Shard(split, index, counts[split]) for split in counts for index in range(counts[split])]


def _stored(settings: SynthesisConfig, seed: int) -> dict[str, object]:
    """What decides the records; where they are made does not."""
    kept = {name: value for name, value in dataclasses.asdict(settings).items() if name not in ("workers", "tfds")}
    return {**kept, "formats": sorted(settings.formats), "seed": seed}


def _write(job: tuple[SynthesisConfig, int, Shard, str]) -> None:
    settings, seed, shard, directory = job
    write_shard(directory, shard, _records(settings, seed, shard), settings.formats, _stored(settings, seed))


def _refuse(job: tuple[SynthesisConfig, int, Shard, str]) -> None:
    raise InputError(
        f"{job[3]}/{job[2].name}: the process that writes this shard was killed twice; free some memory, or use fewer "
        "config.synthesis.workers, and run the same command again"
    )


def _records(settings: SynthesisConfig, seed: int, shard: Shard) -> Iterator[Record]:
    clips = settings.clips if shard.split == "train" else settings.held_out_clips
    for number in range(clips * shard.index // shard.count, clips * (shard.index + 1) // shard.count):
        yield make_record(settings, seed, shard.split, number)


def _start_worker(compilation_cache: str | None) -> None:
    if compilation_cache:
        jax.config.update("jax_compilation_cache_dir", compilation_cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _clip(seed: int, split: str, number: int, altered: bool, speech: str) -> Clip:
    return sample_clip(_FIRST_CLIP[split] + seed * 1_000_003 + number, split, augment=altered, speech=speech)


_sample_identity = jax.jit(sample_identity)
_restyle = jax.jit(restyle)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _images(identity, motion, size: int, supersample: int):
    out, truth = render(identity, motion, size, supersample), labels(identity, motion)
    return {"rgb": to_uint8(out["rgb"]), "matte": out["matte"], "landmarks": out["landmarks"], **truth}


def _render(settings: SynthesisConfig, identity: dict, motion: dict, style: jax.Array | None) -> dict[str, np.ndarray]:
    """Images and labels of one person over (T,) motion tracks, in batches of one compiled shape."""
    total, batch, parts = len(motion["yaw"]), settings.render_batch, []
    repeated = {name: np.repeat(np.asarray(value)[None], batch) for name, value in identity.items()}
    for start in range(0, total, batch):
        rows = np.minimum(np.arange(start, start + batch), total - 1)
        some = {name: track[rows] for name, track in motion.items()}
        out = _images(repeated, some, settings.size, settings.supersample)
        if style is not None:
            out = {**out, "rgb": _restyle(style, out["rgb"])}
        out = jax.device_get(out)
        parts.append({name: value[: total - start] for name, value in out.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

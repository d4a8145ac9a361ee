"""Motion sets in files: what the frozen codec and audio encoder see, written once and read by many trainings.

A directory of shards (data/shards.py) whose records are `MotionRecord`, with the statistics of the training split
beside them. Values are those of `RenderedMotion`, bit for bit.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from vasa_jax.config import CorpusConfig, VASAConfig
from vasa_jax.conventions import POSE_DIM
from vasa_jax.corpus.clip_set import FRAMES, ClipSet
from vasa_jax.data.shards import Manifest, Shard, ShardReader, is_finished, read_manifest, write_manifest, write_shard
from vasa_jax.data.tf_example import Kind, checked_feature, decode_example, encode_example
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint
from vasa_jax.models.face import dynamics_width
from vasa_jax.training.processes import is_primary
from vasa_jax.training.tasks.motion_data import MotionExtractor, MotionSet, clip_splits, statistics
from vasa_jax.weights.parts import load_part
from vasa_jax.weights.safetensors_io import load_params, save_params

FORMAT = "array_record"
KIND = "motion latents 2"  # of the records, in the manifest's settings
STATISTICS = "statistics.safetensors"
_LABELS = {"gaze": Kind(np.float32, 2), "distance": Kind(np.float32, 1), "emotion": Kind(np.float32, 8),
           "blinks": Kind(np.float32)}  # fmt: skip
_KINDS = {
    **dict.fromkeys(("clip_id", "person_id", "motion", "audio"), Kind(count=1)),
    "motion/shape": Kind(np.int64, 2),
    "audio/shape": Kind(np.int64, 3),
    **_LABELS,
}


@dataclasses.dataclass(frozen=True)
class MotionRecord:
    """One clip of T frames in V voices, as stage 2 sees it."""

    clip_id: str
    person_id: str
    motion: np.ndarray  # float16 (T, 9 + the codec's dynamics), not normalised
    audio: np.ndarray  # float16 (V, T, audio width)
    gaze: np.ndarray  # float32 (2,) degrees
    distance: np.ndarray  # float32 ()
    emotion: np.ndarray  # float32 (8,)
    blinks: np.ndarray  # float32 (T,)

    @property
    def frames(self) -> range:
        """The numbers of its frames."""
        return range(len(self.motion))

    def to_bytes(self) -> bytes:
        """Returns a serialised `tf.train.Example`; half-precision arrays as little-endian bytes with their shapes."""
        features: dict[str, Any] = {name: [getattr(self, name).encode()] for name in ("clip_id", "person_id")}
        for name in ("motion", "audio"):
            value = getattr(self, name)
            features[name] = [value.astype("<f2").tobytes()]
            features[f"{name}/shape"] = np.array(value.shape, np.int64)
        for name in ("gaze", "distance", "emotion", "blinks"):
            features[name] = np.asarray(getattr(self, name), np.float32)
        return encode_example(features)

    @classmethod
    def from_bytes(cls, data: bytes) -> "MotionRecord":
        """Reads a record; InputError for bytes that hold none."""
        try:
            features = decode_example(data)
            found = {name: checked_feature(features, name, kind) for name, kind in _KINDS.items()}
            arrays = {
                name: np.frombuffer(found[name][0], "<f2").reshape(found[f"{name}/shape"])
                for name in ("motion", "audio")
            }
            texts = {name: found[name][0].decode() for name in ("clip_id", "person_id")}
            if not all(np.isfinite(value).all() for value in (*arrays.values(), *(found[name] for name in _LABELS))):
                raise ValueError("a number is not finite")
            return cls(
                **texts, **arrays, gaze=found["gaze"], distance=found["distance"].reshape(()),
                emotion=found["emotion"], blinks=found["blinks"],
            )  # fmt: skip
        except ValueError as error:
            raise InputError(f"no motion record ({error}); extract the set again") from error


class StoredMotion:
    """The motion sets of a directory that `extract_motion` wrote. InputError if it holds none."""

    ear = None  # the clips' sound is not stored

    def __init__(self, directory: str | Path, face: str | Path = ""):
        """`face` is where `codec` finds the codec that made the set."""
        self._manifest, self._face = read_manifest(directory), face
        if self._manifest.settings.get("kind") != KIND:
            raise InputError(f"{directory}: holds no motion set; write one with configs/extract_motion.py")
        self.audio_dim = self._manifest.settings["audio_dim"]
        self._statistics = load_params(self._manifest.directory / STATISTICS)[0]
        self.motion_dim = len(self._statistics["mean"])

    @property
    def corpus(self) -> CorpusConfig:
        """Returns the settings of the corpus that decide the set's clips and images."""
        made = self._manifest.settings
        return CorpusConfig(speech=made["speech"], supersample=made["supersample"])

    def codec(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns (parameters, metadata) of the codec whose latents these are; InputError if it is not where it was
        said."""
        face = load_part(self._face, "face")
        if fingerprint(face[0]) != self._manifest.settings["face"]:
            raise InputError(
                f"config.motion.face: '{self._face}' is not the codec that made {self._manifest.directory}; give the "
                "export that job extract_motion had"
            )
        return face

    def __call__(self, split: str) -> MotionSet:
        """`train` or `heldout`."""
        return _motion_set(_records(self._manifest, split), self.motion_dim)

    def statistics(self, motion_set: MotionSet) -> dict[str, np.ndarray]:
        """Returns those stored with the set, of its training split."""
        return self._statistics


def extract_motion(config: VASAConfig, directory: str | Path) -> Manifest:
    """Writes the shards that are missing, spread over processes and each one's devices, then statistics and manifest.

    InputError if the directory holds a set that was made with other settings.
    """
    directory, motion, corpus = Path(directory), config.motion, config.corpus
    face, audio = (load_part(getattr(motion, name), name) for name in ("face", "audio"))
    splits = clip_splits(corpus, config.seed)
    settings = {
        "kind": KIND,
        "face": fingerprint(face[0]),
        "audio": fingerprint(audio[0]),
        "audio_dim": audio[1]["fields"]["width"],
        "seed": config.seed,
        "clips": {split: count for split, (count, _, _) in splits.items()},
        "voices_per_clip": corpus.voices_per_clip,
        "speech": corpus.speech,
        "supersample": corpus.supersample,
    }
    shards = [
        Shard(split, index, -(-count // motion.clips_per_shard))
        for split, (count, _, _) in splits.items()
        for index in range(-(-count // motion.clips_per_shard))
    ]
    missing = [shard for shard in shards if not is_finished(directory, shard, (FORMAT,), settings)]
    mine = missing[jax.process_index() :: jax.process_count()]
    clips = {
        split: ClipSet.make(corpus, splits[split][0], split, splits[split][1])
        for split in dict.fromkeys(shard.split for shard in mine)
    }
    devices = jax.local_devices()

    def work(number: int) -> None:
        extractor = MotionExtractor(face, audio, corpus, compute_dtype(config.train.precision), "", devices[number])
        for shard in mine[number :: len(devices)]:
            records = _extracted(extractor, clips[shard.split], shard, motion.clips_per_shard, *splits[shard.split][1:])
            write_shard(directory, shard, records, (FORMAT,), settings)
            print(f"{directory / shard.name}: written", flush=True)

    with ThreadPoolExecutor(len(devices)) as pool:
        list(pool.map(work, range(len(devices))))
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("motion set")
    if is_primary():
        manifest = write_manifest(directory)
        width = POSE_DIM + dynamics_width(face[1]["fields"])
        found = statistics(_motion_set(_records(manifest, "train"), width).motion)
        save_params(directory / STATISTICS, found, {"split": "train"})
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("motion set statistics")
    return read_manifest(directory)


def _extracted(
    extractor: MotionExtractor, clips: ClipSet, shard: Shard, size: int, seed: int, name: str
) -> Iterator[MotionRecord]:
    """The records of a shard, encoded clip by clip as they are written."""
    for number in range(shard.index * size, min((shard.index + 1) * size, len(clips.motion))):
        values = {field.name: getattr(clips, field.name)[number : number + 1] for field in dataclasses.fields(clips)}
        found = jax.device_get(extractor(ClipSet(**values), seed, name, number))
        yield MotionRecord(
            clip_id=f"{shard.split}-{seed}-{number:07d}",
            person_id=f"{name}-{seed}-{number:07d}",
            motion=found.motion[0].astype(np.float16),
            audio=found.audio[0],
            gaze=found.gaze[0],
            distance=found.distance[0],
            emotion=found.emotion[0],
            blinks=found.blinks[0],
        )


def _records(manifest: Manifest, split: str) -> Iterator[MotionRecord]:
    shards = sorted(manifest.split(split), key=lambda shard: shard.index)
    readers = (ShardReader(manifest, shard, FORMAT, MotionRecord.from_bytes) for shard in shards)
    return itertools.chain.from_iterable((reader[i] for i in range(len(reader))) for reader in readers)


def _motion_set(records: Iterator[MotionRecord], width: int) -> MotionSet:
    records = list(records)
    for record in records:
        if record.motion.shape != (FRAMES, width):
            raise InputError(
                f"clip '{record.clip_id}': motion of {record.motion.shape}; this set trains on ({FRAMES}, {width}): "
                "extract it again"
            )
    names = ("motion", "audio", "gaze", "distance", "emotion", "blinks")
    stacked = {name: np.stack([getattr(record, name) for record in records]) for name in names}
    stacked["motion"] = stacked["motion"].astype(np.float32)
    return MotionSet(**{name: jnp.asarray(value) for name, value in stacked.items()})

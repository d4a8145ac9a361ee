"""What CAPP learns from: clips with head rotation and the features of their sound, of the corpus and of real people."""

import collections
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float

from vasa_jax.config import CAPPConfig, CorpusConfig
from vasa_jax.conventions import FPS, head_angles
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.performance.visemes import MOTION_NEUTRAL
from vasa_jax.corpus.take_set import HEAD_FIELDS, TakeSet
from vasa_jax.data.records import Record, decode_jpeg
from vasa_jax.data.shards import FORMATS, ShardReader, read_manifest
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.evaluation.capp import hear
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.models.audio_encoders import AnyAudioEncoder
from vasa_jax.models.capp import WINDOW
from vasa_jax.rng import named_key
from vasa_jax.training.processes import ProcessPart

HELD_OUT_CLIPS = 192  # three rounds of 64
SHORTEST = WINDOW - 5  # frames of a usable clip
LENGTHENED = WINDOW + 24  # frames of what is made of one that leaves no room to shift a window


@dataclasses.dataclass(frozen=True)
class PoseSpeech:
    """N clips, end to end in flat tracks: V sounds of clip n begin at `sound_start[n]`, K head motions at its
    `pose_start`, each of `length[n]` frames."""

    features: np.ndarray  # float16 (A, C)
    angles: np.ndarray  # float32 (P, 3) degrees: yaw, pitch, roll
    length: np.ndarray  # int32 (N,)
    sounds: np.ndarray  # int32 (N,), V
    poses: np.ndarray  # int32 (N,), K
    weight: np.ndarray  # float32 (N,): how often each is drawn; the sum is 1

    @property
    def starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns int32 (N,) sound_start and pose_start."""
        many = (self.sounds, self.poses)
        return tuple(np.cumsum(np.append(0, self.length * count)[:-1]).astype(np.int32) for count in many)

    @classmethod
    def of_clips(
        cls, clips: list[tuple[list[np.ndarray], list[np.ndarray]]], people: list[str] | None = None
    ) -> "PoseSpeech":
        """Joins clips, each (features (T, C) of its sounds, angles (T, 3) of its motions).

        people: who each clip shows. One with n clips is drawn as often as sqrt(n) with one each.
        """
        count = collections.Counter(people or range(len(clips)))
        weight = np.array([count[person] ** -0.5 for person in people or range(len(clips))])
        return cls(
            np.concatenate([track for sounds, _ in clips for track in sounds]).astype(np.float16),
            np.concatenate([track for _, poses in clips for track in poses]).astype(np.float32),
            np.array([len(poses[0]) for _, poses in clips], np.int32),
            np.array([len(sounds) for sounds, _ in clips], np.int32),
            np.array([len(poses) for _, poses in clips], np.int32),
            (weight / weight.sum()).astype(np.float32),
        )

    def first(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the first sound (T, C) and the first motion (T, 3) of each clip."""
        sound, pose = self.starts
        return (
            [np.asarray(self.features[a : a + n], np.float32) for a, n in zip(sound, self.length)],
            [self.angles[b : b + n] for b, n in zip(pose, self.length)],
        )


def corpus_clips(
    encoder: AnyAudioEncoder, params: Any, corpus: CorpusConfig, count: int, takes: int, split: str, seed: int
) -> PoseSpeech:
    """Makes clips of the built-in corpus; nothing is rendered."""
    made = TakeSet.make(corpus, count, takes, split, seed)
    key = named_key(seed, f"capp heads {split}")
    angles = head_angles(np.stack([_poses(key, number, takes) for number, takes in enumerate(made.head)]))
    clips = []
    for number, (voices, motions) in enumerate(zip(made.samples, angles)):
        clips.append(([hear(encoder, params, voice) for voice in voices], list(motions)))
        if number % 400 == 399:
            logging.info("sound of %d of %d clips heard", number + 1, count)
    return PoseSpeech.of_clips([([f[: angles.shape[2]] for f in sounds], poses) for sounds, poses in clips])


@jax.jit
def _poses(key, clip, head_KTF):
    """Head poses (K, T, 9) as labels tell them, every take by a random person of its own."""

    def of_take(take, head):
        identity = sample_identity(jax.random.fold_in(jax.random.fold_in(key, clip), take))
        motion = {**MOTION_NEUTRAL, **{name: head[:, i] for i, name in enumerate(HEAD_FIELDS)}}
        whole = jax.tree.map(lambda value: jnp.broadcast_to(jnp.asarray(value), head.shape[:1]), (identity, motion))
        return labels(*whole)["pose"]

    return jax.lax.map(lambda pair: of_take(*pair), (jnp.arange(len(head_KTF)), head_KTF))


def shard_clips(
    encoder: AnyAudioEncoder, params: Any, directory: str, split: str, reader: FaceReader | None = None
) -> PoseSpeech | None:
    """Reads the clips of a split of `directory` that have sound, poses and 25 frames a second; None without any.

    reader: reads poses in the frames, as the evaluator will; None = the shards' own labels. Clips of three seconds
    leave no room for shifts: short ones go on at both ends as their own mirror image, sound and head alike. Raises
    InputError for a directory without shards.
    """
    manifest = read_manifest(Path(directory))
    clips, people = [], []
    for shard in [shard for shard in manifest.shards if shard.split == split]:
        form = next(name for name in FORMATS if name in shard.files)
        records = ShardReader(manifest, shard, form)
        for index, clip in enumerate(shard.clips):
            if clip["frames"] < SHORTEST:
                continue
            record = records[index]
            pose = record.pose if reader is None else _read_poses(reader, record)
            if record.audio is None or pose is None or record.fps != FPS:
                continue
            heard = hear(encoder, params, record.audio)
            frames = min(len(heard), len(pose))
            if frames >= SHORTEST:
                clips.append(([lengthened(heard[:frames])], [lengthened(head_angles(pose[:frames]))]))
                people.append(record.person_id)
    return PoseSpeech.of_clips(clips, people) if clips else None


def _read_poses(reader: FaceReader, record: Record) -> Float[np.ndarray, "T 9"]:
    return reader.measure(np.stack([decode_jpeg(frame) for frame in record.frames])).pose


def lengthened(track: Float[np.ndarray, "T n"]) -> Float[np.ndarray, "T2 n"]:
    """Returns at least LENGTHENED frames; both ends of a shorter track are mirrored."""
    missing = max(LENGTHENED - len(track), 0)
    return np.pad(track, ((missing // 2, missing - missing // 2), (0, 0)), mode="reflect")


def joined(sets: list[PoseSpeech | None], shares: list[float], source: str) -> PoseSpeech:
    """Joins sets; `shares` of the pairs come from each. InputError, which names `source`, where there is nothing."""
    found = [dataclasses.replace(one, weight=one.weight * share) for one, share in zip(sets, shares) if one]
    if not found:
        raise InputError(f"{source}: no clip of {SHORTEST} frames at 25 a second with sound and poses; prepare more")
    names = [field.name for field in dataclasses.fields(PoseSpeech)]
    return PoseSpeech(*(np.concatenate([getattr(one, name) for one in found]) for name in names))


class WindowPairs(StepIterator):
    """Iterator of pairs of 3 s, and of windows of the same clips at other times; all clips are in device memory."""

    def __init__(self, clips: PoseSpeech, settings: CAPPConfig, batch_size: int, seed: int):
        sound, pose = clips.starts
        self._arrays = jax.device_put({
            "features": clips.features, "angles": clips.angles, "length": clips.length, "sounds": clips.sounds,
            "poses": clips.poses, "sound_start": sound, "pose_start": pose, "weight": clips.weight,
        })  # fmt: skip
        self._part, self._settings = ProcessPart(batch_size, len(clips.length)), settings
        self._key = self._part.key(named_key(seed, "capp"))
        self._draw = jax.jit(self._pairs)

    def batch(self, step: int) -> dict[str, jax.Array]:
        """Returns angles (B, 75, 3) and features (B, 75, C) of pairs, other_angles and other_features near them."""
        return self._draw(self._arrays, step)

    def _pairs(self, arrays, step):
        s, keys = self._settings, jax.random.split(jax.random.fold_in(self._key, step), 10)
        clip = self._part.draw_clips(keys[0], arrays["weight"])
        count, length = len(clip), arrays["length"][clip]

        def one_of(key, most):
            return (jax.random.uniform(key, (count,)) * most).astype(jnp.int32)

        sound = arrays["sound_start"][clip] + length * one_of(keys[1], arrays["sounds"][clip])
        pose = arrays["pose_start"][clip] + length * one_of(keys[2], arrays["poses"][clip])
        room = length - WINDOW
        at = one_of(keys[3], room + 1)

        def elsewhere(key):
            """Draws as many shifts of one frame as of ten: the logarithm of their size is drawn evenly."""
            size_key, sign_key = jax.random.split(key)
            size = jnp.exp(jax.random.uniform(size_key, (count,)) * jnp.log(s.shift + 1.0)).astype(jnp.int32)
            shift = jnp.where(jax.random.bernoulli(sign_key, shape=(count,)), size, -size)
            shift = jnp.where((at + shift < 0) | (at + shift > room), -shift, shift)
            further_end = jnp.where(2 * at < room, room, 0)
            return jnp.where((at + shift < 0) | (at + shift > room), further_end, at + shift)

        def windows(track, starts):
            return jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(track, start, WINDOW))(starts)

        jitter = jnp.exp(jax.random.uniform(keys[6], (count, 1, 1)) * jnp.log(20.0) - jnp.log(20.0)) * s.jitter
        gain = jnp.exp(s.gain * jax.random.normal(keys[7], (count, 1, 3)))

        def read(starts, key):
            """Changes poses as a reader would give them: axes stretched, and noise of its own in every frame."""
            clean = windows(arrays["angles"], starts)
            return clean * gain + jitter * jax.random.normal(key, clean.shape)

        heard = [windows(arrays["features"], sound + start).astype(jnp.float32) for start in (at, elsewhere(keys[4]))]
        return {
            "angles": read(pose + at, keys[8]),
            "features": heard[0],
            "other_angles": read(pose + elsewhere(keys[5]), keys[9]),
            "other_features": heard[1],
        }

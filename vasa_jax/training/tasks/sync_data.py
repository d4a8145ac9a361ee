"""What the sync probe learns from: mouths and sound of rendered heads that speak, and of real people."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float, UInt8

from vasa_jax.config import CorpusConfig, SyncConfig
from vasa_jax.conventions import FPS
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.corpus.performance.visemes import MOTION_NAMES
from vasa_jax.data.records import Record, decode_jpeg
from vasa_jax.data.shards import FORMATS, ShardReader, read_manifest
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.sync_probe import mouth_patches, sound_columns
from vasa_jax.files import cached
from vasa_jax.models.sync_probe import SIDE, STORED, seen_part
from vasa_jax.rng import named_key
from vasa_jax.training.processes import ProcessPart

SIZE = 128  # pixels of the renders: what the face probe reads
RENDER_BATCH = 20  # frames
LONGEST_SHIFT = 15  # frames of sound before and after a clip's pictures, where there are some


@dataclasses.dataclass(frozen=True)
class MouthSpeech:
    """N stretches of T frames, and V versions of their sound, which reaches `margin` frames further at both ends."""

    patches: np.ndarray  # uint8 (N, T, s, s) of `mouth_patches`
    columns: np.ndarray  # float16 (N, V, margin + T + margin, columns, coefficients) of `sound_columns`

    @property
    def margin(self) -> int:
        """Frames of sound before the first picture."""
        return (self.columns.shape[2] - self.patches.shape[1]) // 2


def corpus_mouths(
    reader: FaceReader, corpus: CorpusConfig, count: int, frames: int, split: str, seed: int
) -> MouthSpeech:
    """Renders the loudest `frames` frames of `count` clips, each by a person of its own; kept in `corpus.cache`."""

    def make() -> dict[str, np.ndarray]:
        clips = ClipSet.make(corpus, count, split, seed)
        heads = HeldOutHeads(SIZE, seed, corpus.supersample, RENDER_BATCH, f"sync heads {split}")
        patches, columns = [], []
        for number in range(count):
            start = _loudest(clips.energy[number], frames)
            part = slice(start, start + frames)
            motion = {name: clips.motion[number, part, i] for i, name in enumerate(MOTION_NAMES)}
            pictures = heads.render(heads.identity(number), motion)["rgb"]
            patches.append(mouth_patches(pictures, reader.measure(pictures), reader.points))
            voices = [sound_columns(voice / 32767.0, clips.motion.shape[1]) for voice in clips.samples[number]]
            wide = slice(part.start - LONGEST_SHIFT, part.stop + LONGEST_SHIFT)
            columns.append(np.stack([voice[wide] for voice in voices]))
            if number % 40 == 39:
                logging.info("%d of %d clips rendered", number + 1, count)
        return {"patches": np.stack(patches), "columns": np.stack(columns).astype(np.float16)}

    if not corpus.cache:
        return MouthSpeech(**make())
    key = {
        "split": split, "seed": seed, "clips": count, "frames": frames, "voices_per_clip": corpus.voices_per_clip,
        "speech": corpus.speech, "supersample": corpus.supersample, "size": SIZE, "patch": STORED,
    }  # fmt: skip
    name = f"mouths-{split}-{seed}-{count}x{corpus.voices_per_clip}x{frames}.npz"
    return MouthSpeech(**cached(Path(corpus.cache) / name, key, make))


def _loudest(energy: Float[np.ndarray, "T2"], frames: int) -> int:
    """First frame of the stretch with most speech, with room for LONGEST_SHIFT at both ends; energy at 50 Hz."""
    level = np.asarray(energy, np.float64).reshape(-1, 2).mean(1)
    sums = np.convolve(level, np.ones(frames), "valid")[LONGEST_SHIFT : len(level) - frames - LONGEST_SHIFT + 1]
    return LONGEST_SHIFT + int(sums.argmax())


def real_mouths(reader: FaceReader, directory: str, frames: int, split: str) -> MouthSpeech | None:
    """Reads stretches of the clips of a split of job prepare's shards that have sound; None without any.

    Neighbouring stretches of a clip overlap so far that its last frame is in one. InputError for no shards.
    """
    manifest = read_manifest(Path(directory))
    patches, columns = [], []
    for shard in [shard for shard in manifest.shards if shard.split == split]:
        records = ShardReader(manifest, shard, next(name for name in FORMATS if name in shard.files))
        for index, clip in enumerate(shard.clips):
            if clip["frames"] < frames:
                continue
            record = records[index]
            if record.audio is None or record.fps != FPS:
                continue
            cut, heard = _of_record(reader, record)
            for start in _starts(len(cut), frames):
                patches.append(cut[start : start + frames])
                columns.append(heard[None, start : start + frames])
    return MouthSpeech(np.stack(patches), np.stack(columns).astype(np.float16)) if patches else None


def _starts(length: int, frames: int) -> np.ndarray:
    return np.linspace(0, length - frames, -(-length // frames)).round().astype(int)


def _of_record(reader: FaceReader, record: Record) -> tuple[UInt8[np.ndarray, "T s s"], np.ndarray]:
    pictures = np.stack([decode_jpeg(frame) for frame in record.frames])
    cut = mouth_patches(pictures, reader.measure(pictures), reader.points)
    return cut, sound_columns(record.audio.astype(np.float32) / 32767.0, len(cut))


class MouthSpeechBatches(StepIterator):
    """Iterates over stretches as a reader of faces and a microphone may give them; all are in device memory."""

    def __init__(self, sets: list[MouthSpeech], shares: list[float], settings: SyncConfig, batch: int, seed: int):
        """`shares` of each batch, which sum to 1, come from each set."""
        counts = [round(batch * share) for share in shares]
        counts[0] += batch - sum(counts)
        self._parts = [
            (ProcessPart(count, len(one.patches)), one.margin, jax.device_put((one.patches, one.columns)))
            for one, count in zip(sets, counts) if count
        ]  # fmt: skip
        self._settings = settings
        self._key = self._parts[0][0].key(named_key(seed, "sync"))
        self._draw = jax.jit(self._stretches)

    def batch(self, step: int) -> dict[str, jax.Array]:
        """Returns patches (B, T, p, p, 1) in [0, 1] and columns (B, T, columns, coefficients)."""
        return self._draw([arrays for _, _, arrays in self._parts], step)

    def _stretches(self, sets, step):
        key, found = jax.random.fold_in(self._key, step), []
        for number, ((part, margin, _), (patches, columns)) in enumerate(zip(self._parts, sets)):
            keys = jax.random.split(jax.random.fold_in(key, number), 4)
            clip = part.draw_clips(keys[0])
            voice = jax.random.randint(keys[1], clip.shape, 0, columns.shape[1])
            heard = columns[clip, voice, margin : margin + patches.shape[1]].astype(jnp.float32)
            found.append((self._seen(patches[clip], keys[2]), self._heard(heard, keys[3])))
        seen, heard = (jnp.concatenate(parts) for parts in zip(*found))
        return {"patches": seen, "columns": heard}

    def _seen(self, patches, key):
        """Mirrored, out of place, of another size, roll and gamma throughout a stretch; noise in every frame."""
        s, keys = self._settings, jax.random.split(key, 7)
        count, frames = patches.shape[:2]

        def often(values):
            return jnp.repeat(values, frames, axis=0)

        place = often(s.misplaced * jax.random.normal(keys[0], (count, 2)))
        size = often(jnp.exp(s.misplaced * jax.random.normal(keys[1], (count,))))
        roll = often(s.misplaced * jax.random.normal(keys[2], (count,)))
        flat = patches.reshape(count * frames, STORED, STORED, 1).astype(jnp.float32) / 255.0
        seen = seen_part(flat, place, size, roll).reshape(count, frames, SIDE, SIDE, 1)
        mirrored = jax.random.bernoulli(keys[3], shape=(count, 1, 1, 1, 1))
        seen = jnp.where(mirrored, seen[:, :, :, ::-1], seen)
        gamma = jnp.exp(s.shade * jax.random.normal(keys[4], (count, 1, 1, 1, 1)))
        noise = s.noise * jax.random.uniform(keys[5], (count, 1, 1, 1, 1)) * jax.random.normal(keys[6], seen.shape)
        return jnp.clip(seen, 1e-3, 1.0) ** gamma + noise

    def _heard(self, columns, key):
        """Of another balance of coefficients throughout a stretch, with noise of its own in every column."""
        s, keys = self._settings, jax.random.split(key, 3)
        count = len(columns)
        gain = jnp.exp(s.balance * jax.random.normal(keys[0], (count, 1, 1, columns.shape[-1])))
        noise = s.hiss * jax.random.uniform(keys[1], (count, 1, 1, 1)) * jax.random.normal(keys[2], columns.shape)
        return columns * gain + noise

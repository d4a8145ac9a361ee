"""What the lip reader learns from: voices with the opening of their mouths, of the corpus and of real people."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path, PurePath

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Int16

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.performance.visemes import MOTION_NAMES
from vasa_jax.corpus.voices.spoken import grid_words
from vasa_jax.data.records import Record
from vasa_jax.data.shards import FORMATS, ShardReader, read_manifest
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.models.lip_reader import PARTS, VoiceMean, heard_mean, heard_so_far, over_spectra, relative_mels
from vasa_jax.models.lip_reading import sound_mels
from vasa_jax.rng import named_key
from vasa_jax.training.processes import ProcessPart
from vasa_jax.training.tasks.lips_articulation import (
    Aligner,
    aligned,
    articulation_features,
    evenly,
    learnt_articulation,
)

FRAMES, APART = 80, 40  # of an example, 3.2 s; between the beginnings of two examples of a clip
SHORTEST = 25  # frames of a clip that is of use
STILL = 1e-3  # deviation of an opening under which a mouth does not speak
EVENNESS = 0.6  # a person is drawn as often as (its examples) ** (1 - EVENNESS) says: one has 80 clips, another one


@dataclasses.dataclass(frozen=True)
class VoicedMouth:
    """One clip: who speaks, what is heard, and how far the mouth is open, about its mean in units of its deviation."""

    person: str
    mels: Float[np.ndarray, "T parts mels"]
    opening: Float[np.ndarray, "T"]
    phonemes: Int[np.ndarray, "all_parts"] | None = None  # class of each part of each frame, where it is known
    sound: Int16[np.ndarray, "N"] | None = None  # 640 T samples


@dataclasses.dataclass(frozen=True)
class Stretches:
    """N examples of FRAMES frames; of shorter clips the last frame is held, and `known` says what is the clip's."""

    heard: Float[np.ndarray, "N T channels"]  # float16, relative mels
    opening: Float[np.ndarray, "N T"]
    known: Bool[np.ndarray, "N T"]
    weight: Float[np.ndarray, "N"]  # how often each is drawn


def corpus_openings(clips: ClipSet, split: str, seed: int) -> Float[np.ndarray, "N T"]:
    """Returns the exact opening of each clip's mouth, a person of its own: inner lips over the eyes' distance."""
    stream = named_key(seed, f"lips heads {split}")
    return np.stack([np.asarray(_openings(stream, number, motion)) for number, motion in enumerate(clips.motion)])


@jax.jit
def _openings(stream, number, motion):
    person = sample_identity(jax.random.fold_in(stream, number))
    tracks = {name: motion[:, i] for i, name in enumerate(MOTION_NAMES)}
    return labels(jax.tree.map(lambda value: jnp.broadcast_to(value, motion.shape[:1]), person), tracks)["mouth"]


def corpus_mouths(clips: ClipSet, openings: Float[np.ndarray, "N T"], mels: int) -> list[VoicedMouth]:
    """Returns every voice of every clip of the corpus; nothing is rendered."""
    frames = openings.shape[1]
    return [
        VoicedMouth(
            f"corpus {number}",
            mels_of(voice[: SAMPLES_PER_FRAME * frames], mels),
            standard(opening),
            phonemes[: PARTS * frames],
            voice[: SAMPLES_PER_FRAME * frames],
        )
        for number, (voices, opening, phonemes) in enumerate(zip(clips.samples, openings, clips.phonemes))
        for voice in voices
    ]


def real_mouths(directory: str, split: str, mels: int, aligner: Aligner | None = None) -> list[VoicedMouth]:
    """Returns the clips of a split of job prepare's shards that have sound and a mouth that moves.

    aligner: finds the phonemes of clips whose files' names spell a sentence of GRID. InputError for a folder without
    shards.
    """
    found = []
    for record in _records(directory, split):
        mouth = np.asarray(record.mouth, np.float64)
        if len(mouth) >= SHORTEST and mouth.std() >= STILL:
            words = grid_words(PurePath(record.source.split(" ")[-1]).stem) if aligner else None
            phonemes = aligned(aligner, record.audio / np.float32(32767), words, len(mouth)) if words else None
            heard = mels_of(record.audio, mels)[: len(mouth)]
            sound = np.pad(record.audio, (0, SAMPLES_PER_FRAME * len(mouth) - len(record.audio)))
            found.append(VoicedMouth(record.person_id, heard, standard(mouth), phonemes, sound))
    return found


def standard(opening: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T"]:
    """Returns an opening about its own mean, in units of its own deviation: mouths and cameras differ."""
    wide = np.asarray(opening, np.float64)
    return ((wide - wide.mean()) / max(wide.std(), STILL)).astype(np.float32)


def half_learnt(clips: list[VoicedMouth], examples: list[VoicedMouth]) -> list[VoicedMouth]:
    """Returns clips, whose phonemes are known, with mouths half their own, half as people of `examples` move theirs.

    InputError where no example's phonemes are known.
    """
    known = [one for one in examples if one.phonemes is not None]
    if not known:
        raise InputError("config.lip_reader.articulation: no clip's name spells a sentence of GRID; leave it off")
    features = [articulation_features(one.phonemes, one.mels) for one in known]
    weights = learnt_articulation([one.person for one in known], features, [one.opening for one in known])
    learnt = [standard(articulation_features(clip.phonemes, clip.mels) @ weights) for clip in clips]
    return [
        dataclasses.replace(clip, opening=standard(clip.opening + opening)) for clip, opening in zip(clips, learnt)
    ]  # fmt: skip


def _records(directory: str, split: str) -> Iterator[Record]:
    manifest = read_manifest(Path(directory))
    for shard in [shard for shard in manifest.shards if shard.split == split]:
        records = ShardReader(manifest, shard, next(name for name in FORMATS if name in shard.files))
        for record in (records[index] for index in range(len(records))):
            if record.audio is not None and record.mouth is not None and record.fps == FPS:
                yield record


def mels_of(sound: Int16[np.ndarray, "N"], mels: int) -> Float[np.ndarray, "T parts mels"]:
    """Returns the log mels of a stored sound at 16 kHz."""
    return sound_mels(sound.astype(np.float32) / 32767.0, mels)


def mean_spectrum(clips: list[VoicedMouth]) -> Float[np.ndarray, "mels"]:
    """Returns the mean log mels of all sound in the clips; zeros where there is none."""
    sums = [heard_mean(clip.mels) for clip in clips]
    mels, parts = (np.sum([np.asarray(part, np.float64) for part in every], 0) for every in zip(*sums))
    return np.asarray(VoiceMean(mels, parts).mels / max(float(parts), 1.0), np.float32)


def stretches(clips: list[VoicedMouth], spectrum: Float[np.ndarray, "mels"]) -> Stretches:
    """Cuts clips into examples. Each is there twice: once over the mean spectrum of its clip, as a file is heard.
    Once over the mean of the sound so far, as a live voice is.

    spectrum: the mean of many voices, from which a voice's own mean starts.
    """
    rows, people = [], []
    for clip in clips:
        so_far = np.asarray(heard_so_far(clip.mels).spectrum(spectrum))
        whole = np.asarray(relative_mels(clip.mels, heard_mean(clip.mels).spectrum(spectrum)))
        for heard in (whole, np.asarray(over_spectra(clip.mels, so_far))):
            for start in range(0, max(len(heard) - APART, 1), APART):
                part = slice(start, start + FRAMES)
                missing = FRAMES - len(heard[part])
                people.append(clip.person)
                rows.append((
                    np.pad(heard[part], ((0, missing), (0, 0)), "edge"),
                    np.pad(clip.opening[part], (0, missing)),
                    np.arange(FRAMES) < FRAMES - missing,
                ))  # fmt: skip
    heard, opening, known = (np.stack(column) for column in zip(*rows))
    weight = evenly(people, EVENNESS)
    return Stretches(heard.astype(np.float16), opening, known, (weight / weight.sum()).astype(np.float32))


class VoicedMouthBatches(StepIterator):
    """Iterates over random examples of several sets; all are in device memory."""

    def __init__(self, sets: list[Stretches], shares: list[float], batch: int, seed: int):
        """`shares` of each batch, which sum to 1, come from each set."""
        counts = [round(batch * share) for share in shares]
        counts[0] += batch - sum(counts)
        self._parts = [
            (ProcessPart(count, len(one.known)), jax.device_put((one.heard, one.opening, one.known, one.weight)))
            for one, count in zip(sets, counts) if count
        ]  # fmt: skip
        self._key = self._parts[0][0].key(named_key(seed, "lips"))
        self._draw = jax.jit(self._examples)

    def batch(self, step: int) -> dict[str, jax.Array]:
        """Returns heard (B, FRAMES, channels), opening and known (B, FRAMES)."""
        return self._draw([arrays for _, arrays in self._parts], step)

    def _examples(self, sets, step):
        key = jax.random.fold_in(self._key, step)
        drawn = []
        for number, ((part, _), (*arrays, weight)) in enumerate(zip(self._parts, sets)):
            which = part.draw_clips(jax.random.fold_in(key, number), weight)
            drawn.append([array[which] for array in arrays])
        heard, opening, known = (jnp.concatenate(arrays) for arrays in zip(*drawn))
        return {"heard": heard.astype(jnp.float32), "opening": opening, "known": known}

"""A pretrained ear teaches the lip reader: what a regression on its features hears in recordings without pictures.

Minutes of measured mouths are few for a network that starts from mels. Features of a network that has heard thousands
of hours tell mouths apart after a ridge regression; its readings of many people's speech are examples for the reader.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Float, Int16

from vasa_jax.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.corpus.voices.spoken import SUFFIXES
from vasa_jax.data.audio_files import read_audio
from vasa_jax.errors import InputError
from vasa_jax.training.tasks.lips_articulation import evenly, moved, ridge
from vasa_jax.training.tasks.lips_data import EVENNESS, SHORTEST, STILL, VoicedMouth, mels_of, standard
from vasa_jax.training.teacher import Teacher, mean_and_deviation

NEAR = 3  # frames on either side that tell an opening
PENALTY = 1.0  # of the ridge regression, over the covariance of a frame's features
PIECE_SECONDS = 10  # of a recording


class TaughtEar:
    """Reads openings from a pretrained network's features."""

    def __init__(self, ear: Teacher, mean: Float[np.ndarray, "width"], deviation: Float[np.ndarray, "width"],
                 weights: Float[np.ndarray, "features"]):  # fmt: skip
        self._ear, self._mean, self._deviation, self._weights = ear, mean, deviation, weights

    @classmethod
    def learnt(cls, ear: Teacher, sets: Sequence[Sequence[VoicedMouth]], shares: Sequence[float]) -> "TaughtEar":
        """Learns from sets of clips that count by `shares`; in each, people count nearly alike."""
        clips = [clip for clips in sets for clip in clips]
        heard = list(ear.each([clip.sound for clip in clips]))
        mean, deviation = mean_and_deviation(heard)
        weights = []
        for share, own in zip(shares, sets):
            each = evenly([clip.person for clip in own], EVENNESS)
            weights += [share * one / len(clip.opening) for one, clip in zip(each / each.sum(), own)]
        features = (ear_features((one - mean) / deviation) for one in heard)
        return cls(ear, mean, deviation, ridge(weights, features, (clip.opening for clip in clips), PENALTY))

    def __call__(self, sounds: Sequence[Int16[np.ndarray, "_"]]) -> Iterator[Float[np.ndarray, "_"]]:
        """Yields the opening at each frame of each sound, int16 (640 T,), in units of a clip's deviation."""
        for heard in self._ear.each(sounds):
            yield ear_features((heard - self._mean) / self._deviation) @ self._weights


def ear_features(heard: Float[np.ndarray, "two_T width"]) -> Float[np.ndarray, "T features"]:
    """Returns 50 Hz features at 25 frames a second, those of NEAR frames on either side beside them, and a one."""
    frames = np.asarray(heard, np.float32).reshape(len(heard) // 2, 2, -1).mean(1)
    around = [moved(frames, by) for by in range(-NEAR, NEAR + 1)]
    return np.concatenate([*around, np.ones((len(frames), 1), np.float32)], 1)


def recordings(folder: str) -> list[tuple[str, Int16[np.ndarray, "_"]]]:
    """Returns the recordings below a folder in pieces of whole frames, at most 10 s, each with its file's name.

    A file that cannot be read is told and left out. InputError for a folder that is none, or has no sound.
    """
    root, pieces = Path(folder), []
    if not root.is_dir():
        raise InputError(f"config.lip_reader.speech: {root} is no folder; give one of recordings")
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            samples = read_audio(path).samples
        except InputError as error:
            logging.warning("%s is left out: %s", path.name, error)
            continue
        for start in range(0, len(samples), PIECE_SECONDS * SAMPLE_RATE):
            piece = samples[start : start + PIECE_SECONDS * SAMPLE_RATE]
            whole = len(piece) // SAMPLES_PER_FRAME
            if whole >= SHORTEST:
                sound = np.clip(piece[: whole * SAMPLES_PER_FRAME] * 32767.0, -32768, 32767).astype(np.int16)
                pieces.append((path.relative_to(root).as_posix(), sound))
    if not pieces:
        raise InputError(f"{root}: no recording of a second or more; known endings are {' '.join(SUFFIXES)}")
    return pieces


def heard_mouths(ear: TaughtEar, pieces: Sequence[tuple[str, Int16[np.ndarray, "_"]]], mels: int) -> list[VoicedMouth]:
    """Returns the pieces with the openings that the ear reads in them; those without speech are left out."""
    openings = ear([sound for _, sound in pieces])
    return [
        VoicedMouth(name, mels_of(sound, mels), standard(opening), sound=sound)
        for (name, sound), opening in zip(pieces, openings) if opening.std() >= STILL
    ]  # fmt: skip

"""How people open their mouths for each phoneme: a linear map of phonemes and loudness, learnt from measured mouths.

The corpus moves mouths by rule. With mouths that are half its own, half what people showed for the same phonemes, a
reader that hears its voices follows people better. GRID's sentences are known: their phonemes can be aligned.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from vasa_jax.conventions import FPS
from vasa_jax.corpus.speech.espeak import Phoneme
from vasa_jax.corpus.speech.phonemes import PHONEME_CLASSES, PHONEME_IDS, SILENCE
from vasa_jax.models.lip_reader import PARTS, log_power

# Phonemes that one mouth speaks; minutes of people tell no more apart.
GROUPS = (
    "sil", "p b m", "f v", "th dh", "t d n l", "s z", "k g ng x", "h", "sh zh ch jh", "r er", "j", "w",
    "iy", "ih", "ey", "eh", "ae", "aa", "ah", "ax", "ao", "ow", "uh", "uw ue", "oe", "ay", "aw", "oy",
)  # fmt: skip
NARROW, WIDE = 0.03, 0.07  # seconds: deviations of the Gaussians about a frame within which phonemes count
QUIETEST, LOUDEST = -8.0, 2.0  # of loudness, in nats about a clip's loud frames
LOUD_FRAME = 90.0  # percentile of them
RIDGE = 1.0
EVENNESS = 0.7  # a person counts as (its clips) ** (1 - EVENNESS)

Aligner = Callable[[np.ndarray, Sequence[str]], tuple[Phoneme, ...] | None]  # sound and words -> times, or no fit

_GROUP_OF = np.array([next(i for i, group in enumerate(GROUPS) if name in group.split()) for name in PHONEME_CLASSES])


def aligned(
    aligner: Aligner, samples: Float[np.ndarray, "N"], words: Sequence[str], frames: int
) -> Int[np.ndarray, "all_parts"] | None:
    """Returns the class of each part of a frame of English sound, (PARTS frames,); None where the words do not fit."""
    phonemes = aligner(samples, words)
    if phonemes is None:
        return None
    classes = np.full(PARTS * frames, SILENCE)
    for phoneme in phonemes:
        first, last = (round(time * FPS * PARTS) for time in (phoneme.start, phoneme.end))
        classes[first:last] = PHONEME_IDS[phoneme.symbol]
    return classes


def articulation_features(
    classes: Int[np.ndarray, "all_parts"], mels: Float[np.ndarray, "T parts mels"]
) -> Float[np.ndarray, "T features"]:
    """Returns which phonemes are spoken about each frame, one frame before and one after it, and how loud it is."""
    spoken = np.eye(len(GROUPS))[_GROUP_OF[classes]]
    narrow, wide = (
        _smooth(spoken, width * FPS * PARTS).reshape(len(mels), PARTS, -1).mean(1) for width in (NARROW, WIDE)
    )
    level = np.asarray(log_power(mels), np.float64)
    level = np.clip(level - np.percentile(level, LOUD_FRAME), QUIETEST, LOUDEST)[:, None]
    columns = (
        narrow, moved(wide, -1), wide, moved(wide, 1),
        level, level * (1.0 - narrow[:, :1]), moved(level, -2), moved(level, 2), np.ones_like(level),
    )  # fmt: skip
    return np.concatenate(columns, 1)


def _smooth(values: Float[np.ndarray, "all_parts groups"], width: float) -> Float[np.ndarray, "all_parts groups"]:
    """Returns values averaged over a Gaussian of this deviation in parts; the first and the last go on at the ends."""
    reach = int(4 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    padded = np.pad(values, ((reach, reach), (0, 0)), "edge")
    return np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T], 1)


def moved(values: Float[np.ndarray, "T C"], frames: int) -> Float[np.ndarray, "T C"]:
    """Returns at each frame the value `frames` after it; the first and the last go on at the ends."""
    return values[np.clip(np.arange(len(values)) + frames, 0, len(values) - 1)]


def learnt_articulation(
    people: Sequence[str],
    features: Sequence[Float[np.ndarray, "_ features"]],
    openings: Sequence[Float[np.ndarray, "_"]],
) -> Float[np.ndarray, "features"]:
    """Returns the weights that map features to openings: ridge regression in which people count nearly alike."""
    return ridge(evenly(people, EVENNESS), features, openings, RIDGE)


def evenly(people: Sequence[str], evenness: float) -> Float[np.ndarray, "clips"]:
    """Returns a weight for each clip of people, so that a person counts as (its clips) ** (1 - evenness)."""
    _, of, counts = np.unique(people, return_inverse=True, return_counts=True)
    return counts[of] ** -evenness


def ridge(
    weights: Iterable[float],
    features: Iterable[Float[np.ndarray, "_ features"]],
    openings: Iterable[Float[np.ndarray, "_"]],
    penalty: float,
) -> Float[np.ndarray, "features"]:
    """Returns the w that makes sum(weight |x w - y|^2) + penalty |w|^2 least (Hoerl and Kennard 1970)."""
    covariance, target = 0.0, 0.0
    for weight, x, y in zip(weights, features, openings):
        covariance, target = covariance + weight * (x.T @ x), target + weight * (x.T @ y)
    return np.linalg.solve(covariance + penalty * np.eye(len(covariance)), target)

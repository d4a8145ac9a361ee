"""How well phonemes are named on voices that were never trained on: spoken frames, visemes and closures of the lips.

Half of a recording can be silence, which is easy: it is left out.
"""

from collections.abc import Sequence

import numpy as np

from vasa_jax.corpus.speech.phonemes import BILABIALS, PHONEME_CLASSES, PHONEME_IDS, PHONEME_VISEMES, SILENCE

_NAMES = sorted({visemes[0] for visemes in PHONEME_VISEMES.values()})
VISEME_OF = np.array([_NAMES.index(PHONEME_VISEMES[name][0]) for name in PHONEME_CLASSES])
_LIPS = np.array([PHONEME_IDS[name] for name in sorted(BILABIALS)])

FIGURES = ("spoken", "viseme", "closures")


def counts(guess: np.ndarray, truth: np.ndarray) -> dict[str, tuple[int, int]]:
    """Returns (right, of how many) 20 ms frames of one recording, for each of FIGURES.

    guess, truth: classes (T,). spoken: the phoneme of frames with speech; viseme: its first viseme; closures: frames
    of m, b, p that are named one of them.
    """
    spoken, lips = truth != SILENCE, np.isin(truth, _LIPS)
    return {
        "spoken": (int((guess == truth)[spoken].sum()), int(spoken.sum())),
        "viseme": (int((VISEME_OF[guess] == VISEME_OF[truth])[spoken].sum()), int(spoken.sum())),
        "closures": (int(np.isin(guess, _LIPS)[lips].sum()), int(lips.sum())),
    }


def shares(parts: Sequence[dict[str, tuple[int, int]]]) -> dict[str, float]:
    """Returns the share that is right over all recordings, for each of FIGURES that has a frame."""
    found = {}
    for name in FIGURES:
        right, total = (sum(part[name][place] for part in parts) for place in (0, 1))
        if total:
            found[name] = right / total
    return found


def shares_with_error(parts: Sequence[dict[str, tuple[int, int]]]) -> dict[str, dict[str, float]]:
    """Returns the same as {figure: {mean, error}}: standard errors over recordings, by the delete-one jackknife.

    A single recording has no error.
    """
    whole, found = shares(parts), {}
    for name, value in whole.items():
        right, total = (np.array([part[name][place] for part in parts], float) for place in (0, 1))
        rest = total.sum() - total
        found[name] = {"mean": value}
        if len(parts) > 1 and (rest > 0).all():
            left = (right.sum() - right) / rest
            found[name]["error"] = float(np.sqrt((len(parts) - 1) / len(parts) * ((left - left.mean()) ** 2).sum()))
    return found

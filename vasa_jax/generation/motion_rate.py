"""Motion at other frame rates, and motion that ends where it begins."""

import numpy as np

from vasa_jax.conventions import FPS, rotation_matrices

SEAM = 0.6  # seconds over which the end goes over into the beginning
SEARCHED = 2.0  # seconds of later beginnings, among which the one is taken whose seam moves least


def needed(seconds: float) -> int:
    """Returns how many frames of motion a loop of so many seconds is cut from."""
    return round(FPS * seconds) + _frames(SEAM) + _frames(SEARCHED)


def looped(motion: np.ndarray, seconds: float) -> np.ndarray:
    """Returns a loop, float32 (round(25 seconds), 137), of a longer motion (`needed(seconds)`, 137).

    The frames after the end are those before the beginning: over the seam the first go over into the second. Among the
    beginnings that are searched the one is taken whose two sides are nearest, each number over its own deviation.
    """
    count = max(round(FPS * seconds), 1)
    seam = min(_frames(SEAM), count)
    scale = motion / np.maximum(motion.std(0), 1e-6)
    starts = range(len(motion) - count - seam + 1)
    apart = [((scale[s : s + seam] - scale[s + count : s + count + seam]) ** 2).mean() for s in starts]
    start = int(np.argmin(apart))
    result = motion[start : start + count].astype(np.float64)
    way = ((np.arange(seam) + 0.5) / seam)[:, None]
    share = way * way * (3 - 2 * way)
    result[:seam] = share * result[:seam] + (1 - share) * motion[start + count : start + count + seam]
    return _with_rotations(result)


def at_rate(motion: np.ndarray, source: float, fps: float, loop: bool = False) -> np.ndarray:
    """Returns a motion (T, 137) at another frame rate, linear between its frames; rotations stay rotations.

    It has round(T fps / source) frames. After the last frame a loop goes on with the first, in whole turns.
    """
    count = max(round(len(motion) * fps / source), 1)
    if fps == source or len(motion) == 1:
        return motion
    times = np.arange(count) * (len(motion) / count if loop else source / fps)
    known = np.concatenate([motion, motion[:1]]) if loop else motion
    moved = np.stack([np.interp(times, np.arange(len(known)), column) for column in known.T], 1)
    return _with_rotations(moved)


def _with_rotations(moved: np.ndarray) -> np.ndarray:
    matrices = rotation_matrices(moved[:, :6])
    return np.concatenate([matrices[..., 0], matrices[..., 1], moved[:, 6:]], -1).astype(np.float32)


def _frames(seconds: float) -> int:
    return round(FPS * seconds)

"""A last batch that is as long as the others: a compiled function takes one length, and compiles anew for another."""

from collections.abc import Callable

import jax
import numpy as np


def filled_up(part: np.ndarray, size: int) -> np.ndarray:
    """Returns rows (N, ...), 0 < N <= size, as (size, ...): the last one is repeated."""
    return np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])


def in_batches(compute: Callable[..., np.ndarray | jax.Array], size: int, *rows: np.ndarray) -> np.ndarray:
    """Returns what `compute` gives for rows (N, ...) each, N > 0, as (N, ...), when it takes `size` of each at once."""
    count, parts = len(rows[0]), []
    for start in range(0, count, size):
        part = [filled_up(of[start : start + size], size) for of in rows]
        parts.append(np.asarray(compute(*part))[: count - start])
    return np.concatenate(parts)

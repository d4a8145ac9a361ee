"""Photo heads in files: `heads-00000.npz` and on, each with the arrays of a few heads stacked, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vasa_jax.corpus.photos.build import PhotoHead
from vasa_jax.errors import InputError
from vasa_jax.files import read_arrays, replacing

HEADS_PER_FILE = 16
PATTERN = "heads-*.npz"
_REMEDY = "make it anew with configs/fit_photos.py"


def write_heads(folder: str | Path, number: int, heads: Sequence[PhotoHead], names: Sequence[str]) -> Path:
    """Writes file `number` of a folder, whole or not at all, and returns its path; `names` tell the photographs."""
    path = Path(folder) / f"heads-{number:05d}.npz"
    arrays = {name: np.stack([head[name] for head in heads]) for name in heads[0]}
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, photograph=np.array(names), **arrays)
    return path


def read_heads(folder: str | Path) -> dict[str, np.ndarray]:
    """Returns every array of all heads of a folder, stacked, and `photograph`, their names.

    InputError for a folder without heads, and for a file that is damaged or has other arrays than the first.
    """
    paths = sorted(Path(folder).glob(PATTERN))
    if not paths:
        raise InputError(f"{folder}: holds no photo heads ({PATTERN}); make them with configs/fit_photos.py")
    parts = []
    for path in paths:
        parts.append(read_arrays(path, _REMEDY))
        counts = {x.shape[:1] for x in parts[-1].values()}  # () of an array that is one number
        if len(counts) != 1 or counts == {()}:
            raise InputError(f"{path}: its arrays are not of one number of heads; {_REMEDY}")
        if {n: x.shape[1:] for n, x in parts[0].items()} != {n: x.shape[1:] for n, x in parts[-1].items()}:
            raise InputError(f"{path}: holds other arrays than {paths[0].name}; make the folder anew")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def resized(pictures: np.ndarray, size: int) -> np.ndarray:
    """Returns square pictures, uint8 (N, m, m, 3), of `size` pixels a side."""
    import cv2

    if pictures.shape[1] == size:
        return pictures
    return np.stack([cv2.resize(x, (size, size), interpolation=cv2.INTER_AREA) for x in pictures])

"""Scores of a video against its sound, by whichever networks are there: SyncNet, the sync probe, CAPP."""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.conventions import SAMPLES_PER_FRAME
from vasa_jax.evaluation.face_readings import Measurements
from vasa_jax.evaluation.metrics import Metrics
from vasa_jax.evaluation.protocol import Instruments
from vasa_jax.evaluation.sync_probe import mouth_patches, sound_columns


def sound_scores(
    frames: UInt8[np.ndarray, "T n n 3"],
    reading: Measurements,
    samples: Float[np.ndarray, "samples"],
    points: tuple[str, ...],
    tools: Instruments,
    faces: Callable[[], Iterable[np.ndarray]],
) -> Metrics:
    """Returns `capp`, `sync_...` of SyncNet and `probe_sync_...`; left out is what has no network or too short a clip.

    points: names of the reading's landmarks. faces: gives what SyncNet looks at (`sync.face_crops`) and is called only
    where that is there.
    """
    found: Metrics = {}
    if tools.capp:
        found["capp"] = tools.capp.score(reading.pose, samples)
    if tools.sync and (figures := tools.sync.measure(faces(), samples)):
        found |= {f"sync_{name}": value for name, value in figures._asdict().items()}
    if tools.sync_probe:
        patches = mouth_patches(frames, reading, points)
        columns = sound_columns(samples, min(len(patches), len(samples) // SAMPLES_PER_FRAME))
        if figures := tools.sync_probe.measure(patches, columns):
            found |= {f"probe_sync_{name}": value for name, value in figures._asdict().items()}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}

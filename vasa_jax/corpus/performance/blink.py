"""One blink: how the lids close and open again."""

import numpy as np

from vasa_jax.conventions import FPS


def draw_blink(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draws (closing, held, opening) seconds, 250 to 370 ms in all, and depth: 1, of one in ten 0.55 to 0.85."""
    closing, held, opening = rng.uniform(0.08, 0.11), rng.uniform(0.042, 0.07), rng.uniform(0.13, 0.19)
    depth = rng.uniform(0.55, 0.85) if rng.random() < 0.1 else 1.0
    return closing, held, opening, depth


def blink_closure(frames: np.ndarray, time: float, closing: float, held: float, opening: float, depth: float):
    """Returns how far the lids are shut by a blink, [0, 1], at the middles of frames (T,); they first are at `time`
    seconds."""
    phase = (frames + 0.5) / FPS - time
    shut = np.clip(np.minimum((phase + closing) / closing, (held + opening - phase) / opening), 0.0, 1.0)
    return depth * shut * shut * (3 - 2 * shut)

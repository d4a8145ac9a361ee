"""The invisible mark of a whole picture of any size and shape, which stays the same while a part of it moves."""

import jax.numpy as jnp
import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.generation.watermark import SMALLEST, Payload, embed, pattern


def picture_mark(picture: np.ndarray, payload: Payload) -> np.ndarray:
    """Returns what the mark adds to a picture, uint8 (H, W, 3): levels of 255, float32 (H, W).

    InputError for a picture that is too small.
    """
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST:
        raise InputError(
            f"picture: {width} x {height} pixels are too small for the mark; enlarge it to {SMALLEST} a side, or leave "
            "paste out"
        )
    levels = jnp.asarray(picture[None], jnp.float32)
    return np.asarray((embed(levels, jnp.asarray(pattern(payload, height, width))) - levels)[0].mean(-1))

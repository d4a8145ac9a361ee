"""The invisible mark of a whole picture of any size and shape, which stays the same while a part of it moves."""

import jax.numpy as jnp
import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.generation.watermark import SMALLEST, Payload, embed, pattern

_SIDE = 256  # pixels at which a square's mark is drawn: seven for its finest wave


def picture_mark(picture: np.ndarray, payload: Payload) -> np.ndarray:
    """Returns what the mark adds to a picture, uint8 (H, W, 3): levels of 255, float32 (H, W).

    The mark's square has the picture's shorter side, starts at the upper left, and repeats along the longer side: as
    whole waves fit into it, they go on without a step, and `mark_search` reads all of them as one.
    InputError for a picture that is too small.
    """
    import cv2

    height, width = picture.shape[:2]
    side = min(height, width)
    if side < SMALLEST:
        raise InputError(
            f"picture: {width} x {height} pixels are too small for the mark; enlarge it to {SMALLEST} a side, or leave "
            "paste out"
        )
    waves, result = jnp.asarray(pattern(payload, _SIDE)), np.empty((height, width), np.float32)
    for start in range(0, max(height, width), side):
        part = picture[start : start + side] if height > width else picture[:, start : start + side]
        whole = cv2.copyMakeBorder(part, 0, side - part.shape[0], 0, side - part.shape[1], cv2.BORDER_REPLICATE)
        small = cv2.resize(whole.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        added = np.asarray(embed(jnp.asarray(small)[None], waves)[0]) - small
        added = cv2.resize(added.mean(-1), (side, side), interpolation=cv2.INTER_CUBIC)
        target = result[start : start + side] if height > width else result[:, start : start + side]
        target[:] = added[: target.shape[0], : target.shape[1]]
    return result

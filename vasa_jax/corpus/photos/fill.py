"""Colours for what a photograph does not show: behind the person, and under the matte's edge."""

from __future__ import annotations

import cv2
import numpy as np

from vasa_jax.corpus.photos.framing import CANVAS, canvas_pixels, on_photograph

BACKGROUND = 256  # pixels of the background picture's side
_HALF = CANVAS // 2


def filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills the holes of (h, w, c) from what surrounds them: averages down a pyramid, spread up again; float32."""
    weight = known.astype(np.float32)[..., None]
    levels = [(values.astype(np.float32) * weight, weight)]
    while min(levels[-1][1].shape[:2]) > 1:
        value, weight = levels[-1]
        size = max(1, value.shape[1] // 2), max(1, value.shape[0] // 2)
        value, weight = (
            cv2.resize(x, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1) for x in (value, weight)
        )
        levels.append((value, weight))
    result = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)
    for value, weight in reversed(levels[:-1]):
        up = cv2.resize(result, value.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(value.shape)
        share = np.minimum(4.0 * weight, 1.0)
        own = share * value / np.maximum(weight, 1e-6) + (1 - share) * up
        result = np.where(weight > 0, own, up)
    return result


def own_colours(texture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Returns the canvas's colours, float32; those under a thin matte are half the head's from further in."""
    small, thin = (cv2.resize(x, (_HALF, _HALF), interpolation=cv2.INTER_AREA) for x in (texture, alpha))
    inner = filled(small, cv2.erode((thin > 0.9).astype(np.uint8), np.ones((3, 3))) > 0)
    inner = cv2.resize(inner, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)
    share = np.clip((alpha - 0.5) / 0.45, 0.0, 1.0)[..., None]
    return share * texture + (1 - share) * (0.5 * texture + 0.5 * inner)


def background(texture: np.ndarray, alpha: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Returns the square without its person, float32 (BACKGROUND, BACKGROUND, 3).

    What was behind the person, or lies beyond the photograph, gets the nearest background colour, softer further off.
    """
    texture, alpha = (cv2.resize(x, (_HALF, _HALF), interpolation=cv2.INTER_AREA) for x in (texture, alpha))
    known = (cv2.dilate(alpha, np.ones((11, 11))) < 0.05) & on_photograph(bounds, _HALF)
    whole = texture.astype(np.float32)
    if known.any():
        hole = (~known).astype(np.uint8)
        distance, labels = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        table = np.zeros((labels.max() + 1, 3), np.float32)
        table[labels[known]] = texture[known]
        near, wide = (cv2.GaussianBlur(table[labels], (0, 0), sigma) for sigma in (4, 14))
        far = np.clip(distance / 40.0, 0, 1)[..., None]
        inside = np.clip(distance / 4.0, 0, 1)[..., None]
        whole = inside * ((1 - far) * near + far * wide) + (1 - inside) * whole
    axis = (np.arange(BACKGROUND) * 2.0 + 1.0) / BACKGROUND - 1.0
    pixels = canvas_pixels(np.stack(np.meshgrid(axis, axis), -1), _HALF)
    return cv2.remap(whole, pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

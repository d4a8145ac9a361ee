"""A portrait made ready to speak: its latents and the canvas behind it."""

import dataclasses
import functools

import jax
import numpy as np

from vasa_jax.generation.watermark import Payload
from vasa_jax.models.face import Latents


@dataclasses.dataclass(frozen=True)
class Avatar:
    """What is computed once per portrait (VASA-1 section 3.3)."""

    latents: Latents  # batch of one: V_app, z_id, and the portrait's own pose and dynamics
    canvas: jax.Array  # (n, n, 3) in [0, 1]: the background, filled in where the head was
    portrait: np.ndarray  # uint8 (n, n, 3), as cropped
    payload: Payload | None  # of the mark in every frame; None = unmarked
    pattern: jax.Array  # (n, n) of that mark; zeros = unmarked

    @functools.cached_property
    def motion(self) -> np.ndarray:
        """The portrait's own pose and dynamics, float32 (137,)."""
        return np.concatenate([np.asarray(self.latents.pose)[0], np.asarray(self.latents.dynamics)[0]]).astype(
            np.float32
        )


def fill_behind_head(portrait: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """The portrait's background continued behind the head.

    portrait: uint8 (n, n, 3); matte: float (n, n), 1 = head. The head's soft rim is replaced too, so that no ghost of
    it stays when the head moves away.
    """
    import cv2

    size = portrait.shape[0]
    rim = max(size // 32, 2)
    hole = cv2.dilate((matte > 0.1).astype(np.uint8), np.ones((2 * rim + 1, 2 * rim + 1), np.uint8))
    if hole.all():
        # Nothing of the background is visible: its mean colour is as good a guess as any.
        return np.full_like(portrait, portrait.reshape(-1, 3).mean(0))
    filled = cv2.inpaint(portrait, hole, 3, cv2.INPAINT_TELEA)
    # Inpainting draws streaks into large holes; away from the rim only their colour matters.
    soft = cv2.GaussianBlur(filled, (0, 0), size / 24)
    return np.where(hole[..., None] > 0, soft, filled)

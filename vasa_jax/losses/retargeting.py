"""Losses of stitching and retargeting (LivePortrait, Guo et al. 2024, section 3.3): what must stay, what must open.

Openness is that of `generation.landmark_crop.openness_of`: height over width of the eyes and of the inner lips.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from vasa_jax.losses.images import masked_mean
from vasa_jax.models.geometry import pixel_grid
from vasa_jax.models.keypoint_reader import EYE, GUIDES, MOUTH

# Upper and lower middle, left and right end of what opens.
OPENINGS = (
    ("eye_left_2", "eye_left_6", "eye_left_0", "eye_left_4"),
    ("eye_right_2", "eye_right_6", "eye_right_0", "eye_right_4"),
    ("inner_lip_2", "inner_lip_6", "outer_lip_0", "outer_lip_6"),
)
WIDTHS = (1.0, 1.0, 0.8)  # of an opening over the distance of its ends: the inner lips' corners lie within the outer's
LEAST_WIDTH = 0.01  # in the image: an eye that is seen from the side has none
LEAST_KEYPOINTS = 1 + max(GUIDES.index(name) for names in OPENINGS for name in names)


def openness(points: Float[Array, "B K d"]) -> Float[Array, "B 3"]:
    """Returns how open left eye, right eye and lips of GUIDES in the image are, or of keypoints that follow them.

    The height stands on the line between the ends. It has a sign: a distance would not say in which way lids that
    touch have to go.
    """
    ratios = []
    for names, width in zip(OPENINGS, WIDTHS):
        upper, lower, left, right = (points[:, GUIDES.index(name), :2] for name in names)
        across, down = right - left, lower - upper
        height = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
        ratios.append(height / (width * jnp.maximum(jnp.square(across).sum(-1), LEAST_WIDTH**2)))
    return jnp.stack(ratios, -1)


def change(
    image: Float[Array, "B h w 3"], still: Float[Array, "B h w 3"], kept: Float[Array, "B h w"] | Bool[Array, "B h w"]
) -> Float[Array, ""]:
    """Computes the mean absolute difference where an image is to be kept."""
    return masked_mean(jnp.abs(image - still).mean(-1), kept.astype(jnp.float32))


def beside_eyes(points: Float[Array, "B K d"], size: Float[Array, "B"], side: int) -> Float[Array, "B n n"]:
    """Returns 1 outside of the eyes and brows of GUIDES in the image. size: the head's scale; side: pixels."""
    return _outside([_middle(points, f"eye_{eye}") for eye in ("left", "right")], EYE * size, side)


def beside_mouth(points: Float[Array, "B K d"], size: Float[Array, "B"], side: int) -> Float[Array, "B n n"]:
    """Returns 1 outside of the lips and the chin, which opening lips take along."""
    mouth, chin = _middle(points, "lip"), _middle(points, "jaw")
    return _outside([(mouth + chin) / 2], MOUTH * size + jnp.linalg.norm(mouth - chin, axis=-1) / 2, side)


def _middle(points: Float[Array, "B K d"], part: str) -> Float[Array, "B 2"]:
    """The mean place of the guides of a part."""
    which = [i for i, name in enumerate(GUIDES[: points.shape[1]]) if part in name]
    return points[:, np.array(which), :2].mean(1)


def _outside(centres: list[Float[Array, "B 2"]], radius: Float[Array, "B"], side: int) -> Float[Array, "B n n"]:
    grid = pixel_grid(side, side)
    inside = [jnp.linalg.norm(grid - centre[:, None, None], axis=-1) < radius[:, None, None] for centre in centres]
    return 1.0 - jnp.stack(inside).any(0)

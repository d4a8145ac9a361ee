"""The keypoint codec at a size for tests, with random parameters."""

import functools

import jax
import numpy as np
from random_params import random_params

from vasa_jax.losses.retargeting import LEAST_KEYPOINTS
from vasa_jax.models.keypoint_face import exported, init_keypoint_face
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.weights.safetensors_io import save_params

FIELDS = {
    "codec": "keypoint",
    "encoder": {
        "image_size": 64,
        "input_size": 32,
        "appearance": {"width": 8, "max_width": 32, "channels": 4, "depth": 8, "blocks_3d": 1},
        "motion": {"keypoints": 5, "depths": [1, 1, 1, 1], "widths": [8, 8, 12, 16]},
    },
    "decoder": {
        "keypoints": 5,
        "warp": {"width": 16, "field": {"compress": 2, "width": 4, "max_width": 16, "blocks": 2}},
        "generator": {"width": 16, "blocks": 1, "out_width": 8},
    },
}
# The same with LivePortrait's number of keypoints.
MANY = FIELDS | {
    "encoder": FIELDS["encoder"] | {"motion": FIELDS["encoder"]["motion"] | {"keypoints": 21}},
    "decoder": FIELDS["decoder"] | {"keypoints": 21},
}
# One whose keypoints follow landmarks, those of eyes and lips among them.
_TINY = FACE_VARIANTS["keypoint_tiny"]
GUIDED = _TINY | {
    "encoder": _TINY["encoder"] | {"motion": _TINY["encoder"]["motion"] | {"keypoints": LEAST_KEYPOINTS}},
    "decoder": _TINY["decoder"] | {"keypoints": LEAST_KEYPOINTS},
}


def save_guided(folder):
    """Saves face.safetensors of GUIDED with random parameters, as a training exports it."""
    variables = random_params(lambda key: init_keypoint_face(key, GUIDED))
    variables["batch_stats"] = jax.tree.map(lambda x: np.float32(np.abs(x) + 0.5), variables["batch_stats"])
    metadata = {"fields": GUIDED, "recipe": "counterfactual", "framing": "corpus"}
    save_params(folder / "face.safetensors", exported(variables), metadata, np.float32)


@functools.cache
def random_variables():
    """{"params", "batch_stats"}, each {"encoder", "decoder"}, drawn on the host."""
    variables = random_params(lambda key: init_keypoint_face(key, FIELDS))
    # Variances are positive. Kernels are below unit gain: else pictures are all contrast, which multiplies rounding.
    return {
        "params": jax.tree.map(lambda x: np.float32(0.7 * x if np.ndim(x) > 1 else x), variables["params"]),
        "batch_stats": jax.tree.map(lambda x: np.float32(np.abs(x) + 0.5), variables["batch_stats"]),
    }

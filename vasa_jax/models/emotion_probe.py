"""The emotion probe: a small network that reads an emotion off the face that the face probe has found.

A network of ours. VASA-1 reports no such figure.

Like the face probe it is trained on true renders only (`vasa_jax.training.tasks.emotion`), of heads that speak. It
shares no weights and no identities with the codec, the motion model or any loss network.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.conventions import EMOTIONS
from vasa_jax.models.face_probe import PatchEncoder, patch_grid
from vasa_jax.models.geometry import bilinear_sample
from vasa_jax.models.layers import Dtype

PATCH = (0.40, 48)  # half side in canonical units, side in pixels: from above the brows to the chin
# The patch sits on the mean of these landmarks: corners of the eyes, which a blink does not move, and the mouth.
CENTRE = (
    "eye_left_0", "eye_left_4", "eye_right_0", "eye_right_4",
    "outer_lip_0", "outer_lip_3", "outer_lip_6", "outer_lip_9",
)  # fmt: skip


class EmotionProbe(nn.Module):
    """Maps faces, cut in the head's scale and roll, to logits of the shares of EMOTIONS."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, patch: Float[Array, "B p p 3"]) -> Float[Array, "B 8"]:
        x = PatchEncoder((24, 32, 48, 64), 16, dtype=self.dtype, name="patch")(patch.astype(self.dtype))
        x = nn.silu(nn.Dense(64, name="hidden")(x))
        return nn.Dense(len(EMOTIONS), name="emotion")(x)


def face_patch(
    image: Float[Array, "B n n 3"], centre: Float[Array, "B 2"], pose: Float[Array, "B 9"]
) -> Float[Array, "B p p 3"]:
    """Cuts the square that the network sees, in [-1, 1], from images in [0, 1]."""
    return bilinear_sample(image * 2.0 - 1.0, patch_grid(centre, pose, *PATCH))

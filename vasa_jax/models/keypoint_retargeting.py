"""The small networks that adjust keypoints (LivePortrait, section 3.3): stitching, and retargeting of lips and eyes."""

import flax.linen as nn
from jaxtyping import Array, Float

# Widths of the hidden layers for 21 keypoints.
STITCHING_WIDTHS = (128, 128, 64)
LIP_WIDTHS = (128, 128, 64)
EYE_WIDTHS = (256, 256, 128, 128, 64)


class KeypointMLP(nn.Module):
    """Applies linear layers with ReLUs between them, float32; the activations count in the layers' numbers."""

    widths: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: Float[Array, "B inputs"]) -> Float[Array, "B outputs"]:
        for i, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, name=f"mlp_{2 * i}")(x))
        return nn.Dense(self.outputs, name=f"mlp_{2 * len(self.widths)}")(x)

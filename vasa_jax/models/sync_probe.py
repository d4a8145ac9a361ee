"""The sync probe: do mouth and sound go together? A small network of ours, for who lacks the published SyncNet.

The idea is SyncNet's (Chung and Zisserman 2016): two streams whose vectors are near each other where both were recorded
together. The layers are ours. Each frame is read once, alone: a grey patch around the mouth, or four columns of MFCC.
Two convolutions over time then make a vector of every nine frames. So a whole video costs what its frames cost.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vasa_jax.models.face_probe import PatchEncoder
from vasa_jax.models.geometry import bilinear_sample

KERNEL = 5  # frames of each of the two convolutions over time
WINDOW = 2 * KERNEL - 1  # frames that a vector sees
COLUMNS, COEFFICIENTS = 4, 13  # MFCC of a frame: one every 10 ms
STORED, SIDE = 48, 32  # pixels of a patch as it is cut from a frame, and of what the network sees of it
FIRST_SCALE = 10.0  # of the cosines in the loss, learned as its logarithm (CLIP, arXiv 2103.00020)
CONTRAST_FLOOR = 0.05  # of the deviation of grey values, that a flat patch is divided by


class WindowEncoder(nn.Module):
    """Turns what is known of each frame into a vector of unit length for each window of nine frames."""

    width: int
    code: int

    @nn.compact
    def __call__(self, x_BTF: Float[Array, "B T features"]) -> Float[Array, "B W code"]:
        x = nn.silu(nn.Dense(self.width, name="input")(x_BTF))
        for i in range(2):
            x = nn.silu(nn.Conv(self.width, (KERNEL,), padding="VALID", name=f"time{i}")(x))
        x = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="layer_norm")(x)
        x = nn.Dense(self.code, name="output")(x)
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


class SyncProbe(nn.Module):
    """Both streams, called by name: `apply(..., method="lip")`, `method="aud"`; and the scale of the loss."""

    widths: tuple[int, ...] = (8, 16, 24, 32)
    narrow: int = 16
    width: int = 64
    code: int = 32

    def setup(self):
        self.patch = PatchEncoder(self.widths, self.narrow)
        self.lips = WindowEncoder(self.width, self.code)
        self.sound = WindowEncoder(self.width, self.code)
        self.log_scale = self.param("log_scale", nn.initializers.constant(jnp.log(FIRST_SCALE)), (1,), jnp.float32)

    def lip(self, patches: Float[Array, "B T p p 1"]) -> Float[Array, "B W code"]:
        """Embeds the windows of grey patches in [0, 1], p = SIDE; each patch is brought to one brightness."""
        batch, frames = patches.shape[:2]
        x = patches.reshape(batch * frames, *patches.shape[2:])
        x = x - x.mean((1, 2, 3), keepdims=True)
        x = x / (jnp.sqrt(jnp.square(x).mean((1, 2, 3), keepdims=True)) + CONTRAST_FLOOR)
        return self.lips(self.patch(x).reshape(batch, frames, -1))

    def aud(self, columns: Float[Array, "B T columns coefficients"]) -> Float[Array, "B W code"]:
        """Embeds the windows of sound, COLUMNS columns of COEFFICIENTS for each frame."""
        return self.sound(columns.reshape(*columns.shape[:2], -1))

    def __call__(self, patches: Array, columns: Array) -> tuple[Array, Array, Array]:
        """Returns both embeddings and the scale of the loss."""
        return self.lip(patches), self.aud(columns), jnp.exp(jnp.minimum(self.log_scale[0], jnp.log(100.0)))


def seen_part(
    patches: Float[Array, "N s s 1"], place: Float[Array, "N 2"], size: Float[Array, "N"], roll: Float[Array, "N"]
) -> Float[Array, "N p p 1"]:
    """Cuts what the network sees out of stored patches.

    place: of the middle, in halves of the stored side; size: 1 = as many stored pixels as are seen; roll: radians.
    """
    axis = ((2.0 * jnp.arange(SIDE) + 1.0) / SIDE - 1.0) * SIDE / STORED
    u, v = axis[None, None, :], axis[None, :, None]
    cos, sin = (size * jnp.cos(roll))[:, None, None], (size * jnp.sin(roll))[:, None, None]
    x, y = place[:, 0, None, None] + cos * u - sin * v, place[:, 1, None, None] + sin * u + cos * v
    return bilinear_sample(patches, jnp.stack([x, y], -1))


def window_contrast(
    lips: Float[Array, "B W code"], sounds: Float[Array, "B W code"], scale: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns (InfoNCE over the windows of each clip, how often the own window scores best), means of both directions.

    Only windows of the same clip are rivals: who speaks, and how the sound was recorded, can tell nothing.
    """
    scores = jnp.einsum("bie,bje->bij", lips, sounds)
    own = jnp.arange(scores.shape[1])

    def one_way(scores):
        logs = jax.nn.log_softmax(scale * scores, axis=-1)
        return -logs[:, own, own].mean(), (scores.argmax(-1) == own).mean()

    to_sound, to_lips = one_way(scores), one_way(scores.transpose(0, 2, 1))
    return (to_sound[0] + to_lips[0]) / 2.0, (to_sound[1] + to_lips[1]) / 2.0

"""CAPP, contrastive audio and pose pretraining (VASA-1 section 4): do this sound and this head motion belong together?

Two encoders of three seconds each, one of head rotation and one of speech, give vectors of unit length whose product is
the score. VASA-1 publishes neither weights nor layers beyond "six transformer layers" and "Wav2Vec2".

Ours keeps time: a vector is `channels` numbers for each frame, side by side, where CLIP would average over time. So the
score is a correlation of what both say about every frame, and a shift of one frame is felt. Only rotation is read:
place and size of a head depend on how a video is cropped.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vasa_jax.models.transformer import EncoderLayer

WINDOW = 75  # frames: 3 s
DEGREES = 10.0  # that bring angles to order one; differences between frames enter in degrees
FIRST_SCALE = 1 / 0.07  # of the scores in the loss, learned as its logarithm (CLIP, arXiv 2103.00020)


class FrameEncoder(nn.Module):
    """A transformer over the frames of a window, and `channels` numbers for each of them."""

    width: int
    layers: int
    heads: int
    ff_width: int
    channels: int

    @nn.compact
    def __call__(self, x_BTF: Float[Array, "B T features"]) -> Float[Array, "B code"]:
        x = nn.Dense(self.width, name="input")(x_BTF)
        x = x + self.param("positions", nn.initializers.normal(0.02), (x.shape[1], self.width), jnp.float32)
        for i in range(self.layers):
            x = EncoderLayer(self.width, self.heads, self.ff_width, name=f"layers_{i}")(x)
        x = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="layer_norm")(x)
        x = nn.Dense(self.channels, name="output")(x)
        x = x.reshape(x.shape[0], -1)
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


class CAPP(nn.Module):
    """Both encoders and the scale of the loss. `sound_layers` come on top of an audio encoder's features."""

    width: int = 512
    layers: int = 6
    sound_layers: int = 2
    heads: int = 8
    ff_width: int = 2048
    channels: int = 8

    def setup(self):
        shape = (self.heads, self.ff_width, self.channels)
        self.pose = FrameEncoder(self.width, self.layers, *shape)
        self.sound = FrameEncoder(self.width, self.sound_layers, *shape)
        self.log_scale = self.param("log_scale", nn.initializers.constant(jnp.log(FIRST_SCALE)), (1,), jnp.float32)

    def embed_pose(self, angles: Float[Array, "B 75 3"]) -> Float[Array, "B code"]:
        """Embeds yaw, pitch, roll in degrees; how the head is turned on the whole does not count."""
        return self.pose(pose_features(angles))

    def embed_sound(self, features: Float[Array, "B 75 C"]) -> Float[Array, "B code"]:
        """Embeds an audio encoder's features at 25 Hz."""
        return self.sound(features)

    def __call__(
        self, angles: Float[Array, "B 75 3"], features: Float[Array, "B 75 C"]
    ) -> tuple[Float[Array, "B code"], Float[Array, "B code"], Float[Array, ""]]:
        """Returns both embeddings, and the scale of the loss."""
        scale = jnp.exp(jnp.minimum(self.log_scale[0], jnp.log(100.0)))
        return self.embed_pose(angles), self.embed_sound(features), scale


def pose_features(angles: Float[Array, "B T 3"]) -> Float[Array, "B T 6"]:
    """Returns angles about their mean over the window, and differences to the frame before."""
    angles = angles.astype(jnp.float32)
    change = jnp.diff(angles, axis=1, prepend=angles[:, :1])
    return jnp.concatenate([(angles - angles.mean(1, keepdims=True)) / DEGREES, change], -1)


def contrast(
    pose_BE: Float[Array, "b e"],
    sound_BE: Float[Array, "b e"],
    scale: Float[Array, ""],
    other_pose_NE: Float[Array, "n e"],
    other_sound_NE: Float[Array, "n e"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns (symmetric InfoNCE of B pairs, how often the own partner scores best, mean over both directions).

    The others are further negatives of every pair: windows of the same clips at other times.
    """

    def one_way(from_BE, to_BE, more_NE):
        scores = from_BE @ jnp.concatenate([to_BE, more_NE]).T
        own = jnp.arange(len(from_BE))
        loss = -jnp.take_along_axis(jax.nn.log_softmax(scale * scores), own[:, None], axis=1).mean()
        return loss, (scores.argmax(-1) == own).mean()

    to_sound, to_pose = one_way(pose_BE, sound_BE, other_sound_NE), one_way(sound_BE, pose_BE, other_pose_NE)
    return (to_sound[0] + to_pose[0]) / 2.0, (to_sound[1] + to_pose[1]) / 2.0

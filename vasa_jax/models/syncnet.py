"""SyncNet (Chung and Zisserman 2016, "Out of time: automated lip sync in the wild"): do mouth and sound go together?

The published network. Five frames of a face and the 0.2 s of sound beside them become two vectors of 1024 numbers. They
are near each other where both were recorded together. Every convolution has its batch norm folded in
(weights/published_networks.py). The first convolution of the face spans all five frames; what follows is flat, so that
the whole network is one of pictures with 15 channels.
"""

from flax import linen as nn
from jaxtyping import Array, Float

FRAMES, SIDE = 5, 224  # of an image window: frames, pixels
COEFFICIENTS, COLUMNS = 13, 20  # of a sound window: MFCC every 10 ms
WIDTH = 1024


class LipEncoder(nn.Module):
    """Five frames to a vector."""

    @nn.compact
    def __call__(self, x: Float[Array, "B 224 224 15"]) -> Float[Array, "B 1024"]:
        """x: blue, green, red from 0 to 255 of five frames, one frame's three channels after the other's."""
        x = _conv(x, "conv0", 96, (7, 7), (2, 2), 0)
        x = nn.max_pool(x, (3, 3), (2, 2))
        x = _conv(x, "conv4", 256, (5, 5), (2, 2), 1)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for place in (8, 11, 14):
            x = _conv(x, f"conv{place}", 256, (3, 3), (1, 1), 1)
        x = nn.max_pool(x, (3, 3), (2, 2))
        return _head(_conv(x, "conv18", 512, (6, 6), (1, 1), 0))


class SoundEncoder(nn.Module):
    """0.2 s of sound to a vector."""

    @nn.compact
    def __call__(self, x: Float[Array, "B 13 20 1"]) -> Float[Array, "B 1024"]:
        """x: coefficients of `preparation.mfcc`, every 10 ms."""
        x = _conv(x, "conv0", 64, (3, 3), (1, 1), 1)
        x = _conv(x, "conv4", 192, (3, 3), (1, 1), 1)
        x = nn.max_pool(x, (3, 3), (1, 2))
        x = _conv(x, "conv8", 384, (3, 3), (1, 1), 1)
        for place in (11, 14):
            x = _conv(x, f"conv{place}", 256, (3, 3), (1, 1), 1)
        x = nn.max_pool(x, (3, 3), (2, 2))
        return _head(_conv(x, "conv18", 512, (5, 4), (1, 1), 0))


class SyncNet(nn.Module):
    """Both encoders, called by name: `apply(..., method="lip")`, `method="aud"`."""

    def setup(self):
        self.lip_encoder, self.aud_encoder = LipEncoder(), SoundEncoder()

    def lip(self, frames: Float[Array, "B 5 224 224 3"]) -> Float[Array, "B 1024"]:
        """Embeds windows of five frames: blue, green, red from 0 to 255."""
        batch, count, height, width, _ = frames.shape
        return self.lip_encoder(frames.transpose(0, 2, 3, 1, 4).reshape(batch, height, width, 3 * count))

    def aud(self, coefficients: Float[Array, "B 20 13"]) -> Float[Array, "B 1024"]:
        """Embeds windows of sound, time first as `preparation.mfcc` gives them."""
        return self.aud_encoder(coefficients.transpose(0, 2, 1)[..., None])

    def __call__(self, frames: Array, coefficients: Array) -> tuple[Array, Array]:
        """Returns both embeddings."""
        return self.lip(frames), self.aud(coefficients)


def _conv(x, name, width, kernel, strides, pad):
    """A layer of the calling module; batch norm folded in, then ReLU."""
    return nn.relu(nn.Conv(width, kernel, strides, padding=[(pad, pad)] * 2, precision="highest", name=name)(x))


def _head(x):
    x = x.reshape(x.shape[0], -1)
    x = nn.relu(nn.Dense(512, precision="highest", name="fc0")(x))
    return nn.Dense(WIDTH, precision="highest", name="fc3")(x)

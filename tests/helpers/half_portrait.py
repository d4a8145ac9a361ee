"""In place of a renderer of photo heads: whoever is drawn is the left half of the picture."""

import jax.numpy as jnp

from vasa_jax.corpus.photos.draw import PhotoFrame, PhotoRenderer


class HalfPortrait(PhotoRenderer):
    """Draws the photograph's square as it is; its left half is the person, of segment 3."""

    def __init__(self, mesh, size, supersample):
        self._size = size

    def draw(self, head, motion, pose):
        left = jnp.broadcast_to(jnp.arange(self._size) < self._size // 2, (self._size, self._size))
        return PhotoFrame(head["square"], left.astype(jnp.float32), jnp.where(left, 3, 0).astype(jnp.uint8), None, None)

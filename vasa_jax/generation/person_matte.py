"""What of a portrait is its person, as the trained network says (models/portrait_matte.py)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.models.layers import fold_standardisation
from vasa_jax.models.portrait_matte import SIDE, PortraitMatte
from vasa_jax.models.variants import from_json


class PersonMatte:
    """A trained `PortraitMatte`, ready to read portraits; compiled once."""

    def __init__(self, part: tuple[dict[str, Any], dict[str, Any]]):
        """part: (parameters, metadata) of matte.safetensors, as `load_part` gives them."""
        params, metadata = part
        self._network = PortraitMatte(**from_json(metadata["fields"]))
        self._params = jax.jit(fold_standardisation)(params)

    def __call__(self, portrait: UInt8[np.ndarray, "n n 3"]) -> Float[np.ndarray, "n n"]:
        """Returns the person's share of each pixel, 0 to 1."""
        import cv2

        size = len(portrait)
        how = cv2.INTER_AREA if size > SIDE else cv2.INTER_LINEAR
        image = portrait if size == SIDE else cv2.resize(portrait, (SIDE, SIDE), interpolation=how)
        share = np.asarray(_share(self._network, self._params, jnp.asarray(image[None])))[0]
        return share if size == SIDE else cv2.resize(share, (size, size), interpolation=cv2.INTER_LINEAR)


@functools.partial(jax.jit, static_argnums=0)
def _share(network: PortraitMatte, params, images: UInt8[jax.Array, "B n n 3"]) -> Float[jax.Array, "B n n"]:
    return jax.nn.sigmoid(network.apply({"params": params}, images.astype(jnp.float32) / 255.0))

"""The GAN of stage 1: its discriminators, and the terms of both players.

The whole image, the eyes and the mouth have one each; LivePortrait's look at the image, the face and the lips (Guo et
al. 2024, section 3.2). That of a region sees a square of the image, pixel for pixel, about the middle of what the
target's segmentation calls eyes or mouth. Pure functions, traced under jit.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from vasa_jax.config import FaceConfig
from vasa_jax.config.face import ADVERSARIAL
from vasa_jax.errors import InputError
from vasa_jax.losses import VASALoss, discriminator_hinge, feature_matching, generator_hinge, gradient_penalty
from vasa_jax.models.discriminator import PatchDiscriminator
from vasa_jax.models.layers import Dtype

# The image's side over the square's. The corpus's eyes are up to 0.42 of the image wide with their brows, its mouths
# 0.25.
PARTS = {"eyes": 2, "mouth": 4}

Params = Mapping[str, Any]
Terms = dict[str, Float[Array, ""]]


class Discriminators:
    """The discriminators that `face` has weights for, for images of `size` pixels a side.

    Their parameters are one tree. That of the whole image lies at its top, those of regions beside, under their names.
    """

    def __init__(self, face: FaceConfig, size: int, loss: VASALoss, dtype: Dtype = jnp.float32):
        """InputError where a square cannot be halved as often as the network does."""
        self._network = PatchDiscriminator(face.discriminator_widths, dtype=dtype)
        self._size, self._loss = size, loss
        self._whole, *parts = (getattr(face, name) is not None for name in ADVERSARIAL)
        self._sides = {name: size // part for (name, part), on in zip(PARTS.items(), parts, strict=True) if on}
        seen = {"adversarial": size} if self._whole else {}
        for name, side in {**seen, **{f"adversarial_{name}": side for name, side in self._sides.items()}}.items():
            if side % 2**self._network.halvings:
                raise InputError(
                    f"config.face.{name}: {side} pixels a side cannot be halved {self._network.halvings} times; give "
                    "fewer config.face.discriminator_widths, or leave it out"
                )

    def initial(self, key: jax.Array) -> dict | None:
        """Returns fresh float32 parameters; None without any discriminator."""
        whole = self._network.initial(key, self._size) if self._whole else {}
        keys = (jax.random.fold_in(key, number) for number in range(len(PARTS)))
        parts = {
            name: self._network.initial(own, self._sides[name]) for name, own in zip(PARTS, keys) if name in self._sides
        }
        return {**whole, **parts} or None

    def terms(
        self,
        params: Params,
        image: Float[Array, "B n n 3"],
        target: Float[Array, "B n n 3"],
        segmentation: Num[Array, "B n n"],
        weights: Mapping[str, Array | float],
        rows: Float[Array, "B"] | None = None,
    ) -> tuple[Terms, Float[Array, ""]]:
        """Returns (terms with a weight, the discriminators' hinge losses, each 0 while its own terms have no weight).

        rows: weight of each pair in all of them; None = they count alike. A pair whose target shows no eyes, or no
        mouth, plays no part there. `gradient_penalty` sums over the discriminators.
        """
        games = []
        if self._whole:
            own = {name: x for name, x in params.items() if name not in PARTS}
            games.append(play(self._network, own, image, target, weights, rows))
        places = self._loss.places(segmentation) if self._sides else {}
        for name, side in self._sides.items():
            corners, seen = _corners(places[name], side), (places[name].max((1, 2)) > 0).astype(jnp.float32)
            squares = (cut(x, corners, side) for x in (image, target))
            seen = seen if rows is None else seen * rows
            games.append(play(self._network, params[name], *squares, weights, seen, f"adversarial_{name}"))
        terms: Terms = {}
        for found, _ in games:
            terms |= {name: terms[name] + x if name in terms else x for name, x in found.items()}
        first, *others = (learning for _, learning in games)
        return terms, sum(others, first)


def play(
    network: PatchDiscriminator,
    params: Params,
    image: Float[Array, "B n n 3"],
    target: Float[Array, "B n n 3"],
    weights: Mapping[str, Array | float],
    rows: Float[Array, "B"] | None = None,
    name: str = "adversarial",
) -> tuple[Terms, Float[Array, ""]]:
    """Returns (terms of one discriminator's game, its own loss, 0 while its terms have no weight).

    name: of the decoder's hinge term; `adversarial` has feature matching beside it. rows: weight of each pair; None =
    they count alike. `gradient_penalty` is there where it has a weight.

    No gradient reaches the discriminator through the decoder's terms, nor the decoder through the discriminator's loss.
    """
    learning = {"params": params}
    fixed = jax.lax.stop_gradient(learning)
    scores, features = network.apply(fixed, image)
    _, true_features = network.apply(fixed, target)
    real, _ = network.apply(learning, target)
    fake, _ = network.apply(learning, jax.lax.stop_gradient(image))
    terms = {name: generator_hinge(scores, rows)}
    weight = weights[name]
    if name == "adversarial":
        terms["feature_matching"] = feature_matching(true_features, features, rows)
        weight = weight + weights["feature_matching"]
    on = jnp.asarray(weight > 0, jnp.float32)
    if "gradient_penalty" in weights:
        penalty = gradient_penalty(lambda x: network.apply(learning, x)[0], target, rows)
        terms["gradient_penalty"] = on * penalty
    return terms, on * discriminator_hinge(real, fake, rows)


def cut(images: Float[Array, "B n n c"], corners: Int[Array, "B 2"], side: int) -> Float[Array, "B {side} {side} c"]:
    """Returns the squares of `side` pixels whose upper left corners are at (row, column)."""

    def one(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (*corner, 0), (side, side, image.shape[-1]))

    return jax.vmap(one)(images, corners)


def _corners(mask: Float[Array, "B n n"], side: int) -> Int[Array, "B 2"]:
    """Corners (row, column) of squares about the middle of what a mask marks, moved into the image."""
    size = mask.shape[1]
    line, mass = jnp.arange(size) + 0.5, jnp.maximum(mask.sum((1, 2)), 1e-6)
    middle = jnp.stack([(mask.sum(axis) * line).sum(1) / mass for axis in (2, 1)], -1)
    return jnp.clip(jnp.round(middle - side / 2).astype(jnp.int32), 0, size - side)

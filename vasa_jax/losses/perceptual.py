"""Losses that look at images through frozen networks, the judges: perceptual features and identity.

Features: Johnson et al. 2016, as in MegaPortraits, section 3.1. Identity: l_cross_id of VASA-1, section 3.1.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from vasa_jax.losses.images import masked_mean
from vasa_jax.models.geometry import align_crop

Params = Mapping[str, Any]
SMALLEST = 32  # pixels; deeper layers of a VGG have nothing left of smaller images
# The crop that judges of faces see: half of the image's width at pose scale 1, on the front of the face.
FACE_ZOOM = 2.0
FACE_CENTRE = (0.0, 0.2, -0.23)


@dataclasses.dataclass(frozen=True)
class FeatureJudge:
    """Compares images by the features of a network.

    Images are compared at up to `scales` octaves, none smaller than 32 pixels. With `relative`, each layer's
    difference is divided by the mean size of the target's features: the weights do not depend on the network's gains.
    A judge of `faces` knows aligned faces only and is not shown whole images.

    Attributes:
      features: `features(params, images in [0, 1])` gives a list of feature maps.
      layer_weights: one number for each of them.
    """

    features: Callable[[Params, Array], list[Array]]
    layer_weights: tuple[float, ...]
    scales: int = 2
    relative: bool = True
    faces: bool = False


@dataclasses.dataclass(frozen=True)
class Judges:
    """Holds the judges of a run: perceptual ones by name, and one of identity.

    `params` has the parameters of each judge by its name. The losses take them as arguments, lest the program carry
    them as constants.

    Attributes:
      params: name of a judge, or "identity" -> its parameters.
      perceptual: name -> judge.
      identity: `identity(params, images in [0, 1])` gives embeddings (b, e).
    """

    params: Params
    perceptual: Mapping[str, FeatureJudge] = dataclasses.field(default_factory=dict)
    identity: Callable[[Params, Array], Array] | None = None

    def perceptual_loss(
        self, params: Params, x: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]
    ) -> Float[Array, ""]:
        """Sums `feature_distance` over the perceptual judges of whole images."""
        return sum(feature_distance(self.perceptual[name], params[name], x, target) for name in self.of_pictures)

    def face_loss(
        self, params: Params, x: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"], pose: Float[Array, "b 9"]
    ) -> Float[Array, ""]:
        """Sums `feature_distance` over the judges of faces, on crops that the pose aligns (MegaPortraits, L_face).

        Without a judge of faces, all perceptual judges look. No gradient reaches the pose.
        """
        crops = [face_crop(image, pose) for image in (x, target)]
        return sum(feature_distance(self.perceptual[name], params[name], *crops) for name in self.of_faces)

    @property
    def of_pictures(self) -> tuple[str, ...]:
        """Names of the perceptual judges that see whole images."""
        return tuple(name for name, judge in self.perceptual.items() if not judge.faces)

    @property
    def of_faces(self) -> tuple[str, ...]:
        """Names of the perceptual judges that see crops of the face."""
        return tuple(name for name, judge in self.perceptual.items() if judge.faces) or tuple(self.perceptual)

    def identity_loss(
        self,
        params: Params,
        x: Float[Array, "b h w 3"],
        source: Float[Array, "b h w 3"],
        valid: Shaped[Array, "b"] | None = None,
    ) -> Float[Array, ""]:
        """Computes 1 - cosine of embeddings of decoded images and their sources (VASA-1, section 3.1: l_cross_id)."""
        return 1.0 - self.similarity(params, x, jax.lax.stop_gradient(source), valid)

    def similarity(
        self,
        params: Params,
        x: Float[Array, "b h w 3"],
        y: Float[Array, "b h w 3"],
        valid: Shaped[Array, "b"] | None = None,
    ) -> Float[Array, ""]:
        """Averages the cosine of the embeddings over the `valid` examples (None: all); 1 where none is."""
        a, b = (_unit(self.identity(params["identity"], image)) for image in (x, y))
        cosine = (a * b).sum(-1)
        return cosine.mean() if valid is None else 1.0 - masked_mean(1.0 - cosine, valid)


def face_crop(image: Float[Array, "b h w 3"], pose: Float[Array, "b 9"]) -> Float[Array, "b k k 3"]:
    """Cuts out the face with its pose taken out, at the image's own resolution at pose scale 1: k = h / 2."""
    return align_crop(image, jax.lax.stop_gradient(pose), round(image.shape[1] / FACE_ZOOM), FACE_ZOOM, FACE_CENTRE)


def feature_distance(
    judge: FeatureJudge, params: Params, x: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]
) -> Float[Array, ""]:
    """Computes the weighted mean L1 between feature maps, averaged over scales; differentiable in both images."""
    total, scales = 0.0, 1
    while scales < judge.scales and min(x.shape[1:3]) >> scales >= SMALLEST:
        scales += 1
    for scale in range(scales):
        if scale:
            x, target = (nn.avg_pool(image, (2, 2), strides=(2, 2)) for image in (x, target))
        pairs = zip(judge.layer_weights, judge.features(params, x), judge.features(params, target), strict=True)
        for weight, found, wanted in pairs:
            found, wanted = found.astype(jnp.float32), wanted.astype(jnp.float32)
            size = jax.lax.stop_gradient(jnp.abs(wanted).mean()) + 1e-6 if judge.relative else 1.0
            total += weight * jnp.abs(found - wanted).mean() / size
    return total / scales


def _unit(x: Array) -> Array:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)

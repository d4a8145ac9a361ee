"""Losses that look at pictures through frozen networks, the judges: perceptual features and identity."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.losses.images import masked_mean
from vasa_jax.models.geometry import align_crop

Params = Mapping[str, Any]
SMALLEST = 32  # pixels; deeper layers of a VGG have nothing left of smaller pictures
# The crop that judges of faces see: half of the picture's width at pose scale 1, on the front of the face.
FACE_ZOOM = 2.0
FACE_CENTRE = (0.0, 0.2, -0.23)


@dataclasses.dataclass(frozen=True)
class FeatureJudge:
    """`features(params, images in [0, 1])` gives a list of feature maps; `layer_weights` has one number for each.

    Pictures are compared at up to `scales` octaves, none smaller than 32 pixels. With `relative`, each layer's
    difference is divided by the mean size of the target's features: the weights do not depend on the network's gains.
    A judge of `faces` knows aligned faces only and is not shown whole pictures.
    """

    features: Callable[[Params, Array], list[Array]]
    layer_weights: tuple[float, ...]
    scales: int = 2
    relative: bool = True
    faces: bool = False


@dataclasses.dataclass(frozen=True)
class Judges:
    """The judges that a run has: perceptual ones by name, and one of identity.

    `identity(params, images in [0, 1])` gives embeddings (b, e). `params` has the parameters of each by its name, the
    identity's under "identity"; they are handed to the losses as arguments, lest the program carry them as constants.
    """

    params: Params
    perceptual: Mapping[str, FeatureJudge] = dataclasses.field(default_factory=dict)
    identity: Callable[[Params, Array], Array] | None = None

    def perceptual_loss(
        self, params: Params, x: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]
    ) -> Float[Array, ""]:
        """Sum of `feature_distance` over the perceptual judges of whole pictures."""
        return sum(feature_distance(self.perceptual[name], params[name], x, target) for name in self.of_pictures)

    def face_loss(
        self, params: Params, x: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"], pose: Float[Array, "b 9"]
    ) -> Float[Array, ""]:
        """Sum of `feature_distance` over the judges of faces, or, where there is none, all perceptual ones, on crops
        that the pose aligns (MegaPortraits, L_face). No gradient reaches the pose.
        """
        crops = [face_crop(picture, pose) for picture in (x, target)]
        return sum(feature_distance(self.perceptual[name], params[name], *crops) for name in self.of_faces)

    @property
    def of_pictures(self) -> tuple[str, ...]:
        """Names of the perceptual judges that see whole pictures."""
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
        valid: Float[Array, "b"] | None = None,
    ) -> Float[Array, ""]:
        """1 - cosine of the embeddings of decoded pictures and of their sources (VASA-1, section 3.1: l_cross_id)."""
        return 1.0 - self.similarity(params, x, jax.lax.stop_gradient(source), valid)

    def similarity(
        self,
        params: Params,
        x: Float[Array, "b h w 3"],
        y: Float[Array, "b h w 3"],
        valid: Float[Array, "b"] | None = None,
    ) -> Float[Array, ""]:
        """Mean cosine of the embeddings over the `valid` examples (None: all); 1 where none is."""
        a, b = (_unit(self.identity(params["identity"], image)) for image in (x, y))
        cosine = (a * b).sum(-1)
        return cosine.mean() if valid is None else 1.0 - masked_mean(1.0 - cosine, valid)


def face_crop(image: Float[Array, "b h w 3"], pose: Float[Array, "b 9"]) -> Float[Array, "b k k 3"]:
    """The face with its pose taken out, at the picture's own resolution at pose scale 1: k = h / 2."""
    return align_crop(image, jax.lax.stop_gradient(pose), round(image.shape[1] / FACE_ZOOM), FACE_ZOOM, FACE_CENTRE)


def feature_distance(
    judge: FeatureJudge, params: Params, x: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]
) -> Float[Array, ""]:
    """Weighted mean L1 between feature maps, averaged over the judge's scales; differentiable in both pictures."""
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

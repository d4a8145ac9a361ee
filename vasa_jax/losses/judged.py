"""Losses that look at pictures through frozen networks, the judges: perceptual features and identity."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.losses.pictures import masked_mean

Params = Mapping[str, Any]
SMALLEST = 32  # pixels; deeper layers of a VGG have nothing left of smaller pictures


@dataclasses.dataclass(frozen=True)
class FeatureJudge:
    """`features(params, images in [0, 1])` gives a list of feature maps; `layer_weights` has one number for each.

    Pictures are compared at up to `scales` octaves, none smaller than 32 pixels. With `relative`, each layer's
    difference is divided by the mean size of the target's features: the weights do not depend on the network's gains.
    """

    features: Callable[[Params, Array], list[Array]]
    layer_weights: tuple[float, ...]
    scales: int = 2
    relative: bool = True


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
        """Sum over the perceptual judges of `feature_distance`."""
        return sum(feature_distance(judge, params[name], x, target) for name, judge in self.perceptual.items())

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

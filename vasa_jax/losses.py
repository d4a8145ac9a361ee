"""Stage-1 losses: what a decoded frame, a matte, a pose and a dynamics code are held to."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.config import FaceConfig


def weighted_l1(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"], weight: Float[Array, "b h w"]):
    """Mean absolute difference under per-pixel weights, normalised by their sum."""
    error = jnp.abs(prediction - target).mean(-1)
    return (error * weight).sum() / jnp.maximum(weight.sum(), 1e-6)


def ssim(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], window: int = 7) -> Float[Array, "b h w c"]:
    """Structural similarity (Wang et al. 2004) of images in [0, 1] under a uniform window, per valid position."""

    def mean(image):
        return nn.avg_pool(image, (window, window), strides=(1, 1), padding="VALID")

    mean_x, mean_y = mean(x), mean(y)
    variance_x = mean(x * x) - mean_x**2
    variance_y = mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )


def structure_loss(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], scales: int = 3) -> Float[Array, ""]:
    """1 - SSIM, averaged over `scales` octaves."""
    total = 0.0
    for scale in range(scales):
        if scale:
            x, y = (nn.avg_pool(image, (2, 2), strides=(2, 2)) for image in (x, y))
        total += 1.0 - ssim(x, y).mean()
    return total / scales


def gradient_loss(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], weight: Float[Array, "b h w"]):
    """L1 between horizontal and vertical pixel differences: sharp edges where the target has them."""
    difference = x - y
    horizontal = weighted_l1(difference[:, :, 1:], difference[:, :, :-1], weight[:, :, 1:])
    vertical = weighted_l1(difference[:, 1:], difference[:, :-1], weight[:, 1:])
    return horizontal + vertical


def matte_loss(matte: Float[Array, "b h w"], foreground: Float[Array, "b h w"]) -> Float[Array, ""]:
    """Binary cross-entropy of the matte against the segmentation's foreground."""
    matte = jnp.clip(matte, 1e-4, 1 - 1e-4)
    return -(foreground * jnp.log(matte) + (1 - foreground) * jnp.log(1 - matte)).mean()


def pose_loss(pose: Float[Array, "b 9"], label: Float[Array, "b 9"]) -> Float[Array, ""]:
    """L1 over the two rotation columns, log scale and translation."""
    return jnp.abs(pose - label).sum(-1).mean()


def motion_contrast(
    a: Float[Array, "b z"], b: Float[Array, "b z"], scale: float = 5.0, margin: float = 0.2
) -> Float[Array, ""]:
    """Contrast of dynamics codes that share a motion (a_i, b_i) against the rest of the batch.

    MegaPortraits' L_cos with the margin on the positives only; printed on both sides, as in the paper, it would cancel
    (architecture notes: CosFace form).
    """
    # The small constant is inside the root: a code of zeros must not have an infinite gradient.
    a, b = (z * jax.lax.rsqrt(jnp.square(z).sum(-1, keepdims=True) + 1e-12) for z in (a, b))
    logits = scale * (a @ b.T - margin * jnp.eye(a.shape[0]))
    diagonal = jnp.diag(logits)
    return 0.5 * (jax.nn.logsumexp(logits, 1) - diagonal + jax.nn.logsumexp(logits, 0) - diagonal).mean()


@dataclasses.dataclass(frozen=True)
class VASALoss:
    """The weighted sum of stage 1's terms; each is also returned by name."""

    settings: FaceConfig
    mouth_segments: tuple[int, ...]  # lips and everything between them
    eye_segments: tuple[int, ...]  # eyeballs and brows

    def pixel_weights(self, segmentation: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
        """Weight of every target pixel by what it shows; 1 = skin, hair, cloth."""
        s = self.settings
        weight = jnp.where(segmentation == 0, s.background_weight, 1.0)
        for members, value in ((self.mouth_segments, s.mouth_weight), (self.eye_segments, s.eye_weight)):
            inside = jnp.isin(segmentation, jnp.array(members))
            # A little of the surroundings belongs to the feature: its outline is what moves.
            inside = nn.max_pool(inside[..., None].astype(jnp.float32), (3, 3), (1, 1), "SAME")[..., 0]
            weight = jnp.maximum(weight, 1.0 * (inside > 0) * value)
        return weight

    def __call__(
        self,
        picture: Float[Array, "b h w 3"],
        target: Float[Array, "b h w 3"],
        matte: Float[Array, "b h w 1"],
        segmentation: Float[Array, "b h w"],
        poses: Float[Array, "p 9"],
        pose_labels: Float[Array, "p 9"],
        dynamics: Float[Array, "b z"],
        dynamics_of_target: Float[Array, "b z"],
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """`picture` is the decoded head over the background canvas; all float32."""
        s = self.settings
        weight = self.pixel_weights(segmentation)
        terms = {
            "l1": weighted_l1(picture, target, weight),
            "structure": structure_loss(picture, target),
            "gradient": gradient_loss(picture, target, weight),
            "matte": matte_loss(matte[..., 0], (segmentation > 0).astype(jnp.float32)),
            "pose": pose_loss(poses, pose_labels),
            "contrast": motion_contrast(dynamics, dynamics_of_target),
        }
        return sum(getattr(s, name) * value for name, value in terms.items()), terms

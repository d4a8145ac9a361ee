"""VASALoss: the terms of stage 1 and their weights (VASA-1, section 3.1)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, Shaped

from vasa_jax.config import FaceConfig
from vasa_jax.config.face import ADVERSARIAL
from vasa_jax.losses.images import gradient_loss, matte_loss, square_error, structure_loss, weighted_l1
from vasa_jax.losses.latents import disagreement, motion_contrast, pose_loss
from vasa_jax.losses.perceptual import Judges
from vasa_jax.losses.photo_heads import region_loss

# Each is a field of FaceConfig. The first nine cost next to nothing and are always computed; of the others a weight of
# None leaves the term out of the program, while any number, also 0, is a traced array: runs that differ only in such
# numbers share one compiled program.
ALWAYS = ("l1", "mse", "ssim", "gradient", "matte", "pose", "contrast", "latent_agreement", "latent_l2")
SELF_TRANSFER = ("pairwise_transfer",)
JUDGED = ("perceptual", "face_perceptual", "cross_identity")
GAME = (*ADVERSARIAL, "feature_matching", "gradient_penalty")
PHOTO_HEADS = ("anchor", "flow", "flow_coarse", "kept")  # what only photo heads tell
REGION = ("region",)
# Of the keypoint codec alone.
KEYPOINTS = ("equivariance", "keypoint_prior", "keypoint_guide", "expression_guide", "expression_size")
VOLUME = ("pairwise_transfer", "crop_warp", "placement", "degrade", *PHOTO_HEADS)  # settings of the volume codec alone
TERMS = (*ALWAYS, *SELF_TRANSFER, *JUDGED, *GAME, *PHOTO_HEADS, *REGION, *KEYPOINTS)

Weights = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class VASALoss:
    """The weighted sum of stage 1's terms; each is also returned by name."""

    settings: FaceConfig
    mouth_segments: tuple[int, ...]  # lips and everything between them
    eye_segments: tuple[int, ...]  # eyeballs and brows
    judges: Judges | None = None

    def weights(self, step: int | None = None) -> dict[str, float]:
        """Returns the weight of every term at an update; without `step`, after everything is switched on."""
        s, weights = self.settings, {}
        for name in TERMS:
            value = getattr(s, name)
            if value is None or (name in JUDGED and not self._can_judge(name)):
                continue
            start = s.gan_from if name in GAME else s.transfer_from if name in (*SELF_TRANSFER, *JUDGED) else 0
            weights[name] = float(value) if step is None or step >= start else 0.0
        return weights

    def missing_judges(self) -> list[str]:
        """Lists terms that are asked for and off, because no judge can tell them."""
        return [name for name in JUDGED if getattr(self.settings, name) is not None and not self._can_judge(name)]

    def total(self, terms: Mapping[str, Array], weights: Weights) -> Float[Array, ""]:
        """Sums weight times term over `terms`."""
        return sum(weights[name] * terms[name] for name in TERMS if name in terms)

    def pixel_weights(self, segmentation: Num[Array, "b h w"]) -> Float[Array, "b h w"]:
        """Returns the weight of every target pixel by what it shows; 1 = skin, hair, cloth."""
        s = self.settings
        weight = jnp.where(segmentation == 0, s.background_weight, 1.0)
        for members, value in ((self.mouth_segments, s.mouth_weight), (self.eye_segments, s.eye_weight)):
            weight = jnp.maximum(weight, _around(segmentation, members) * value)
        return weight

    def places(self, segmentation: Num[Array, "b h w"]) -> dict[str, Float[Array, "b h w"]]:
        """Returns where eyes with their lids and brows are, and the mouth: 1 there and a little around, 0 elsewhere."""
        return {
            "eyes": _around(segmentation, self.eye_segments),
            "mouth": _around(segmentation, self.mouth_segments),
        }

    def regions(
        self, image: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"], segmentation: Num[Array, "b h w"]
    ) -> Float[Array, ""]:
        """Computes term `region`: errors of the eyes with their lids, of the mouth, and of all else of the person."""
        eyes, mouth = self.places(segmentation).values()
        rest = (segmentation > 0) * (1.0 - jnp.maximum(eyes, mouth))
        return region_loss(image, target, [eyes, mouth, rest])

    def __call__(
        self,
        image: Float[Array, "b h w 3"],
        target: Float[Array, "b h w 3"],
        matte: Float[Array, "b h w 1"],
        segmentation: Num[Array, "b h w"],
        poses: Float[Array, "p 9"],
        pose_labels: Float[Array, "p 9"],
        dynamics: Float[Array, "b z"],
        dynamics_of_target: Float[Array, "b z"],
        *,
        weights: Weights | None = None,
        valid_matte: Shaped[Array, "b"] | None = None,
        valid_poses: Shaped[Array, "p"] | None = None,
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Computes MegaPortraits' base terms. `image` is the decoded head over the background canvas; all float32.

        `valid_*` say which examples have the label (None: all).
        """
        weight = self.pixel_weights(segmentation)
        foreground = (segmentation > 0).astype(jnp.float32)
        terms = {
            "l1": weighted_l1(image, target, weight),
            "mse": square_error(image, target),
            "ssim": structure_loss(image, target),
            "gradient": gradient_loss(image, target, weight),
            "matte": matte_loss(matte[..., 0], foreground, valid_matte),
            "pose": pose_loss(poses, pose_labels, valid_poses),
            "contrast": motion_contrast(dynamics, dynamics_of_target),
            "latent_agreement": disagreement(dynamics, dynamics_of_target),
        }
        return self.total(terms, self.weights() if weights is None else weights), terms

    def consistency(
        self, a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"], judge_params: Mapping[str, Any]
    ) -> Float[Array, ""]:
        """Computes VASA-1's l_consist (section 3.1), pairwise transfer of motion.

        It is the discrepancy of a = D(V_i, id_i, pose_j, dyn_i) and b = D(V_j, id_j, pose_j, dyn_i). Frames i and j
        are of one clip: given the pose of j, i must look like j given the dynamics of i. The paper does not name the
        metric; this is L1, 1 - SSIM and, with a judge, its perceptual features. Both sides learn.
        """
        value = jnp.abs(a - b).mean() + structure_loss(a, b)
        if self.judges is not None and self.judges.of_pictures:
            value = value + self.judges.perceptual_loss(judge_params, a, b)
        return value

    def _can_judge(self, name: str) -> bool:
        if self.judges is None:
            return False
        needed = {
            "perceptual": self.judges.of_pictures,
            "face_perceptual": self.judges.of_faces,
            "cross_identity": self.judges.identity,
        }
        return bool(needed[name])


def _around(segmentation: Num[Array, "b h w"], members: tuple[int, ...]) -> Float[Array, "b h w"]:
    """1 in segments and a little around them, 0 elsewhere: the outline of a feature is what moves."""
    inside = jnp.isin(segmentation, jnp.array(members))
    return nn.max_pool(inside[..., None].astype(jnp.float32), (3, 3), (1, 1), "SAME")[..., 0]

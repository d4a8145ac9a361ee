"""Stage-1 losses: what decoded frames, mattes, poses and dynamics latents are held to (VASA-1, section 3.1)."""

from vasa_jax.losses.adversarial import discriminator_hinge, feature_matching, generator_hinge, gradient_penalty
from vasa_jax.losses.images import gradient_loss, matte_loss, square_error, ssim, structure_loss, weighted_l1
from vasa_jax.losses.latents import code_size, disagreement, margin_softmax, motion_contrast, pose_loss
from vasa_jax.losses.vasa import TERMS, VASALoss

__all__ = [
    "TERMS",
    "VASALoss",
    "code_size",
    "disagreement",
    "discriminator_hinge",
    "feature_matching",
    "generator_hinge",
    "gradient_loss",
    "gradient_penalty",
    "margin_softmax",
    "matte_loss",
    "motion_contrast",
    "pose_loss",
    "square_error",
    "ssim",
    "structure_loss",
    "weighted_l1",
]

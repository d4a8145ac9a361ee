"""Settings of the codecs' training (stage 1): what they learn from and how much each of their losses counts."""

from vasa_jax.config.training import MOST
from vasa_jax.errors import InputError
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.settings import Settings, choice, flag, number, section, text

ADVERSARIAL = ("adversarial", "adversarial_eyes", "adversarial_mouth")  # terms with a discriminator each

@section
class FaceConfig(Settings):
    """Stage 1: the volume codec and its losses (VASA-1 section 3.1; MegaPortraits)."""

    variant: str = choice("face_demo", FACE_VARIANTS, "size of the codec")
    recipe: str = choice(
        "counterfactual",
        ("counterfactual", "self"),
        "counterfactual: rendered cross-identity truth; self: pairs of one identity",
    )
    l1: float = number(1.0, 0, 1e6, "", "weight of the mean absolute error")
    mse: float = number(
        0.0, 0, 1e6, "", "weight of the mean square error of the whole image, which PSNR measures", was="square"
    )
    ssim: float = number(1.0, 0, 1e6, "", "weight of 1 - SSIM over three scales", was="structure")
    gradient: float = number(1.0, 0, 1e6, "", "weight of the L1 distance between image gradients")
    matte: float = number(0.3, 0, 1e6, "", "weight of the matte's error")
    pose: float = number(1.0, 0, 1e6, "", "weight of the pose's error")
    pose_from_image: float = number(
        0.0, 0, 1, "", "share of the image's gradient that reaches labelled poses", was="pose_from_picture"
    )
    contrast: float = number(0.02, 0, 1e6, "", "weight of the CosFace-form motion contrast")
    latent_agreement: float = number(
        0.0,
        0,
        1e6,
        "",
        "weight of the per-dimension disagreement between latents of the same expression",
        was="agreement",
    )
    latent_l2: float = number(1e-3, 0, 1e6, "", "weight of the mean square of the dynamics latent", was="code")
    # Terms that cost a decode or a network; None leaves them out of the program, any number (also 0) is a traced weight
    pairwise_transfer: float | None = number(
        None, 0, 1e6, "", "weight of l_consist: pose and dynamics swapped within a clip", was="consist"
    )
    cross_identity: float | None = number(
        None,
        0,
        1e6,
        "",
        "weight of l_cross_id: identity under another person's motion (needs a loss network)",
        was="cross_id",
    )
    perceptual: float | None = number(None, 0, 1e6, "", "weight of the distance between a loss network's features")
    face_perceptual: float | None = number(
        None, 0, 1e6, "", "the same of the face alone, cut out by its pose; MegaPortraits' 4 to 20"
    )
    # What photo heads tell exactly (config.photo_heads)
    anchor: float | None = number(
        None,
        0,
        1e6,
        "",
        "weight of the dynamics' distance to the latents that the codec `anchor_from` reads in rendered heads with "
        "the same face, over their spread: a transformer trained on those stays valid",
    )
    anchor_from: str = text("", "export directory of that codec; empty = the shipped one")
    flow: float | None = number(
        None, 0, 1e6, "", "weight of the distance, pixels, of moved portrait pixels to their exact places"
    )
    flow_coarse: float | None = number(None, 0, 1e6, "", "the same of the warp before it is refined")
    kept: float | None = number(
        None, 0, 1e6, "", "weight of the mask's entropy: keep what the photograph shows, paint what it does not"
    )
    region: float | None = number(
        None, 0, 1e6, "", "weight of the mean error of eyes with lids, of the mouth and of the rest, each part alone"
    )
    # Of the keypoint codec (face-vid2vid, supplement B)
    equivariance: float | None = number(
        None, 0, 1e6, "", "weight of the keypoints' error after images are bent and the keypoints bent back"
    )
    keypoint_prior: float | None = number(None, 0, 1e6, "", "weight of keypoints too close together, or off in depth")
    keypoint_guide: float | None = number(
        None, 0, 1e6, "", "weight of the distance of keypoints, as posed and as seen, from exact landmarks"
    )
    expression_guide: float | None = number(
        None, 0, 1e6, "", "weight of the error of canonical keypoints and of their displacements by expressions"
    )
    expression_from_image: float = number(
        1.0, 0, 1, "", "share of the image's gradient that reaches the reader's keypoints and displacements"
    )
    reader_only: bool = flag(False, "train the keypoint codec's reader of motion alone, by its guides")
    expression_size: float | None = number(None, 0, 1e6, "", "weight of the mean absolute displacement by expressions")
    transfer_from: int = number(
        0, 0, MOST, "updates", "before pairwise_transfer, cross_identity, perceptual and face_perceptual come in"
    )
    loss_networks: str = text(
        "",
        "directory of the loss networks: judge, vgg19, vggface, arcface .safetensors (weights/loss_networks.py)",
        was="judge",
    )
    adversarial: float | None = number(
        None, 0, 1e6, "", "weight of the hinge loss against a patch discriminator on two scales; MegaPortraits' 1"
    )
    feature_matching: float | None = number(
        None, 0, 1e6, "", "weight of the L1 distance between the discriminator's features; MegaPortraits' 40"
    )
    adversarial_eyes: float | None = number(
        None, 0, 1e6, "", "weight of the hinge loss against a discriminator that sees the eyes with their brows alone"
    )
    adversarial_mouth: float | None = number(None, 0, 1e6, "", "the same of the mouth alone")
    gradient_penalty: float | None = number(
        None, 0, 1e6, "", "weight of half the square norm of each discriminator's gradient at true images (R1)"
    )
    adversarial_rendered: float = number(
        1.0, 0, 1, "", "weight of rendered heads in all these terms, where a batch has photo heads too"
    )
    gan_from: int = number(0, 0, MOST, "updates", "before the discriminators and their terms come in")
    discriminator_widths: tuple[int, ...] = number(
        (64, 128, 256, 512),
        1,
        8192,
        "channels",
        "of a discriminator's layers",
        least=1,
        was="critic_widths",
    )
    same_frame: float = number(
        0.0, 0, 1, "", "share of pairs whose driver is the source's own frame; DPE needs some beside pairwise_transfer"
    )
    # What keeps pose and identity out of the dynamics (leakage guards)
    crop_warp: float = number(
        0.0, 0, 4, "cells", "random warp of the crop that dynamics are read from; of its 9 x 9 grid"
    )
    placement: float = number(
        0.0, 0, 1, "", "share of images whose pose and dynamics are read moved, scaled and turned in the plane"
    )
    degrade: float = number(0.0, 0, 1, "", "share of images that are read blurred, blocky, noisy or recoloured")
    pose_pool: float = number(0.0, 0, 1, "", "share of l_cross_id's examples whose pose is of a third person")
    flip: float = number(0.0, 0, 1, "", "share of examples mirrored, source and driver together")
    dynamics_noise: float = number(
        0.1, 0, 10, "standard deviations", "of the batch, added to the latent before decoding"
    )
    mouth_weight: float = number(8.0, 0, 1e6, "", "of a mouth pixel against a skin pixel")
    eye_weight: float = number(6.0, 0, 1e6, "", "of an eye pixel against a skin pixel")
    background_weight: float = number(0.3, 0, 1e6, "", "of a background pixel against a skin pixel")
    jitter: float = number(0.5, 0, 1, "", "share of examples with a colour transform common to source and target")

    def check_together(self, path: str) -> None:
        """Raises InputError for terms of the GAN that lack what they belong to, and for mirrored faces with a guide."""
        guides = [name for name in ("keypoint_guide", "expression_guide") if getattr(self, name) is not None]
        if self.flip and guides:
            raise InputError(f"{path}.flip: landmarks have a left and a right; not together with {guides[0]}")
        if self.reader_only and not guides:
            raise InputError(f"{path}.reader_only: nothing tells the reader; set keypoint_guide or expression_guide")
        if (self.adversarial is None) != (self.feature_matching is None):
            raise InputError(
                f"{path}: adversarial and feature_matching belong together; set both (0 is a weight) or none"
            )
        players = [name for name in ADVERSARIAL if getattr(self, name) is not None]
        if self.gradient_penalty is not None and not players:
            raise InputError(f"{path}.gradient_penalty: no discriminator has it; set {ADVERSARIAL[0]}, or leave it out")

r"""Fine-tunes a trained codec against a discriminator of patches, with feature matching, for sharper details:

python -m vasa_jax.main --config configs/train_face_gan.py --workdir runs/face_gan \
    --config.train.init_from=runs/face_256/export

Other settings are those of train_face.py; the two weights keep MegaPortraits' ratio of 1 to 40. Look at
sharpness_mouth and sharpness_eyes (1 = as sharp as the truth) and at the PSNR, which a discriminator costs. 1,500
updates from the shipped codec on an H200: sharpness_mouth 0.53 to 0.61, sharpness_eyes 0.55 to 0.69, psnr_cross 25.5
to 25.1 dB. In one run from scratch, --config.face.gan_from=N brings the discriminator in after N updates.
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        train=TrainConfig(
            steps=6_000,
            batch_size=64,
            learning_rate=1e-4,
            discriminator_learning_rate=2e-4,
            evaluate_every=2_000,
            save_every=2_000,
            best_metric="psnr_cross",
        ),
        corpus=CorpusConfig(groups=512, chunk=1, refresh=4),
        face=FaceConfig(
            variant="face_demo",
            recipe="counterfactual",
            adversarial=0.01,
            feature_matching=0.4,
            discriminator_widths=(32, 64, 128, 256),
        ),
    ).to_config_dict()

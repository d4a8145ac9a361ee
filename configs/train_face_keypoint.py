"""Stage 1 with the slim keypoint codec, on the built-in corpus:

python -m vasa_jax.main --config configs/train_face_keypoint.py --workdir runs/keypoint

Start it from a trained reader of motion: --config.train.init_from=runs/reader/checkpoints
(configs/train_face_keypoint_reader.py). Exact landmarks go on guiding it, beside the pixel terms of the volume codec.
With --config.face.loss_networks=DIR there is also `perceptual`, and with `adversarial` and `feature_matching` a
discriminator; `adversarial_eyes` and `adversarial_mouth` bring one each for eyes and mouth, `gradient_penalty` holds
all of them. They are off: no training has shown which weights help. Writes export/face.safetensors, which reenact and
train_motion take as any codec. After 9,912 updates, 9 minutes of an H200, held-out heads driven by themselves came to
23.7 dB, by others to 23.1 dB. Their mouths followed the driver's at r 0.97 (docs/training.md).
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        train=TrainConfig(
            steps=24_000,
            batch_size=64,
            learning_rate=8e-4,
            warmup_steps=300,
            decay_from=0.6,
            evaluate_every=0,
            save_every=2_000,
        ),
        corpus=CorpusConfig(groups=512, motions=10, poses=2, chunk=1, refresh=4),
        face=FaceConfig(
            variant="keypoint_demo",
            recipe="counterfactual",
            background_weight=1.0,
            mse=10.0,
            pose_from_image=0.3,
            mouth_weight=12.0,
            eye_weight=12.0,
            region=0.5,
            contrast=0.0,
            keypoint_guide=0.25,
            expression_guide=0.5,
            expression_from_image=0.1,
        ),
    ).to_config_dict()

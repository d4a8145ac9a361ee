r"""The codec on photographs: python -m vasa_jax.main --config configs/train_face_photos.py --workdir runs/face_photos \
    --config.photo_heads.folder=HEADS --config.photos.models=face_models

HEADS is what configs/fit_photos.py made of photographs that you may use. The start is the shipped codec, which was
trained so itself: identity 0.22 (dlib's distance), its face 30.4 dB on six photo heads; its card has the settings. Ten
sixteenths of the sources are photo heads, the rest rendered heads; with --config.photo_heads.clips=SHARDS
(configs/prepare.py) one sixteenth are real clips. Latents stay where the shipped
transformer expects them (`face.anchor`). Writes export/face.safetensors. docs/training.md has the commands for
a machine with one GPU.
"""

from pathlib import Path

import vasa_jax
from vasa_jax.config import CorpusConfig, FaceConfig, PhotoHeadsConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        train=TrainConfig(
            steps=100_000,
            minutes=20.0,
            batch_size=64,
            learning_rate=5e-4,
            warmup_steps=300,
            decay_from=0.75,
            evaluate_every=0,  # at the end alone: the programs of the figures take minutes to compile
            save_every=2_000,
            init_from=str(Path(vasa_jax.__file__).parent / "pretrained"),
        ),
        corpus=CorpusConfig(groups=288, motions=10, poses=2, chunk=1, refresh=48),
        photo_heads=PhotoHeadsConfig(share=0.65, clip_share=0.0625),
        face=FaceConfig(
            variant="face_demo",
            recipe="counterfactual",
            background_weight=1.0,
            mse=10.0,
            pose_from_image=0.3,
            latent_agreement=0.05,
            mouth_weight=12.0,
            eye_weight=12.0,
            anchor=0.3,
            flow=0.05,
            flow_coarse=0.02,
            kept=0.03,
            region=0.5,
            placement=0.5,
            degrade=0.2,
        ),
    ).to_config_dict()

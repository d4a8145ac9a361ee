r"""The codec's second half, after train_face_256: pictures get sharper, pose and dynamics keep their meaning, so that
stage 2 can learn from the first half's latents at the same time:

python -m vasa_jax.main --config configs/train_face_decoder.py --workdir runs/face_decoder \
    --config.train.initial=runs/face_256/export

Writes export/face.safetensors, whose pose and dynamics networks are those it started from.
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        seed=1,
        train=TrainConfig(
            steps=12_000,
            batch_size=64,
            learning_rate=6e-4,
            evaluate_every=6_000,
            save_every=4_000,
            initial="runs/face_256/export",
            frozen=("^encoder/(pose_net|dynamics_net)/",),
        ),
        corpus=CorpusConfig(groups=512, chunk=1, refresh=4),
        face=FaceConfig(variant="face_demo", recipe="counterfactual"),
    ).to_config_dict()

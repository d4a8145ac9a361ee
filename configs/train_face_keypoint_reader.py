"""The reader of motion of the slim keypoint codec, before the codec, by exact landmarks of the built-in corpus:

python -m vasa_jax.main --config configs/train_face_keypoint_reader.py --workdir runs/reader

Nothing is drawn: an update costs a twentieth of the codec's. 4,500 updates took less than 6 minutes of an H200.
Displacements then told mouths of unseen people at R2 0.96, lids at 0.90, gaze at 0.65. The codec goes on from its
checkpoints:
`configs/train_face_keypoint.py --config.train.init_from=runs/reader/checkpoints`.
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        train=TrainConfig(
            steps=5_000,
            batch_size=64,
            learning_rate=1.5e-3,
            warmup_steps=200,
            decay_from=0.5,
            evaluate_every=2_500,
            save_every=2_500,
            frozen=("^decoder/", "^encoder/appearance"),
        ),
        corpus=CorpusConfig(groups=512, motions=10, poses=2, chunk=1, refresh=2),
        face=FaceConfig(
            variant="keypoint_demo",
            recipe="counterfactual",
            reader_only=True,
            pose=1.0,
            keypoint_guide=0.5,
            expression_guide=1.0,
        ),
    ).to_config_dict()

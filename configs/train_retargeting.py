"""Stage 2 of the slim keypoint codec: its networks for stitching, eyes and lips, on the built-in corpus:

python -m vasa_jax.main --config configs/train_retargeting.py --workdir runs/retargeting \
    --config.checkpoint=runs/keypoint/export

The codec (configs/train_face_keypoint.py) stays as it is. Writes export/face.safetensors, that codec with the networks,
for reenact's `stitching`, `close_lips`, `eye_openness` and their like. On a codec in closed form, whose clothes hang on
one keypoint, 400 updates bring it from 0.148 off its place to less than 0.008: tests/training/test_retargeting_task.py.
On keypoint_demo they were not trained yet.
"""

from vasa_jax.config import CorpusConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_retargeting",
        train=TrainConfig(
            steps=4_000,
            batch_size=32,
            learning_rate=1e-3,
            warmup_steps=100,
            decay_from=0.5,
            evaluate_every=1_000,
            save_every=1_000,
        ),
        corpus=CorpusConfig(groups=512, motions=10, poses=2, drivers=1, chunk=1, refresh=4),
    ).to_config_dict()

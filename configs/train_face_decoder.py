r"""The codec's last part, after train_face_256.py and erase_pose.py: python -m vasa_jax.main \
    --config configs/train_face_decoder.py --config.train.init_from=runs/erased/export --workdir runs/face_decoder

Dynamics keep their meaning, so that what erase_pose.py took out of them stays out and a transformer that was trained on
them stays valid; the pose is read finer, from labels and from the pictures that come out, and pictures get closer to
the truth. Writes export/face.safetensors. The shipped codec, before photographs, went from 26.5
to 28.0 dB with it (configs/evaluate.py).
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        seed=1,
        train=TrainConfig(
            steps=24_000,
            batch_size=64,
            learning_rate=8e-4,
            evaluate_every=6_000,
            save_every=4_000,
            best_metric="psnr_cross",
            init_from="runs/erased/export",
            init_partial=True,
            frozen=("^encoder/dynamics_net/|/embedding/dynamics_map/",),
        ),
        corpus=CorpusConfig(groups=512, motions=10, poses=2, chunk=1, refresh=4),
        face=FaceConfig(
            variant="face_demo", recipe="counterfactual", background_weight=1.0, mse=10.0, pose_from_image=1.0
        ),
    ).to_config_dict()

r"""The networks of the codec's perceptual and identity losses, trained on renders of people whom nothing else sees:

python -m vasa_jax.main --config configs/train_loss_networks.py --workdir runs/judge

Writes export/judge.safetensors; --config.face.loss_networks=runs/judge/export then gives train_face those two terms.
None is shipped. 4,000 updates on an H100 told held-out people apart with an area under the curve of 0.993
(`eval/identity_auc` of metrics.jsonl).
"""

from vasa_jax.config import TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_loss_networks",
        train=TrainConfig(steps=6_000, batch_size=128, learning_rate=1e-3, evaluate_every=2_000, save_every=3_000),
    ).to_config_dict()

"""Stage 1, the volume codec, on the built-in corpus:

python -m vasa_jax.main --config configs/train_face.py --workdir runs/face

Writes checkpoints, metrics.jsonl, pictures/ and export/face.safetensors. These are the settings of the shipped model.
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        train=TrainConfig(steps=20_000, batch_size=64, learning_rate=8e-4, evaluate_every=2_000, save_every=5_000),
        corpus=CorpusConfig(groups=2048, refresh=2),
        face=FaceConfig(variant="face_demo", recipe="counterfactual"),
    ).to_config_dict()

"""Stage 1, the volume codec, on the built-in corpus:

python -m vasa_jax.main --config configs/train_face.py --workdir runs/face

Writes checkpoints, metrics.jsonl, pictures/ and export/face.safetensors. Half an hour of an H100 at this size reached
26.1 dB on held-out heads driven by themselves, 25.5 dB by others. The shipped codec began with these settings;
vasa_jax/pretrained/CODEC_CARD.md lists all parts of its training and the commits that hold them.
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        train=TrainConfig(
            steps=24_000,
            batch_size=128,
            learning_rate=8e-4,
            evaluate_every=4_000,
            save_every=4_000,
            best_metric="psnr_cross",
        ),
        corpus=CorpusConfig(groups=2048, chunk=1),
        face=FaceConfig(variant="face_demo_128", recipe="counterfactual"),
    ).to_config_dict()

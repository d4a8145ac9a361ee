r"""Stage 1 at 256 pixels, from a codec of half the side (train_face.py): python -m vasa_jax.main \
    --config configs/train_face_256.py --config.train.init_from=runs/face/export --workdir runs/face_256

What reads pose, dynamics and identity, the volume, G3D and the warps go on from there; what lifts a portrait into the
volume and what draws the picture starts afresh, wider. Every face of the render cache is in two head poses, and the
truth shows another than the driver's, so that the dynamics have no use for the driver's pose. Writes checkpoints,
metrics.jsonl, pictures/ and export/face.safetensors. The shipped codec reached 26.5 dB with it on held-out heads
driven by themselves, 25.2 dB by others (configs/evaluate.py).
"""

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_face",
        train=TrainConfig(
            steps=24_000,
            batch_size=64,
            learning_rate=8e-4,
            evaluate_every=4_000,
            save_every=4_000,
            best_metric="psnr_cross",
            init_from="runs/face/export",
            init_partial=True,
        ),
        corpus=CorpusConfig(groups=512, motions=10, poses=2, chunk=1, refresh=4),
        face=FaceConfig(variant="face_demo", recipe="counterfactual", latent_agreement=0.1),
    ).to_config_dict()

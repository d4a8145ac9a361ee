r"""Stage 2, the diffusion transformer, on motion latents of rendered clips (needs espeakng-loader and both exports):

python -m vasa_jax.main --config configs/train_motion.py --workdir runs/motion \
    --config.motion.face=runs/face_256/export --config.motion.audio=runs/audio/export

Writes export/motion.safetensors. These are the settings of the shipped model, whose mouths open as the true ones do
with r 0.871 (configs/evaluate.py). A small run without espeakng-loader: --config.corpus.speech=shipped.
"""

from vasa_jax.config import CorpusConfig, MotionConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_motion",
        train=TrainConfig(
            steps=20_000, batch_size=128, learning_rate=5e-4, beta2=0.999, evaluate_every=4_000, save_every=4_000
        ),
        corpus=CorpusConfig(clips=2400, voices_per_clip=3),
        motion=MotionConfig(shortest_hop=2),
    ).to_config_dict()

"""The small AudioEncoder, by naming phonemes of synthesised speech (needs espeakng-loader):

python -m vasa_jax.main --config configs/train_audio.py --workdir runs/audio

Writes export/audio.safetensors. These are the settings of the shipped model, which names 0.918 of the frames of unheard
voices and sentences right (`eval/accuracy_voice_0`). A small run without espeakng-loader:
--config.corpus.speech=shipped.
"""

from vasa_jax.config import CorpusConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_audio",
        train=TrainConfig(steps=8_000, batch_size=64, learning_rate=1e-3, evaluate_every=2_000, save_every=4_000),
        corpus=CorpusConfig(clips=2400, voices_per_clip=3),
    ).to_config_dict()

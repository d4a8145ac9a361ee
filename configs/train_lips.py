"""The lip reader, which hears how far a mouth is open and guides the lips of generated videos (needs espeakng-loader; a
small run without: --config.corpus.speech=shipped):

python -m vasa_jax.main --config configs/train_lips.py --workdir runs/lips --config.lip_reader.clips=SHARDS

SHARDS is what job prepare has written of real people's videos; without it the corpus alone teaches. Writes
export/lips.safetensors; put it beside a model's files. Another codec than the shipped one needs rendered heads:
--config.lip_reader.heads=2048. --config.corpus.cache=DIR keeps what was spoken. The shipped one, of 245 clips of GRID,
with --config.lip_reader.articulation=True --config.train.steps=700, took a minute and a half of a core, and follows
people whom no training had at r 0.47.
"""

from vasa_jax.config import CorpusConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_lips",
        train=TrainConfig(
            steps=400,
            batch_size=30,
            learning_rate=1.5e-3,
            warmup_steps=20,
            ema_decay=0.98,
            save_every=100,
            export_precision="int8",
        ),
        corpus=CorpusConfig(clips=480, voices_per_clip=2),
    ).to_config_dict()

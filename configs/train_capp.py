"""CAPP, the score of head motion against speech (VASA-1 section 4), on the built-in corpus (needs espeakng-loader):

python -m vasa_jax.main --config configs/train_capp.py --workdir runs/capp

Writes export/capp.safetensors: half an hour of one CPU core after 20 minutes of synthesis. It finds the own partner
of held-out clips among 64 with 0.875, and scores 0.396 at no shift, -0.019 at four frames. Real clips too:
--config.capp.shards=DIR, what job prepare has written; the shipped one went on from there with them (0.862; 0.446 and
0.077; its command is in pretrained/MODEL_CARD.md). Without the corpus: --config.capp.corpus=False. The size of the
paper, on a GPU: --config.capp.variant=capp_base --config.capp.audio=FILE of wav2vec 2.0. A small run without
espeakng-loader: --config.corpus.speech=shipped.
"""

from vasa_jax.config import CorpusConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_capp",
        train=TrainConfig(steps=3_000, batch_size=64, learning_rate=1e-3, evaluate_every=1_000, save_every=1_000),
        corpus=CorpusConfig(clips=1600, voices_per_clip=2),
    ).to_config_dict()

"""The sync probe, our own measure of mouth against sound, on rendered heads of the built-in corpus (needs
espeakng-loader; a small run without: --config.corpus.speech=shipped):

python -m vasa_jax.main --config configs/train_sync.py --workdir runs/sync

Writes export/sync.safetensors, which evaluate_videos reads. Real clips too: --config.sync.shards=DIR, what job prepare
has written; without the corpus: --config.sync.corpus=False. On any number of devices. --config.corpus.cache=DIR keeps
what was spoken and rendered. The shipped one,
a small run, finds the shift of 0.975 of held-out clips within one frame, of real ones 0.69.
"""

from vasa_jax.config import CorpusConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_sync",
        train=TrainConfig(steps=3_000, batch_size=16, learning_rate=1e-3, evaluate_every=500, save_every=500),
        corpus=CorpusConfig(clips=1200, voices_per_clip=2, supersample=1),
    ).to_config_dict()

"""The reader of emotions for configs/evaluate_controls.py, trained on true renders of speaking heads that nothing else
is trained on (needs espeakng-loader; a small run without: --config.corpus.speech=shipped):

python -m vasa_jax.main --config configs/train_emotion.py --workdir runs/emotion

Writes export/emotion.safetensors; put it beside the model's files. The shipped one (1200 clips) names the emotion of
true performances right with 0.95 (chance 0.14). The clips are those of train_audio and train_motion:
--config.corpus.cache=DIR lets them share what has been synthesised.
"""

from vasa_jax.config import CorpusConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_emotion",
        train=TrainConfig(steps=6_000, batch_size=64, learning_rate=1e-3, evaluate_every=2_000, save_every=3_000),
        corpus=CorpusConfig(clips=2400, voices_per_clip=3),
    ).to_config_dict()

r"""Phonemes named right on voices that no training heard, by a linear read-out of an encoder's frozen features:

python -m vasa_jax.main --config configs/evaluate_audio.py --config.speech.shards=runs/speech \
    --config.checkpoint=runs/audio_voices/export

Without a checkpoint: the shipped encoder. Writes report.md and report.json: spoken frames, visemes, closures of m, b, p
for each source of the shards (job speech_corpus) and each of its held-out voices. The shipped encoder named 0.38 of the
spoken frames of six people of GRID and 0.79 of eSpeak's, by a read-out fitted to a quarter of an hour.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_audio").to_config_dict()

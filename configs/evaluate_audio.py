r"""Phonemes named right on voices that no training heard, by a linear read-out of an encoder's frozen features:

python -m vasa_jax.main --config configs/evaluate_audio.py --config.speech.shards=runs/speech \
    --config.checkpoint=runs/audio_voices/export

Without a checkpoint: the shipped encoder. Writes report.md and report.json: spoken frames, visemes, closures of m, b, p
for each source of the shards (job speech_corpus) and each of its held-out voices.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_audio").to_config_dict()

r"""Speech of many voices, with the phoneme of every 20 ms, as shards that train_audio reads:

python -m vasa_jax.main --config configs/speech_corpus.py --config.output=runs/speech --config.speech_corpus.kokoro=60 \
    --config.speech_corpus.pico=15 --config.speech_corpus.flite=25 --config.speech_corpus.festival=20

Minutes of each source; eSpeak NG's 60 alone by default. Packages: extras speech and voices. Programs: flite, festival.
A run that was stopped goes on. Writes report.md with what is there, and the licence of each source.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="speech_corpus").to_config_dict()

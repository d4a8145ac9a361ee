"""Ten minutes of held-out speech with pauses, live: do sharpness, identity, colour or the sound's offset drift, does
silence close the mouth?

python -m vasa_jax.main --config configs/evaluate_drift.py --config.checkpoint=runs/model

Writes runs/evaluate_drift/report.md, report.json, drift.png and sections.png. The shipped model: the mouth's offset is
0 in all 60 sections, and sharpness changes by 0.2 % a minute. In whole windows: --config.hop=0.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_drift", hop=10, steps=10).to_config_dict()

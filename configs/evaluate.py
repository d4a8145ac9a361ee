"""Report on held-out heads, voices and sentences: `python -m vasa_jax.main --config configs/evaluate.py`.

Writes runs/evaluate/report.md, report.json and sheets/.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate").to_config_dict()

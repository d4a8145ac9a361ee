"""The shipped portrait speaks the shipped sentence: `python -m vasa_jax.main --config configs/demo.py`.

Writes outputs/demo.mp4.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="generate", image="demo", audio="demo", output="outputs/demo.mp4").to_config_dict()

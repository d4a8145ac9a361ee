"""Is a video or a picture marked as generated here, and what do its mark and its manifest say?

python -m vasa_jax.main --config configs/detect.py --config.video=clip.mp4
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="detect").to_config_dict()

r"""Any portrait, any speech:

python -m vasa_jax.main --config configs/generate.py \
    --config.image=me.jpg --config.audio=hello.wav --config.output=hello.mp4
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="generate").to_config_dict()

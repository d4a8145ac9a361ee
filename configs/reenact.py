r"""A portrait moves as the face of a driving video does:

python -m vasa_jax.main --config configs/reenact.py \
    --config.image=me.jpg --config.video=driving.mp4 --config.output=moved.mp4

Also: --config.region=pose or expression, --config.mode=absolute, --config.paste=True for the whole photograph,
--config.motion_output=motion.npz to keep the motion, which --config.video=motion.npz then takes, and
--config.audio=other.wav for another sound than the driving video's. --config.backdrop, shape, fps and subtitles are as
in configs/generate.py.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="reenact").to_config_dict()

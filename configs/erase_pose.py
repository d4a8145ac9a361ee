r"""Takes the head's rotation out of a codec's dynamics, as far as linear probes find it:

python -m vasa_jax.main --config configs/erase_pose.py --config.checkpoint=runs/face_256/export --workdir runs/erased

Writes runs/erased/export/face.safetensors, for train_face_decoder.py to go on from. On a codec of rendered heads R2 of
yaw fell from 0.97 to -0.03, while mouth and lids kept 0.9 (configs/evaluate_face.py). It is not for codecs of
photographs: latents of real faces keep their pose and move far (vasa_jax/pretrained/MODEL_CARD.md).
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="erase_pose").to_config_dict()

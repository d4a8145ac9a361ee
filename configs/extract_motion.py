r"""Motion latents, audio features and labels of rendered clips as shards, for train_motion (needs espeakng-loader):

python -m vasa_jax.main --config configs/extract_motion.py --workdir runs/motion_set \
    --config.motion.face=runs/face_256/export --config.motion.audio=runs/audio/export
python -m vasa_jax.main --config configs/train_motion.py --config.motion.set=runs/motion_set

The same clips as configs/train_motion.py makes on the fly; a run that was stopped goes on with the missing shards.
"""

from vasa_jax.config import CorpusConfig, VASAConfig


def get_config():
    return VASAConfig(job="extract_motion", corpus=CorpusConfig(clips=2400, voices_per_clip=3)).to_config_dict()

r"""How often the invisible mark is found after compression, scaling and cutting, and how often where there is none.

python -m vasa_jax.main --config configs/evaluate_marks.py --config.videos=CLIPS --config.marks.portraits=PORTRAITS
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_marks").to_config_dict()

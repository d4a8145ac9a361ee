r"""How often the invisible mark is found after compression, scaling and cutting, and how often where there is none.

python -m vasa_jax.main --config configs/evaluate_marks.py --config.videos=CLIPS --config.marks.portraits=PORTRAITS

Of 117 marked squares, 77 of people and 40 generated, each was found after each of 15 attacks; the least PSNR was
44.1 dB; of 30,200 unmarked windows none raised an alarm (docs/responsible-use.md).
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_marks").to_config_dict()

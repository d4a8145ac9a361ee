r"""Open weights that you downloaded (LivePortrait, JoyVASA, Ditto, HuBERT and others), as this project's files:

python -m vasa_jax.main --config configs/import_weights.py --config.files=downloads --config.output=weights

Files are told apart by what is in them. PyTorch is not needed, and nothing in a file is run. Each written file says
whose weights it holds and under what licence; the bill of materials is printed. docs/weights.md lists where each is.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="import_weights").to_config_dict()

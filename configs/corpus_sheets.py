"""Contact sheets of the built-in corpus: 64 people, looks, poses, visemes, emotions, gazes, as PNG files.

python -m vasa_jax.main --config configs/corpus_sheets.py --workdir runs/corpus_sheets
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="corpus_sheets").to_config_dict()

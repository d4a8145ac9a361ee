"""Win rates, with intervals, of the votes that people gave on a page of configs/vote_page.py:

python -m vasa_jax.main --config configs/count_votes.py --config.votes.key=runs/study/key.json --config.votes.cast=VOTES

VOTES is the folder with the file of each rater. Writes report.md and report.json to the workdir, runs/count_votes.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="count_votes").to_config_dict()

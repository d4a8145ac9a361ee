"""A page on which people compare videos of two or three systems side by side, blind, in random order:

python -m vasa_jax.main --config configs/vote_page.py --workdir runs/study --config.votes.folders="('ours','theirs')"

Files of one name are one clip. Writes to the workdir, by default runs/vote_page, the folder page/, to hand out: a
browser opens page/index.html from the disk, and no network is needed. key.json, to keep, tells which video is whose.
Each rater saves a file of votes; configs/count_votes.py sums them. More: docs/evaluation.md.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="vote_page").to_config_dict()

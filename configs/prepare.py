"""A folder of raw videos becomes labelled records for `vasa_jax.data.dataset.VASADataset`:

python -m vasa_jax.main --config configs/prepare.py --config.videos=DIR --config.output=DIR

Labels need the graph files described at the top of vasa_jax/preparation/face_backends/litert.py
(--config.prepare.models=DIR); without them `--config.prepare.analyzer=haar` makes cropped clips with sound. Goes on
where it stopped when run again. Writes OUTPUT/manifest.json, the shards, statistics.json,
report.md, contact_sheet.png and histograms.png.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="prepare").to_config_dict()

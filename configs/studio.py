"""The studio in a browser: a page to try, a live avatar and an HTTP API (docs/studio.md).

    pip install -e '.[studio]' && python -m vasa_jax.main --config configs/studio.py

Then open http://127.0.0.1:7860/. Jobs are kept in runs/studio.
"""

from vasa_jax.config import VASAConfig
from vasa_jax.limits import InputLimits


def get_config():
    limits = InputLimits(hours=1 / 12, megapixels=50, memory=0.75, streams=8)  # of strangers' files
    return VASAConfig(job="studio", limits=limits).to_config_dict()

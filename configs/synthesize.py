"""The built-in corpus as files (needs espeakng-loader, or --config.synthesis.speech=shipped): heads that speak, with
exact labels.

python -m vasa_jax.main --config configs/synthesize.py --workdir data/corpus

Writes ArrayRecord and TFRecord shards and manifest.json; run it again after an interruption and it goes on.
`vasa_jax.data.dataset.VASADataset("data/corpus")` reads them.
"""

from vasa_jax.config import SynthesisConfig, VASAConfig


def get_config():
    return VASAConfig(job="synthesize", synthesis=SynthesisConfig()).to_config_dict()

"""How fast batches are read, beside what the codec's training takes at 256 and 512 pixels:

python -m vasa_jax.main --config configs/benchmark_reading.py

Of one's own shards: --config.reading_benchmark.data=DIR. Also writes runs/benchmark_reading/reading.md and
reading.json. A pair reads a whole clip: shorter clips give more pairs per second.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="benchmark_reading").to_config_dict()

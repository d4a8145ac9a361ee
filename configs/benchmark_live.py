"""What clients of the live avatar get, for one to four sessions at once on this machine:

python -m vasa_jax.main --config configs/benchmark_live.py

Starts a studio of its own; of one that runs: --config.live_benchmark.address=http://127.0.0.1:7860. Other numbers:
--config.live_benchmark.sessions="(1,2)" --config.live_benchmark.seconds=60. Finer frames: --config.size=512. What
compiles for long: --config.live_benchmark.start=1800 (seconds; it is logged what is waited for). Also writes
runs/benchmark_live/live.md and live.json. Two busy CPU cores drew 3.1 frames per second for one session, 1.8 for each
of two (docs/studio.md).
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="benchmark_live").to_config_dict()

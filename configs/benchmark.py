"""Time, frames/s, peak memory and compile time of every stage:

python -m vasa_jax.main --config configs/benchmark.py

Other sizes: --config.benchmark.variants="('face_512', 'keypoint_512')", the second is LivePortrait's. An update
of stage 1 too: --config.benchmark.update_batches="(32,)"; nothing of speech: --config.benchmark.audio_variants="()"
--config.benchmark.motion_variants="()". What the invisible mark adds to decoding:
--config.benchmark.mark_batches="(8,)" --config.benchmark.repeats=40. Writes runs/benchmark/benchmark.md. An NVIDIA H200
took 3.7 ms for a window of 100 frames in ten steps, 2.3 ms for a frame of 512 x 512 (docs/speed.md).
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="benchmark").to_config_dict()

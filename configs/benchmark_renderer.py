"""Speed of the corpus's renderer: `python -m vasa_jax.main --config configs/benchmark_renderer.py`.

Frames/s, operations per frame and compile time at 64, 128, 256 and 512 pixels. Photo heads too:
--config.photo_heads.folder=HEADS (configs/fit_photos.py) --config.photos.models=face_models.
Also writes runs/benchmark_renderer/renderer.md and renderer.json. An NVIDIA H100: 7,716 frames/s at 128 pixels, 1,604
at 256, 471 at 512 (docs/speed.md).
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="benchmark_renderer").to_config_dict()

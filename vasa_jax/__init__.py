"""VASA-1 in JAX: one portrait and speech in, a talking-head video out.

from vasa_jax import VideoGenerator
VideoGenerator.from_pretrained().generate("me.jpg", "hello.wav").save("hello.mp4")
"""

import importlib

__version__ = "0.1.0"
__all__ = ["Controls", "VASADataset", "VideoGenerator"]

_HOMES = {
    "Controls": "vasa_jax.generation.controls",
    "VASADataset": "vasa_jax.data.dataset",
    "VideoGenerator": "vasa_jax.generation.generator",
}  # imported when used: importing the package stays cheap


def __getattr__(name: str):
    """Imports a public class at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vasa_jax' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

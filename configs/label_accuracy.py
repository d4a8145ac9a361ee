"""Labels of the face analyzer against the exact truth of the built-in corpus:

python -m vasa_jax.main --config configs/label_accuracy.py --config.prepare.models=DIR

DIR holds the graph files of vasa_jax/preparation/face_backends/litert.py.
Also writes runs/label_accuracy/label_accuracy.md and .json. With those files, 64 heads: yaw 2.6 degrees off, roll 1.0,
pitch 3.7, distance 3 %; lids r 0.89, mouth r 0.72 (docs/data.md).
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="label_accuracy").to_config_dict()

"""A folder of portrait photographs becomes photo heads, which train the codec on real faces:

python -m vasa_jax.main --config configs/fit_photos.py --config.photos.folder=DIR --config.output=DIR

Needs the graph files described at the top of vasa_jax/preparation/face_backends/litert.py and, beside them, the list
of triangles described at the top of vasa_jax/corpus/photos/topology.py (--config.photos.models=DIR). Writes
OUTPUT/heads-*.npz and OUTPUT/report.md, which lists what was refused and why. Take photographs that you may use.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="fit_photos").to_config_dict()

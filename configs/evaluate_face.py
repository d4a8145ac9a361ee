"""Report on the codec alone, on held-out people: `python -m vasa_jax.main --config configs/evaluate_face.py`.

Of one's own training: --config.checkpoint=runs/face_256/export. Writes report.md, report.json and sheet.png to
runs/evaluate_face/. The shipped codec: 25.7 dB by the same person, 25.1 dB across people.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_face").to_config_dict()

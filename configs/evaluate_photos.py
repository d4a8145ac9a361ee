r"""Photographs of people, moved by a codec: identity, sharpness, mouths, lids, gaze, flicker, background:

python -m vasa_jax.main --config configs/evaluate_photos.py --config.photos_evaluation.stills=DIR \
    --config.photos.models=face_models

DIR holds photographs of people whom training has not seen. Needs the files that configs/fit_photos.py names; identity
needs dlib (`pip install dlib-bin face_recognition_models`). With --config.photos_evaluation.clips=DIR real clips drive
themselves. --config.photos_evaluation.motion=FILE is another fixed motion, saved by reenact with the same codec
(--config.motion_output), volume or keypoint. Writes report.md, report.json and sheet.png. The shipped codec on six
photographs in the built-in motion: identity 0.22, sharpness of the face 0.87 of the portrait's, lids 1.08 and mouth
1.06 of the truth.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_photos").to_config_dict()

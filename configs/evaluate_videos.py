r"""Measures of any videos of talking faces: this model's, another system's, real ones:

python -m vasa_jax.main --config configs/evaluate_videos.py --config.videos=DIR --config.references=DIR

References, if there are any, are true videos of the same names. Or a manifest: --config.manifest=FILE.jsonl, a line for
each video: {"video": "a.mp4", "reference": "b.mp4", "portrait": "c.jpg", "gaze": [0, 0], "distance": 1.0}. Published
networks, for S_C, S_D, FVD, FID, AED, APD, E-FID: --config.videos_evaluation.networks=DIR with their files.

Eight clips of real speakers: 23 blinks a minute, loudness r 0.26 with the mouth, sync probe 0.13 (docs/evaluation.md).
Writes to the workdir, runs/evaluate_videos: protocol.json, clips.csv, report.md, report.json, plots.png, sheets/.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_videos").to_config_dict()

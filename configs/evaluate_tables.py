"""VASA-1's Tables 1, 2 and 5 in shape: real clips of talking people, the model driven by their sound, and two floors:

python -m vasa_jax.main --config configs/evaluate_tables.py --config.videos=DIR

Without videos held-out heads of the corpus are rendered (needs espeakng-loader). Rows of guidance by sound and gaze,
and steps: --config.videos_evaluation.rows="('0.5:1:50',)". Eight clips of DIR are used
(--config.videos_evaluation.most), their first eight seconds. Published networks, for S_C, S_D and FVD:
--config.videos_evaluation.networks=DIR. Writes to the workdir, runs/evaluate_tables: report.md, report.json, the videos
in made/, and a report of configs/evaluate_videos.py on each set. Eight clips of real speakers: delta P 0.36 degrees a
frame of the model, 0.33 of the people; the sync probe 0.13 with the own sound, 0.06 with another clip's.
"""

from vasa_jax.config import VASAConfig, VideosConfig


def get_config():
    return VASAConfig(job="evaluate_tables", videos_evaluation=VideosConfig(seconds=8.0)).to_config_dict()

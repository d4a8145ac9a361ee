"""VASA-1's Tables 1 and 2 in shape: real clips of talking people, the model driven by their sound, and two floors:

python -m vasa_jax.main --config configs/evaluate_tables.py --config.videos=DIR

Eight clips of DIR are used (--config.videos_evaluation.most), their first eight seconds. Published networks, for S_C,
S_D and FVD: --config.videos_evaluation.networks=DIR. Writes to the workdir, runs/evaluate_tables: report.md,
report.json, the videos in made/, and a report of configs/evaluate_videos.py on each set. A still is known to expect
the least of all, and real clips the most, wherever a figure knows anything. The codec is that for photographs.
"""

from vasa_jax.config import VASAConfig, VideosConfig


def get_config():
    return VASAConfig(
        job="evaluate_tables", checkpoint="photos", videos_evaluation=VideosConfig(seconds=8.0)
    ).to_config_dict()

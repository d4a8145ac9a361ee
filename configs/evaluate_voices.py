r"""Do the lips follow real voices? Clips of real speakers drive held-out heads; both mouths are compared:

python -m vasa_jax.main --config configs/evaluate_voices.py --config.videos=DIR --config.checkpoint=runs/model \
    --config.prepare.models=face_models

DIR holds videos with sound, face_models the graph files of
vasa_jax/preparation/face_backends/litert.py. Writes report.md, report.json and curves.png to runs/evaluate_voices;
--config.voices.speakers=FILE.tsv names people, languages and kinds: people that were in training are left out.
clips/ beside them keeps what was found in the videos for the next model. The shipped model: mouth opening r 0.419 with
the first five seconds of 31 people whom no training heard, another clip's sound -0.004.
"""

from vasa_jax.config import VASAConfig


def get_config():
    return VASAConfig(job="evaluate_voices").to_config_dict()

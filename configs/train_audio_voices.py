r"""The streaming audio encoder (2.4 M parameters) on voices of many sources, from shards of job speech_corpus:

python -m vasa_jax.main --config configs/train_audio_voices.py --workdir runs/audio_voices \
    --config.speech.shards=runs/speech

Writes export/audio.safetensors. Its evaluation names the phonemes of voices that no training heard, source by source:
with 3.4 hours of speech 0.84 of the spoken frames of eSpeak's, 0.61 of Kokoro's, 0.38 of GRID's people.
The shards hold eSpeak's voices too, so that no synthesiser is needed here. A motion transformer must be trained anew
for its features (`--config.motion.audio=runs/audio_voices/export`).
"""

from vasa_jax.config import AudioConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_audio",
        train=TrainConfig(steps=30_000, batch_size=128, learning_rate=1e-3, evaluate_every=2_000, save_every=5_000),
        speech=AudioConfig(variant="audio_stream"),
    ).to_config_dict()

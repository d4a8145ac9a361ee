r"""The streaming audio encoder (2.4 M parameters) on voices of many sources, from shards of job speech_corpus:

python -m vasa_jax.main --config configs/train_audio_voices.py --workdir runs/audio_voices \
    --config.speech.shards=runs/speech

Writes export/audio.safetensors. Its evaluation names the phonemes of voices that no training heard, source by source:
with 5.3 hours of speech, 1.7 of them by some 200 people, 0.88 of the spoken frames of eSpeak's, 0.67 of Kokoro's and
0.53 of GRID's people. Longer trainings name synthesisers better and people worse (docs/training.md).
The shards hold eSpeak's voices too, so that no synthesiser is needed here. A motion transformer must be trained anew
for its features (`--config.motion.audio=runs/audio_voices/export`).
"""

from vasa_jax.config import AudioConfig, TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_audio",
        train=TrainConfig(
            steps=5_000, batch_size=128, learning_rate=1e-3, weight_decay=0.05, evaluate_every=1_000, save_every=1_000
        ),
        speech=AudioConfig(variant="audio_stream", espeak_share=0.35, mel_changes=0.8, feature_dropout=0.1),
    ).to_config_dict()

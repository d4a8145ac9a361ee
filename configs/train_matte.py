"""The portrait matte, which tells a portrait's person from what is behind (needs what configs/fit_photos.py names):

python -m vasa_jax.main --config configs/train_matte.py --workdir runs/matte --config.photo_heads.folder=HEADS \
    --config.photos.models=face_models --config.matte.scenes=SCENES

HEADS is what job fit_photos has written, SCENES a folder of pictures of places without people: rooms, streets, gardens.
Writes export/matte.safetensors; put it beside a model's files. The shipped one calls 0.21 % of a held-out portrait
wrongly the person's and 0.41 % wrongly background, measured by MediaPipe's mattes, from which it learnt.
"""

from vasa_jax.config import TrainConfig, VASAConfig


def get_config():
    return VASAConfig(
        job="train_matte",
        train=TrainConfig(
            steps=14_000,
            batch_size=32,
            learning_rate=1e-3,
            warmup_steps=200,
            ema_decay=0.999,
            save_every=2_000,
            export_precision="int8",
        ),
    ).to_config_dict()

"""The whole of stage 1 learns: eight pairs of smooth fake heads by heart."""

import jax
import jax.numpy as jnp
import pytest

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig
from vasa_jax.data.synthetic import bank
from vasa_jax.training.face_task import FaceTask
from vasa_jax.training.trainer import VASATrainer

STEPS, PSNR = 400, 38.0


def smooth_groups(key, groups, identities, motions, size, supersample):
    """In place of the renderer: an identity is the colours of a soft disc and of its ground, a motion its place."""
    keys = jax.random.split(key, 3)
    colours = jax.random.uniform(keys[0], (groups, identities, 1, 1, 1, 2, 3), minval=0.1, maxval=0.9)
    place = jax.random.uniform(keys[1], (groups, 1, motions, 2), minval=-0.4, maxval=0.4)
    place = jnp.broadcast_to(place, (groups, identities, motions, 2))
    x = (2 * jnp.arange(size) + 1) / size - 1
    distance = jnp.hypot(x - place[..., None, :1], x[:, None] - place[..., None, 1:])
    inside = jax.nn.sigmoid((0.5 - distance) * 10)[..., None]
    disc, ground = colours[..., 0, :], colours[..., 1, :] * (0.75 + 0.25 * x[:, None, None])
    ground = jnp.broadcast_to(ground, (*inside.shape[:-1], 3))
    still = jnp.array([1.0, 0, 0, 0, 1.0, 0, 0.0])
    return {
        "rgb": bank.to_uint8(inside * disc + (1 - inside) * ground),
        "segmentation": (inside[..., 0] > 0.5).astype(jnp.uint8),
        "background": bank.to_uint8(ground[:, :, 0]),
        "pose": jnp.concatenate([jnp.broadcast_to(still, (*place.shape[:-1], 7)), place], -1),
    }


@pytest.mark.slow
def test_eight_pairs_are_learnt_by_heart(tmp_path, monkeypatch):
    monkeypatch.setattr(bank, "_render_groups", lambda key, chunk, sizes, sharding: smooth_groups(
        jax.random.fold_in(jax.random.wrap_key_data(key), chunk), *sizes))  # fmt: skip
    settings = TrainConfig(steps=STEPS, batch_size=8, learning_rate=2e-3, warmup_steps=20, precision="float32")
    corpus = CorpusConfig(groups=2, identities=2, motions=2, drivers=1, chunk=1, refresh=False, style=0.0)
    face = FaceConfig(variant="face_tiny", jitter=0.0, dynamics_noise=0.0)
    task = FaceTask(face, corpus, 8, "float32", 0)
    batch = next(task.data())
    trainer = VASATrainer(task, settings, tmp_path)
    state = trainer.initial_state()
    update, _ = trainer.compiled(state, batch)
    state, metrics = update(state, batch)
    first = float(metrics["psnr"])
    for _ in range(STEPS - 1):
        state, metrics = update(state, batch)
    last = float(metrics["psnr"])
    assert first < 15 and last > PSNR, (first, last)

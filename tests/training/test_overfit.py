"""The whole of stage 1 learns: eight pairs of smooth fake heads by heart."""

import jax
import pytest
from tiny_face import add_variant, smooth_groups

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig
from vasa_jax.corpus import render_cache
from vasa_jax.training.optimizer import Schedule
from vasa_jax.training.tasks.face import FaceTask
from vasa_jax.training.train_step import TrainStep


@pytest.mark.parametrize(
    ("variant", "steps", "decibels"),
    [
        pytest.param("face_least", 140, 35.0, marks=pytest.mark.long),
        pytest.param("face_tiny", 400, 38.0, marks=pytest.mark.slow),
    ],
)
def test_eight_pairs_are_learnt_by_heart(monkeypatch, variant, steps, decibels):
    add_variant(monkeypatch)
    monkeypatch.setattr(render_cache, "_render_groups", lambda key, chunk, poses, sizes, *_: smooth_groups(
        jax.random.fold_in(jax.random.wrap_key_data(key), chunk), *sizes))  # fmt: skip
    rate = 0.56 / steps
    settings = TrainConfig(steps=steps, batch_size=8, learning_rate=rate, warmup_steps=10, precision="float32")
    corpus = CorpusConfig(groups=2, identities=2, motions=2, drivers=1, chunk=1, refresh=0, style=0.0)
    face = FaceConfig(variant=variant, jitter=0.0, dynamics_noise=0.0)
    task = FaceTask(face, corpus, 8, "float32", 0)
    batch = next(task.data())
    train_step, schedule = TrainStep(task, settings), Schedule(settings)
    state = train_step.new_state()
    update, _ = train_step.compile(state, batch, schedule.rates(0), {})
    state, metrics = update(state, batch, schedule.rates(0), {})
    first = float(metrics["psnr"])
    for step in range(1, steps):
        state, metrics = update(state, batch, schedule.rates(step), {})
    last = float(metrics["psnr"])
    assert first < 16 and last > decibels, (first, last)

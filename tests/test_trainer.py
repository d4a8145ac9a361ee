"""The loop: bitwise resume, preemption, accumulation, averaging, non-finite losses."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError, NonFiniteError
from vasa_jax.training.trainer import Preempted, VASATrainer
from vasa_jax.weights.safetensors_io import load_params


class Stream:
    """Random regression batches, a pure function of the step."""

    def __init__(self):
        self.step = 0

    def __next__(self):
        rng = np.random.default_rng(self.step)
        self.step += 1
        x = rng.normal(size=(8, 3)).astype(np.float32)
        return {"x": x, "y": x @ np.array([[1.0], [-2.0], [0.5]], np.float32)}

    def state(self):
        return {"step": self.step}

    def restore(self, state):
        self.step = state["step"]


class Regression:
    """y = x w + b, with noise from the step's key so that randomness takes part in the resume."""

    name = "regression"

    def __init__(self, width=1, stop_at=None, bad_at=None):
        self.width, self.stop_at, self.bad_at = width, stop_at, bad_at

    def init(self, key):
        return {"w": jax.random.normal(key, (3, self.width)), "b": jnp.zeros((self.width,))}

    def data(self):
        stream = Stream()
        if self.stop_at is not None:
            task, take = self, stream.__class__.__next__

            class Stopping(Stream):
                def __next__(self):
                    if self.step == task.stop_at:
                        os.kill(os.getpid(), signal.SIGTERM)
                    return take(self)

            return Stopping()
        return stream

    def loss(self, params, batch, key):
        noise = 0.01 * jax.random.normal(key, batch["y"].shape)
        loss = jnp.square(batch["x"] @ params["w"] + params["b"] - batch["y"] + noise).mean()
        if self.bad_at is not None:
            loss = jnp.where(params["b"].sum() != 0, jnp.nan, loss)
        return loss, {"mse": loss}

    def evaluate(self, params):
        return {"w0": float(params["w"][0, 0])}

    def pictures(self, params):
        return {"flat": np.zeros((4, 4, 3), np.uint8)}

    def export(self, params):
        return params, {"variant": "regression"}


SETTINGS = TrainConfig(
    steps=12, batch_size=8, learning_rate=0.1, warmup_steps=2, log_every=2, evaluate_every=6, save_every=4, keep=2
)


def equal(a, b):
    return all(bool(jnp.array_equal(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_resume_is_bitwise_equal(tmp_path):
    whole = VASATrainer(Regression(), SETTINGS, tmp_path / "whole").fit()
    with pytest.raises(Preempted) as stop:
        VASATrainer(Regression(stop_at=6), SETTINGS, tmp_path / "parts").fit()
    assert stop.value.code == 75
    resumed = VASATrainer(Regression(), SETTINGS, tmp_path / "parts").fit()
    assert int(resumed.step) == 12
    assert equal(whole, resumed)
    exports = [load_params(tmp_path / run / "export" / "regression.safetensors") for run in ("whole", "parts")]
    assert equal(exports[0][0], exports[1][0])
    assert exports[0][1] == {"variant": "regression", "step": 12}


def test_training_reduces_the_loss_and_logs_it(tmp_path):
    VASATrainer(Regression(), dataclasses.replace(SETTINGS, steps=200, log_every=10), tmp_path).fit()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 20
    assert losses[-1] < 0.01 < losses[0]
    assert list((tmp_path / "pictures").glob("flat-*.png"))


def test_finished_run_changes_nothing(tmp_path):
    first = VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    again = VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    assert equal(first, again)


def test_checkpoints_rotate(tmp_path):
    VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    assert kept == ["12", "8"]


def test_accumulation_equals_one_large_batch(tmp_path):
    class Plain(Regression):
        def loss(self, params, batch, key):
            loss = jnp.square(batch["x"] @ params["w"] + params["b"] - batch["y"]).mean()
            return loss, {}

    one = VASATrainer(Plain(), SETTINGS, tmp_path / "one").fit()
    four = VASATrainer(Plain(), dataclasses.replace(SETTINGS, accumulate=4), tmp_path / "four").fit()
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_average_follows_its_closed_form(tmp_path):
    trainer = VASATrainer(Regression(), dataclasses.replace(SETTINGS, ema_decay=0.5), tmp_path)
    state, stream = trainer.initial_state(), Stream()
    expected = np.asarray(state.params["w"], np.float64)
    for step in range(5):
        state, _ = trainer.update(state, next(stream))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.asarray(state.params["w"], np.float64)
    np.testing.assert_allclose(state.ema["w"], expected, rtol=1e-5)


def test_non_finite_loss_stops_the_run(tmp_path):
    with pytest.raises(NonFiniteError, match="regression: the loss is nan"):
        VASATrainer(Regression(bad_at=3), SETTINGS, tmp_path).fit()
    assert not (tmp_path / "export").exists()


def test_checkpoint_of_another_model_is_refused(tmp_path):
    VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    with pytest.raises(InputError, match="does not fit this run"):
        VASATrainer(Regression(width=2), SETTINGS, tmp_path).fit()


def test_training_starts_from_an_export(tmp_path):
    first = VASATrainer(Regression(), SETTINGS, tmp_path / "first").fit()
    settings = dataclasses.replace(SETTINGS, initial=str(tmp_path / "first" / "export"))
    start = VASATrainer(Regression(), settings, tmp_path / "second").initial_state()
    for a, b in zip(jax.tree.leaves(first.ema), jax.tree.leaves(start.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2)
    assert int(start.step) == 0

"""A regression as a training task: cheap to compile, and its randomness takes part in a resume."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.config import TrainConfig
from vasa_jax.training.tasks.base import Task


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


class Regression(Task):
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

    def images(self, params):
        return {"flat": np.zeros((4, 4, 3), np.uint8)}

    def export(self, params):
        return params, {"variant": "regression"}


SETTINGS = TrainConfig(
    steps=12, batch_size=8, learning_rate=0.1, warmup_steps=2, log_every=2, evaluate_every=6, save_every=4, keep=2
)

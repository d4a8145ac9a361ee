"""The one training loop.

Order at every step, fixed: evaluate, save (and export), next batch, update, log. The state, the data position and the
timer are saved together before the next batch is taken, so that a run that was stopped continues as if it had not been.
"""

import functools
import math
import signal
import time
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from vasa_jax.config import TrainConfig
from vasa_jax.errors import NonFiniteError
from vasa_jax.training.checkpoint import CheckpointManager
from vasa_jax.training.logger import TrainingLogger
from vasa_jax.training.optim import learning_rate_schedule, make_optimizer
from vasa_jax.training.sharding import batch_sharding, make_mesh, state_sharding
from vasa_jax.training.task import Batch, Task
from vasa_jax.weights.safetensors_io import load_params, save_params


@flax.struct.dataclass
class TrainState:
    """Everything an update changes; `step` counts updates done."""

    step: jax.Array
    params: Any
    ema: Any
    optimizer: Any


class Preempted(SystemExit):
    """SIGTERM came and the state was saved: exit code 75."""

    def __init__(self):
        super().__init__(75)


class VASATrainer:
    """Trains a task in a workdir: resumes from its newest checkpoint, exports EMA parameters with each."""

    def __init__(self, task: Task, settings: TrainConfig, workdir: str | Path, seed: int = 0):
        self._task = task
        self._settings = settings
        self._workdir = Path(workdir)
        self._key = jax.random.fold_in(jax.random.key(seed), sum(task.name.encode()))
        self._optimizer = make_optimizer(settings)
        self._schedule = learning_rate_schedule(settings)
        self._mesh = make_mesh(settings)
        self._stop = False

    def fit(self) -> TrainState:
        """Runs to the last step; NonFiniteError on a loss that is not finite, Preempted (exit code 75) on SIGTERM."""
        settings, task = self._settings, self._task
        data = task.data()
        checkpoints = CheckpointManager(self._workdir / "checkpoints", settings.keep)
        state = self.initial_state()
        timer = {"seconds": 0.0}
        if checkpoints.latest_step() is not None:
            state, position, timer = checkpoints.restore(state, data.state(), timer)
            data.restore(position)
        logger = TrainingLogger(self._workdir, settings.steps)
        previous_handler = signal.signal(signal.SIGTERM, self._on_sigterm)
        sharding = batch_sharding(self._mesh)
        metrics = None
        pending, start, wait, window = None, time.time() - timer["seconds"], 0.0, time.time()
        step = int(state.step)
        try:
            while True:
                last = step >= settings.steps or (settings.minutes and time.time() - start > 60 * settings.minutes)
                if metrics is not None and (self._due(settings.save_every, step, last) or self._stop):
                    self._require_finite(step, metrics)  # a broken state must not replace a good checkpoint
                if self._due(settings.evaluate_every, step, last):
                    self._evaluate(state, step, logger)
                if self._due(settings.save_every, step, last) or self._stop:
                    checkpoints.save(step, state, data.state(), {"seconds": time.time() - start})
                    self.export(state)
                if self._stop:
                    raise Preempted()
                if last:
                    break
                waited = time.time()
                batch = jax.device_put(next(data), sharding)
                wait += time.time() - waited
                state, metrics = self.update(state, batch)
                step += 1
                if step % settings.log_every == 0 or step == settings.steps:
                    # The figures of the logging step before: reading them does not make the host wait for this one.
                    self._log(logger, pending)
                    elapsed = time.time() - window
                    rate = {"steps_per_second": settings.log_every / elapsed, "data_wait": wait / elapsed}
                    pending, wait, window = (step, metrics, rate), 0.0, time.time()
            self._log(logger, pending)
            return state
        finally:
            signal.signal(signal.SIGTERM, previous_handler)
            checkpoints.close()
            logger.close()

    def initial_state(self) -> TrainState:
        """Fresh (or, with `initial`, imported) parameters, placed on the mesh."""

        def create(key) -> TrainState:
            params = self._task.init(key)
            return TrainState(jnp.zeros((), jnp.int32), params, params, self._optimizer.init(params))

        shardings = state_sharding(self._mesh, jax.eval_shape(create, self._key))
        state = jax.jit(create, out_shardings=shardings)(self._key)
        if self._settings.initial:
            path = Path(self._settings.initial)
            imported, _ = load_params(path / f"{self._task.name}.safetensors" if path.is_dir() else path)
            imported = jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), state.params, imported)
            imported = jax.device_put(imported, shardings.params)
            state = state.replace(params=imported, ema=jax.tree.map(jnp.copy, imported))
        # The exported average must not share buffers with the parameters: the update donates both.
        return state.replace(ema=jax.tree.map(jnp.copy, state.ema))

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def update(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        """One optimiser update; the old state's memory is reused."""
        key = jax.random.fold_in(jax.random.fold_in(self._key, 1), state.step)
        grads, metrics = self._gradients(state.params, batch, key)
        updates, optimizer = self._optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        # Early on the average follows closely, or it would carry the random start for thousands of steps.
        decay = jnp.minimum(self._settings.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = optax.incremental_update(params, state.ema, 1.0 - decay)
        metrics = {
            **metrics,
            "gradient_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(updates),
            "learning_rate": self._schedule(state.step),
        }
        return TrainState(state.step + 1, params, ema, optimizer), metrics

    def _gradients(self, params, batch: Batch, key: jax.Array):
        value_and_grad = jax.value_and_grad(self._task.loss, has_aux=True)
        parts = self._settings.accumulate
        if parts == 1:
            (loss, metrics), grads = value_and_grad(params, batch, key)
            return grads, {"loss": loss, **metrics}

        def one(carry, micro):
            index, part = micro
            (loss, metrics), grads = value_and_grad(params, part, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, carry, grads), {"loss": loss, **metrics}

        micro = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)
        zeros = jax.tree.map(jnp.zeros_like, params)
        grads, metrics = jax.lax.scan(one, zeros, (jnp.arange(parts), micro))
        return jax.tree.map(lambda g: g / parts, grads), jax.tree.map(lambda m: m.mean(0), metrics)

    def export(self, state: TrainState) -> Path:
        """Writes the EMA parameters to export/<task>.safetensors."""
        params, metadata = self._task.export(jax.device_get(state.ema))
        path = self._workdir / "export" / f"{self._task.name}.safetensors"
        save_params(path, params, {**metadata, "step": int(state.step)})
        return path

    def _evaluate(self, state: TrainState, step: int, logger: TrainingLogger) -> None:
        figures = self._task.evaluate(state.ema)
        if figures:
            logger.scalars(step, {f"eval/{name}": value for name, value in figures.items()})
        logger.images(step, self._task.pictures(state.ema))

    def _log(self, logger: TrainingLogger, pending) -> None:
        if pending is None:
            return
        step, metrics, rate = pending
        logger.scalars(step, {name: float(value) for name, value in jax.device_get(metrics).items()} | rate)
        self._require_finite(step, metrics)

    def _require_finite(self, step: int, metrics: dict[str, jax.Array]) -> None:
        loss = float(metrics["loss"])
        if not math.isfinite(loss):
            raise NonFiniteError(f"{self._task.name}: the loss is {loss} at step {step}")

    @staticmethod
    def _due(every: int, step: int, last: bool) -> bool:
        return last or bool(every and step and step % every == 0)

    def _on_sigterm(self, *_) -> None:
        self._stop = True

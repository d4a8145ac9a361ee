"""The one training loop.

Order at every step, fixed: evaluate, save (and export), next batch, update, log. The state, the data position and the
timer are saved together before the next batch is taken, so that a run that was stopped continues as if it had not been.
"""

import dataclasses
import functools
import signal
import time
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from vasa_jax.config import TrainConfig
from vasa_jax.settings import nearest_name
from vasa_jax.training.checkpoint import CheckpointManager, matching
from vasa_jax.training.cost import UpdateCost, update_cost
from vasa_jax.training.gradients import Loss, rematerialised, row_major, value_and_gradients
from vasa_jax.training.initial import load_initial
from vasa_jax.training.log_window import LogWindow
from vasa_jax.training.logger import TrainingLogger
from vasa_jax.training.optimizer import (
    hold_frozen,
    make_opponent_optimizer,
    make_optimizer,
    tree_norm,
    with_averages,
)
from vasa_jax.training.pace import Pace, Rates
from vasa_jax.training.processes import agreed, is_primary, on_host, preemption_announced
from vasa_jax.training.sharding import batch_sharding, make_mesh, place_batch, state_sharding
from vasa_jax.training.tasks.base import Batch, Params, Task, has_guidance, initial_opponent
from vasa_jax.weights.safetensors_io import save_params


@flax.struct.dataclass
class Opponent:
    """The second player of a game (see task.TwoPlayerTask)."""

    params: Any
    optimizer: Any


@flax.struct.dataclass
class TrainState:
    """Everything an update changes; `step` counts updates done."""

    step: jax.Array
    params: Any
    ema: Any
    optimizer: Any

    opponent = None  # not a field: checkpoints of a task that plays alone know of none


@flax.struct.dataclass
class GameState(TrainState):
    """The same for a task with a second player."""

    opponent: Opponent


class Preempted(SystemExit):
    """SIGTERM came and the state was saved: exit code 75."""

    def __init__(self):
        super().__init__(75)


class _EvaluationStopped(BaseException):
    """SIGTERM came during an evaluation."""


class VASATrainer:
    """Trains a task in a workdir: resumes from its newest checkpoint, exports EMA parameters with each.

    `mesh` replaces the one over all devices that `settings` describe.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainConfig,
        workdir: str | Path,
        seed: int = 0,
        mesh: jax.sharding.Mesh | None = None,
    ):
        self._task = task
        self._settings = settings
        self._workdir = Path(workdir)
        self._key = jax.random.fold_in(jax.random.key(seed), sum(task.name.encode()))
        self._optimizer = make_optimizer(settings)
        self._opponent_optimizer = make_opponent_optimizer(settings)
        self.pace = Pace(settings)
        self._mesh = mesh or make_mesh(settings)
        self._spread = batch_sharding(self._mesh)
        self._stop = False
        self._evaluating = False

    def fit(self) -> TrainState:
        """Runs to the last step; NonFiniteError on a loss that is not finite, Preempted (exit code 75) on SIGTERM."""
        settings = self._settings
        data = self.data()
        checkpoints = CheckpointManager(
            self._workdir / "checkpoints", settings.keep, settings.best_metric, settings.best_is_lowest
        )
        state = self.initial_state()
        timer = {"seconds": 0.0}
        if checkpoints.latest_step() is not None:
            state, position, timer = checkpoints.restore(state, data.state(), timer)
            data.restore(position)
        logger = TrainingLogger(
            self._workdir, settings.steps, settings.wandb, dataclasses.asdict(settings), is_primary()
        )
        previous_handler = self._listen()
        start = time.time() - timer["seconds"]
        update, cost, pending, window = None, None, None, LogWindow()
        frozen = self.frozen()
        step = int(state.step)
        first, passed, held = step, 0.0, not self._settings.frozen_from
        try:
            while True:
                begin = time.time()
                passed = self._share_of_minutes(step, start, passed)
                last = step >= settings.steps or passed >= 1.0
                stop = self._preempted(step)
                figures = {}
                if self._due(settings.evaluate_every, step, last) and not stop:
                    figures = self._evaluate(state, step, logger)
                    stop = stop or self._stop
                if self._due(settings.save_every, step, last) or stop:
                    for part in (pending, window):
                        if part is not None:  # a broken state must not replace a good checkpoint
                            part.require_finite(self._task.name)
                    checkpoints.save(step, state, data.state(), {"seconds": time.time() - start}, figures)
                    if step > first or last:
                        self.export(state)
                if stop:
                    raise Preempted()
                if last:
                    break
                if not held and self.pace.is_frozen(step, passed):
                    held, state = True, self._freeze(state)
                    logger.note(f"step {step}: {', '.join(settings.frozen)} keep their average's values from here")
                window.pause(time.time() - begin)
                begin, position = time.time(), data.state()
                batch = place_batch(next(data), self._spread)
                waited = time.time() - begin
                guidance = self.guidance(step, frozen)
                rates = self.pace.rates(step, passed)
                if update is None:
                    update, cost = self.compiled(state, batch, rates, guidance)
                    logger.note(str(cost))
                    window = LogWindow()
                state, metrics = update(state, batch, rates, guidance)
                step += 1
                window.add(step, position, metrics, waited)
                if step % settings.log_every == 0 or step == settings.steps:
                    # The figures of the line before: reading them does not make the host wait for this one.
                    self._log(logger, pending)
                    pending, window = window.finish(settings.batch_size, cost), LogWindow()
            self._log(logger, pending)
            return state
        finally:
            if previous_handler is not None:
                signal.signal(signal.SIGTERM, previous_handler)
            checkpoints.close()
            logger.close()
            if hasattr(data, "close"):
                data.close()

    def data(self) -> Any:
        """The task's batches, made for the devices of the mesh."""
        return self._task.data(self._spread) if self._mesh.size > 1 else self._task.data()

    def frozen(self) -> Params:
        """The frozen parameters on every device."""
        frozen = self._task.frozen() if has_guidance(self._task) else {}
        return jax.device_put(frozen, NamedSharding(self._mesh, PartitionSpec())) if frozen else frozen

    def guidance(self, step: int, frozen: Params) -> dict[str, Any]:
        """The arguments of a `GuidedTask`'s loss for the next update; {} for others."""
        if not has_guidance(self._task):
            return {}
        return {"weights": self._task.weights(step), "frozen": frozen}

    def abstract_state(self) -> TrainState:
        """Shapes, types and shardings of the state; InputError when the sharding rules cannot be met."""
        shapes = jax.eval_shape(self._create)
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, self._shardings(shapes)
        )

    def initial_state(self) -> TrainState:
        """Fresh (or, with `initial`, imported) parameters, placed on the mesh."""
        shardings = jax.tree.map(lambda x: x.sharding, self.abstract_state())
        state = jax.jit(self._create, out_shardings=shardings)()
        if self._settings.initial:
            fresh = on_host(state.params)
            imported = load_initial(self._settings, self._task.name)
            imported, left = matching(fresh, imported, self._settings.initial, self._settings.initial_partial)
            if left and is_primary():
                print(f"{self._settings.initial}: {len(left)} arrays start afresh: {', '.join(left)}", flush=True)
            imported = jax.tree.map(lambda old, new: new.astype(old.dtype), fresh, imported)
            imported = jax.device_put(imported, shardings.params)
            state = state.replace(params=imported, ema=imported)
        # The exported average must not share buffers with the parameters: the update donates both.
        return state.replace(ema=jax.tree.map(jnp.copy, state.ema))

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def update(
        self, state: TrainState, batch: Batch, rates: Rates, guidance: dict[str, Any] | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One optimiser update at `rates` (see `Pace.rates`); the old state's memory is reused.

        `guidance` has the weights and frozen parameters of a `GuidedTask`; without it the task's own are constants.
        """
        key = jax.random.fold_in(jax.random.fold_in(self._key, 1), state.step)
        players = (state.params, state.opponent.params if state.opponent else None)
        (grads, opponent_grads), metrics = value_and_gradients(
            self._loss(guidance or {}), players, batch, key, self._settings.accumulate, self._spread
        )
        grads = row_major(grads)
        norm = self._norm(grads)
        updates, optimizer = self._optimizer.update(
            grads, state.optimizer, state.params, norm=norm, rate=rates["player"], frozen_rate=rates["frozen"]
        )
        params = optax.apply_updates(state.params, updates)
        # Early on the average follows closely, or it would carry the random start for thousands of steps.
        decay = jnp.minimum(self._settings.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        # In this form a parameter that equals its average leaves it exactly as it is.
        ema = jax.tree.map(lambda average, new: average + (1.0 - decay) * (new - average), state.ema, params)
        # Norms that were summed while the arrays are written would keep XLA from writing these in place.
        updates, params = jax.lax.optimization_barrier((updates, params))
        metrics = {
            **metrics,
            "gradient_norm": norm,
            "update_norm": self._norm(updates),
            "parameter_norm": self._norm(params),
            "learning_rate": rates["player"],
        }
        state = state.replace(step=state.step + 1, params=params, ema=ema, optimizer=optimizer)
        if state.opponent:
            opponent, norm = self._update_opponent(state.opponent, opponent_grads, rates["opponent"])
            metrics["opponent_gradient_norm"] = norm
            state = state.replace(opponent=opponent)
        # Left alone, the compiler might place the new state otherwise than the old one.
        return jax.lax.with_sharding_constraint(state, self._shardings(state)), metrics

    def compiled(
        self, state: TrainState, batch: Batch, rates: Rates, guidance: dict[str, Any] | None = None
    ) -> tuple[Any, UpdateCost]:
        """(`update` compiled for these (abstract) arguments, what it costs)."""
        arguments = (state, batch, rates) if guidance is None else (state, batch, rates, guidance)
        traced = VASATrainer.update.trace(self, *arguments)
        program = traced.lower().compile()
        return program, update_cost(traced, program, self._mesh.size)

    def export(self, state: TrainState) -> Path:
        """Writes the EMA parameters to export/<task>.safetensors."""
        path = self._workdir / "export" / f"{self._task.name}.safetensors"
        average, step = on_host(state.ema), int(state.step)
        if is_primary():
            params, metadata = self._task.export(average)
            save_params(path, params, {**metadata, "step": step})
        return path

    def _freeze(self, state: TrainState) -> TrainState:
        """The frozen parameters at their average, which the export then has for good; exported at once, so that another
        stage can start from them. A resumed run that was frozen before finds them there already."""
        state = state.replace(params=with_averages(self._settings.frozen, state.params, state.ema))
        self.export(state)
        return state

    def _create(self) -> TrainState:
        params = self._task.init(self._key)
        arguments = (jnp.zeros((), jnp.int32), params, params, self._optimizer.init(params))
        opponent = initial_opponent(self._task, jax.random.fold_in(self._key, 2))
        if opponent is None:
            return TrainState(*arguments)
        return GameState(*arguments, Opponent(opponent, self._opponent_optimizer.init(opponent)))

    def _loss(self, guidance: dict[str, Any]) -> Loss:
        """The task's loss as a function of (both players' parameters, batch, key)."""

        def loss(players, batch, key):
            params, opponent = players
            if not self._settings.frozen_from:
                params = hold_frozen(self._settings.frozen, params)
            rest = guidance if opponent is None else {**guidance, "opponent": opponent}
            return self._task.loss(params, batch, key, **rest)

        return rematerialised(loss) if self._settings.remat else loss

    def _update_opponent(self, opponent: Opponent, grads: Params, rate: jax.Array) -> tuple[Opponent, jax.Array]:
        """(the opponent after its step, the norm of its gradient); without any gradient it rests, counts and all."""
        norm = self._norm(grads)
        updates, optimizer = self._opponent_optimizer.update(
            grads, opponent.optimizer, opponent.params, norm=norm, rate=rate
        )
        moved = Opponent(optax.apply_updates(opponent.params, updates), optimizer)
        return jax.tree.map(lambda new, old: jnp.where(norm > 0, new, old), moved, opponent), norm

    def _norm(self, tree: Params) -> jax.Array:
        settings = self._settings
        return tree_norm(tree, whole=settings.fsdp_axis == 1 and not settings.sharding_rules)

    def _shardings(self, state: TrainState) -> TrainState:
        return state_sharding(self._mesh, state, self._settings.sharding_rules)

    def _evaluate(self, state: TrainState, step: int, logger: TrainingLogger) -> dict[str, float]:
        """The figures, logged; {} when SIGTERM cut the evaluation short."""
        params = state.ema if jax.process_count() == 1 else on_host(state.ema)
        self._evaluating = True
        try:
            figures = agreed(self._task.evaluate(params))
            pictures = self._task.pictures(params) if is_primary() else {}
        except _EvaluationStopped:
            return {}
        finally:
            self._evaluating = False
        if figures:
            logger.scalars(step, {f"eval/{name}": value for name, value in figures.items()})
        logger.pictures(step, pictures)
        best = self._settings.best_metric
        if best and best not in figures:
            logger.note(f"config.train.best_metric: no figure '{best}' to choose by;{nearest_name(best, figures)}")
        return figures

    def _log(self, logger: TrainingLogger, pending: LogWindow | None) -> None:
        if pending is not None:
            logger.scalars(pending.step(), pending.figures())
            pending.require_finite(self._task.name)

    @staticmethod
    def _due(every: int, step: int, last: bool) -> bool:
        return last or bool(every and step and step % every == 0)

    def _share_of_minutes(self, step: int, start: float, before: float) -> float:
        """How much of the time that the settings allow is over, 0 without a limit; `before` is the share last told."""
        if not self._settings.minutes:
            return 0.0
        if jax.process_count() > 1 and step % self._settings.log_every:
            return before  # asking the others has its price
        return agreed((time.time() - start) / (60 * self._settings.minutes))

    def _listen(self) -> Any:
        """Takes SIGTERM over; of several processes JAX does, to tell all of them."""
        return signal.signal(signal.SIGTERM, self._on_sigterm) if jax.process_count() == 1 else None

    def _preempted(self, step: int) -> bool:
        return self._stop if jax.process_count() == 1 else preemption_announced(step)

    def _on_sigterm(self, *_) -> None:
        self._stop = True
        if self._evaluating:
            self._evaluating = False
            raise _EvaluationStopped()

"""The one training loop.

Where a run starts, the first that applies:

1. the newest checkpoint of its workdir: it continues, bit for bit;
2. the parameters that `train.init_from` names, an export or checkpoints of another run;
3. fresh parameters.

Order at every step, fixed: evaluate, save (and export), next batch, update, log. The state, the data position and the
timer are saved together before the next batch is taken. So a run that was stopped continues as if it had not been.
"""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from clu import parameter_overview

import vasa_jax
from vasa_jax.config import TrainConfig
from vasa_jax.settings import nearest_name
from vasa_jax.training.checkpoint import CheckpointManager, load_initial, matching
from vasa_jax.training.chrono import Chrono, LogWindow
from vasa_jax.training.cost import UpdateCost
from vasa_jax.training.logger import TrainingLogger
from vasa_jax.training.optimizer import Schedule, with_averages
from vasa_jax.training.preemption import Preempted, Preemption
from vasa_jax.training.processes import agreed, is_primary, on_host
from vasa_jax.training.sharding import place_batch
from vasa_jax.training.tasks.base import DataIterator, Task
from vasa_jax.training.train_state import TrainState
from vasa_jax.training.train_step import TrainStep
from vasa_jax.training.workdir import held_workdir
from vasa_jax.weights.safetensors_io import save_params

PROFILE_AFTER = 3  # updates of a run that are left out of its profile: the first ones also compile and allocate


@dataclasses.dataclass
class RunState:
    """What changes while a run goes on."""

    state: TrainState
    data: DataIterator
    chrono: Chrono
    step: int  # updates done
    first: int  # the step that this process started from
    evaluated: bool  # whether the checkpoint that it started from has metrics
    frozen: bool  # whether `train.frozen` has its final values
    passed: float = 0.0  # share of the run's minutes that is over
    update: Any = None  # the compiled program, from the first update on
    cost: UpdateCost | None = None
    window: LogWindow = dataclasses.field(default_factory=LogWindow)  # updates since the last line
    pending: LogWindow | None = None  # the line before: reading it does not make the host wait for this one


class VASATrainer:
    """Trains a task in a workdir: resumes from its newest checkpoint, exports EMA parameters with each.

    `mesh` replaces the one over all devices that `settings` describe. `files` are texts by name that are written to the
    workdir once the run has started, not if it is refused, and into each checkpoint.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainConfig,
        workdir: str | Path,
        seed: int = 0,
        mesh: jax.sharding.Mesh | None = None,
        files: dict[str, str] | None = None,
    ):
        self._task = task
        self._settings = settings
        self._workdir = Path(workdir)
        self._files = files or {}
        self._schedule = Schedule(settings)
        self._train_step = TrainStep(task, settings, seed, mesh)
        self._data_settings = {"seed": seed, "train.batch_size": settings.batch_size, **task.data_settings()}

    def fit(self) -> TrainState:
        """Runs to the last step and returns the state.

        Raises:
            InputError: the settings do not fit the task, the devices, or what the workdir holds; the workdir cannot be
                written, or another run holds it.
            NonFiniteError: a loss is not finite.
            Preempted: SIGTERM came, and the state was saved, if there was one yet (exit code 75).
        """
        with held_workdir(self._workdir) if is_primary() else contextlib.nullcontext():
            return self._fit()

    def _fit(self) -> TrainState:
        settings = self._settings
        with contextlib.ExitStack() as closing:
            preemption = Preemption()
            closing.callback(preemption.close)
            checkpoints = CheckpointManager(
                self._workdir / "checkpoints",
                settings.keep,
                settings.best_metric,
                settings.best_is_lowest,
                {"version": vasa_jax.__version__, "files": self._files},
            )
            closing.callback(checkpoints.close)
            run = preemption.interruptible(lambda: self._started(checkpoints, closing))
            if run is None:
                raise Preempted()
            logger = TrainingLogger(
                self._workdir, settings.steps, settings.wandb, dataclasses.asdict(settings), is_primary(), run.step
            )
            closing.callback(logger.close)
            self._describe(run.state, logger)
            profiler = Profiler(self._workdir / "profile", settings.profile if is_primary() else 0, run.first)
            closing.callback(profiler.stop)
            # What the host hands to the devices it hands over knowingly: a hidden copy would stall every update.
            closing.enter_context(jax.transfer_guard("disallow"))
            while self._prepare_step(run, checkpoints, logger, preemption):
                profiler.before(run.step)
                self._take_step(run, logger)
                profiler.after(run.step, run.state.step)
            self._log(run, logger)
            return run.state

    def initial_state(self) -> TrainState:
        """Returns the state of a run that no checkpoint continues: imported parameters, or fresh ones, on the mesh.

        Raises:
            InputError: `train.init_from` cannot be read, or does not fit the model.
        """
        step, source, partial = self._train_step, self._settings.init_from, self._settings.init_partial
        if not source:
            return step.new_state()
        imported = self._task.of_export(load_initial(self._settings, self._task.name))
        expected = step.abstract_state().params
        params, left = matching(expected, imported, source, partial)
        if left:
            params, _ = matching(on_host(step.new_state().params), imported, source, partial)
            if is_primary():
                print(f"{source}: {len(left)} arrays start afresh: {', '.join(left)}", flush=True)
        return step.new_state(jax.tree.map(lambda shape, new: new.astype(shape.dtype), expected, params))

    def export(self, state: TrainState) -> Path:
        """Writes the EMA parameters to export/<task>.safetensors; returns its path."""
        path = self._workdir / "export" / f"{self._task.name}.safetensors"
        average, step = on_host(state.ema), int(jax.device_get(state.step))
        if is_primary():
            params, metadata = self._task.export(average)
            dtype = jnp.dtype(self._settings.export_precision)
            metadata = {**metadata, "step": step, "version": vasa_jax.__version__}
            save_params(path, params, metadata, dtype)
        return path

    def _started(self, checkpoints: CheckpointManager, closing: contextlib.ExitStack) -> RunState:
        """The run at its start, by the precedence above."""
        data = self._task.data(self._train_step.batch_sharding) if self._train_step.mesh.size > 1 else self._task.data()
        if hasattr(data, "close"):  # holds files or processes
            closing.callback(data.close)
        found, chrono = checkpoints.latest_step(), Chrono()
        if found is None:
            state = self.initial_state()
        else:
            state, position, timer = checkpoints.restore(
                self._train_step.abstract_state(), data.state(), chrono.state(), settings=self._data_settings
            )
            data.restore(position)
            chrono = Chrono(**timer)
        step = int(jax.device_get(state.step))
        evaluated = found is not None and checkpoints.evaluated(step)
        return RunState(state, data, chrono, step, step, evaluated, frozen=not self._settings.frozen_from)

    def _describe(self, state: TrainState, logger: TrainingLogger) -> None:
        """Writes what the run was started with, and its parameters' names, shapes and shardings."""
        for name, text in self._files.items():
            logger.text(name, text)
        table = parameter_overview.get_parameter_overview(state.params, include_stats="sharding")
        logger.text("parameters.txt", table + "\n")
        logger.note(f"{self._task.name}: {parameter_overview.count_parameters(state.params):,} parameters")
        for note in self._task.notes() if is_primary() else ():
            logger.note(note)

    def _prepare_step(
        self, run: RunState, checkpoints: CheckpointManager, logger: TrainingLogger, preemption: Preemption
    ) -> bool:
        """Evaluates, saves, exports and freezes where they are due; False after the last step."""
        settings, begin = self._settings, time.time()
        run.passed = self._share_of_minutes(run)
        last = run.step >= settings.steps or run.passed >= 1.0
        stop = preemption.requested(run.step)
        with jax.transfer_guard("allow"):
            metrics: dict[str, float] = {}
            known = run.evaluated and run.step == run.first
            if self._due(settings.evaluate_every, run.step, last) and not stop and not known:
                metrics = self._evaluate(run, logger, preemption)
                stop = stop or preemption.noticed
            if self._due(settings.save_every, run.step, last) or stop:
                self._log(run, logger)
                # A broken state must not replace a good checkpoint.
                run.window.require_finite(self._task.name)
                checkpoints.save(
                    run.step, run.state, run.data.state(), run.chrono.state(), metrics, self._data_settings
                )
                if run.step > run.first or last:
                    self.export(run.state)
            if stop:
                raise Preempted()
            if not last and not run.frozen and self._schedule.is_frozen(run.step, run.passed):
                self._freeze(run, logger)
        run.window.pause(time.time() - begin)
        return not last

    def _take_step(self, run: RunState, logger: TrainingLogger) -> None:
        """One update, and the line of the log that it completes."""
        begin, position = time.time(), run.data.state()
        with jax.transfer_guard("allow"):
            batch = place_batch(next(run.data), self._train_step.batch_sharding)
        waited = time.time() - begin
        arguments = self._train_step.arguments(run.step)
        rates = self._train_step.rates(self._schedule.rates(run.step, run.passed))
        if run.update is None:
            with jax.transfer_guard("allow"):
                run.update, run.cost = self._train_step.compile(run.state, batch, rates, arguments)
            logger.note(str(run.cost))
            run.window = LogWindow()
        with jax.profiler.StepTraceAnnotation("train", step_num=run.step):
            run.state, metrics = run.update(run.state, batch, rates, arguments)
        run.step += 1
        run.window.add(run.step, position, metrics, waited)
        if run.step % self._settings.log_every == 0 or run.step == self._settings.steps:
            self._log(run, logger)
            run.pending, run.window = run.window.finish(self._settings.batch_size, run.cost), LogWindow()

    def _evaluate(self, run: RunState, logger: TrainingLogger, preemption: Preemption) -> dict[str, float]:
        """The metrics, logged; {} when SIGTERM cut the evaluation short."""
        params = run.state.ema if jax.process_count() == 1 else on_host(run.state.ema)

        def evaluate():
            metrics = agreed(self._task.evaluate(params))
            return metrics, self._task.images(params) if is_primary() else {}

        found = preemption.interruptible(evaluate)
        if found is None:
            return {}
        metrics, images = found
        if metrics:
            logger.scalars(run.step, {f"eval/{name}": value for name, value in metrics.items()})
        logger.images(run.step, images)
        best = self._settings.best_metric
        if best and best not in metrics:
            logger.note(f"config.train.best_metric: no metric '{best}' to choose by;{nearest_name(best, metrics)}")
        return metrics

    def _freeze(self, run: RunState, logger: TrainingLogger) -> None:
        """Gives the frozen parameters their average's values, which the export then has for good.

        They are exported at once, so that another stage can start from them. A resumed run that was frozen before finds
        them there already.
        """
        names, state = self._settings.frozen, run.state
        run.frozen, run.state = True, state.replace(params=with_averages(names, state.params, state.ema))
        self.export(run.state)
        logger.note(f"step {run.step}: {', '.join(names)} keep their average's values from here")

    def _log(self, run: RunState, logger: TrainingLogger) -> None:
        """Writes the pending line; raises NonFiniteError for a loss of it that is not finite."""
        pending, run.pending = run.pending, None
        if pending is not None:
            logger.scalars(pending.step(), pending.metrics())
            pending.require_finite(self._task.name)

    @staticmethod
    def _due(every: int, step: int, last: bool) -> bool:
        return last or bool(every and step and step % every == 0)

    def _share_of_minutes(self, run: RunState) -> float:
        """How much of the time that the settings allow is over, 0 without a limit."""
        if not self._settings.minutes:
            return 0.0
        if jax.process_count() > 1 and run.step % self._settings.log_every:
            return run.passed  # asking the others has its price
        return agreed(run.chrono.share_of(self._settings.minutes))


class Profiler:
    """Writes a trace of `updates` updates of a run that starts at step `first`; 0 = none. View it with xprof."""

    def __init__(self, directory: Path, updates: int, first: int):
        self._directory = directory
        self._begin = first + PROFILE_AFTER
        self._end = self._begin + updates
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace before its first update."""
        if step == self._begin < self._end:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after(self, step: int, result: jax.Array) -> None:
        """Ends the trace after its last update, whose `result` it waits for."""
        if self._running and step == self._end:
            jax.block_until_ready(result)
            self.stop()

    def stop(self) -> None:
        """Ends a trace that is running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False

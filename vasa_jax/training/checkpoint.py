"""Checkpoints: training state, data position and timer as one unit (Orbax); and parameters that a run starts from."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging as absl_logging

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError
from vasa_jax.training.sharding import name_of
from vasa_jax.training.train_state import TrainState, fields_of
from vasa_jax.weights.safetensors_io import load_params

_ITEM = "train"
_FORMER = {"discriminator": "opponent"}  # part of the state: what older checkpoints call it


class CheckpointManager:
    """Numbered checkpoints under a directory, written asynchronously; a number is the count of updates done.

    The newest `keep` are kept and, when `best_metric` names a metric given to `save`, the best by it. `origin`, JSON
    values by name, is stored in each: the version of this package and what the run was started with.
    """

    def __init__(
        self,
        directory: str | Path,
        keep: int = 3,
        best_metric: str = "",
        best_is_lowest: bool = False,
        origin: dict[str, Any] | None = None,
    ):
        from orbax.checkpoint import v1 as ocp

        absl_logging.get_absl_logger().addFilter(_is_news)
        self._directory = Path(directory).absolute()
        self._origin = origin or {}
        self._best_metric, self._sign = best_metric, -1.0 if best_is_lowest else 1.0
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(n=keep)]
        if best_metric:
            kept.append(policies.BestN(get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False))
        self._checkpointer = ocp.training.Checkpointer(
            self._directory, preservation_policy=policies.AnyPreservationPolicy(kept)
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint; None without one."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def best_step(self) -> int | None:
        """Returns the step of the best checkpoint that was evaluated; None without one."""
        scored = [(self._score(found.metrics), found.step) for found in self._checkpointer.checkpoints]
        scored = [pair for pair in scored if pair[0] > -math.inf]
        return max(scored)[1] if scored else None

    def origin(self, step: int) -> dict[str, Any]:
        """Returns what the checkpoint of `step` says of its run, with the settings of its data as "settings"."""
        return self._checkpointer.checkpointables_metadata(step).custom_metadata or {}

    def evaluated(self, step: int) -> bool:
        """Says whether the checkpoint of `step` has metrics."""
        return any(found.step == step and found.metrics for found in self._checkpointer.checkpoints)

    def save(
        self,
        step: int,
        state: TrainState,
        data: dict[str, int],
        timer: dict[str, float],
        metrics: dict[str, float] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Starts writing; returns once the arrays are copied off the devices.

        `metrics` are those of this step's evaluation, if there was one. `settings` decide what a batch holds, as JSON
        values by name. A step already saved is left alone, unless `metrics` are new to it: it is then written again.
        """
        exists = self.latest_step() == step
        if exists and (not metrics or self.evaluated(step)):
            return
        tree = {"state": state, "data": _arrays(data), "timer": _arrays(timer)}
        self._checkpointer.save_checkpointables_async(
            step,
            {_ITEM: tree},
            force=True,
            overwrite=exists,
            metrics=metrics or None,
            custom_metadata=self._origin | ({"settings": settings} if settings else {}),
        )

    def restore(
        self,
        state: TrainState,
        data: dict[str, int],
        timer: dict[str, float],
        which: str = "latest",
        settings: dict[str, Any] | None = None,
    ) -> tuple[TrainState, dict[str, int], dict[str, float]]:
        """Returns the `latest` or `best` checkpoint in the shapes, types and shardings of the (abstract) arguments.

        Raises:
            InputError: there is none; it belongs to another run (names the first array, or the first of `settings`,
                that differs); or its files are damaged. A checkpoint that holds no settings is not checked for them.
        """
        step = self._find(which)
        saved = self._shapes(step)
        # Earlier versions kept fewer settings beside a position in the data: what is not there is not asked for.
        data = {name: value for name, value in data.items() if f"data/{name}" in saved}
        parts = {_former_name(name, saved): value for name, value in fields_of(state).items()}
        template = {"state": parts, "data": _arrays(data), "timer": _arrays(timer)}
        difference = first_difference(saved, _shapes_of(template)) or self._other_setting(step, settings or {})
        if difference:
            raise InputError(
                f"{self._directory / str(step)}: the checkpoint does not fit this run ({difference}); "
                "use the configuration it was made with, or another --workdir"
            )
        tree = self._load(step, template)
        return (
            state.replace(**{name: tree["state"][_former_name(name, saved)] for name in fields_of(state)}),
            {key: int(value) for key, value in tree["data"].items()},
            {key: float(value) for key, value in tree["timer"].items()},
        )

    def restore_average(self, which: str = "latest") -> dict[str, Any]:
        """Returns the EMA parameters of the `latest` or `best` checkpoint, as numpy, whatever run it comes from."""
        step = self._find(which)
        shapes = {
            tuple(name.split("/")): shape for name, shape in self._shapes(step).items() if name.startswith("state/ema/")
        }
        template: dict[str, Any] = {}
        for path, (shape, dtype) in shapes.items():
            node = template
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = np.empty(shape, dtype)
        if not template:
            raise InputError(f"{self._directory / str(step)}: holds no averaged parameters; give an export instead")
        return self._load(step, template, partial=True)["state"]["ema"]

    def close(self) -> None:
        """Waits for what is being written."""
        self._checkpointer.close()

    def _score(self, metrics: Any) -> float:
        """The metric, higher is better; -inf where the checkpoint was not evaluated."""
        value = (metrics or {}).get(self._best_metric)
        return -math.inf if value is None or not math.isfinite(value) else self._sign * value

    def _find(self, which: str) -> int:
        step = self.best_step() if which == "best" else self.latest_step()
        if step is None:
            remedy = "give a directory of checkpoints" if which == "latest" else "name the metric in best_metric"
            raise InputError(f"{self._directory}: no {which} checkpoint; {remedy}")
        return step

    def _shapes(self, step: int) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of every saved array under its path."""
        try:
            saved = self._checkpointer.checkpointables_metadata(step).metadata[_ITEM]
        except Exception as error:  # Orbax lets the errors of its storage layers through
            raise self._damaged(step, error) from error
        if saved is None:
            raise self._damaged(step, OSError("its index of arrays is incomplete"))
        return _shapes_of(saved)

    def _other_setting(self, step: int, settings: dict[str, Any]) -> str:
        """What is said of the first setting that the checkpoint was made with another value of; empty without."""
        for name, value in (self.origin(step).get("settings") or {}).items():
            if name in settings and value != _as_json(settings[name]):
                return f"config.{name} is {value} there, {settings[name]} here"
        return ""

    def _load(self, step: int, template: Any, partial: bool = False) -> Any:
        from orbax.checkpoint import v1 as ocp

        context = ocp.Context()
        context.pytree_options.loading.partial_load = partial
        try:
            with context:
                return ocp.load_checkpointables(self._directory / str(step), {_ITEM: _abstract(template)})[_ITEM]
        except Exception as error:  # as above; a mismatch was ruled out before
            raise self._damaged(step, error) from error

    def _damaged(self, step: int, error: Exception) -> InputError:
        return InputError(
            f"{self._directory / str(step)}: the checkpoint cannot be read ({' '.join(str(error).split())[:200]}); "
            "delete this folder to continue from an older one"
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Keeps Orbax from printing tracebacks of its writing threads: their error is raised where the run waits for it."""
    told_again = record.exc_info or "_SignalingThread.run() raised" in record.getMessage()
    return not (told_again and "orbax" in Path(record.pathname).parts)


def load_initial(settings: TrainConfig, name: str) -> dict[str, Any]:
    """Returns the parameters that `settings.init_from` points at, as numpy.

    It is a .safetensors file; a directory with <name>.safetensors; or a directory of checkpoints, from which
    `settings.init_step` is taken.

    Raises:
        InputError: there is nothing of the kind.
    """
    path = Path(settings.init_from)
    if path.is_dir() and not (path / f"{name}.safetensors").exists():
        if not any(child.name.isdigit() for child in path.iterdir()):
            raise InputError(
                f"{path}: holds neither {name}.safetensors nor checkpoints; point config.train.init_from at an export "
                "directory, a .safetensors file or a checkpoints directory"
            )
        manager = CheckpointManager(path, 1, settings.best_metric, settings.best_is_lowest)
        try:
            return manager.restore_average(settings.init_step)
        finally:
            manager.close()
    return load_params(path / f"{name}.safetensors" if path.is_dir() else path)[0]


def first_difference(saved: dict[str, tuple], expected: dict[str, tuple]) -> str:
    """Returns what is said of the first array, by name, that two trees do not share; empty if they are alike."""
    for name in sorted(saved.keys() | expected.keys()):
        if name not in saved:
            return f"{name} is missing from it"
        if name not in expected:
            return f"{name} is unknown here"
        (shape, dtype), (here_shape, here_dtype) = saved[name], expected[name]
        if tuple(shape) != tuple(here_shape):
            return f"{name} has shape {tuple(shape)} there, {tuple(here_shape)} here"
        if dtype != here_dtype:
            return f"{name} has type {dtype} there, {here_dtype} here"
    return ""


def matching(fresh: Any, imported: Mapping[str, Any], source: str, partial: bool) -> tuple[Any, list[str]]:
    """Returns (`imported` parameters in the form of `fresh` ones, names that stayed fresh).

    Only `partial` lets any stay fresh. Names that only `imported` has do not matter to a partial import.

    Raises:
        InputError: an array is missing or of another shape (names the first), or not one fits.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(fresh)
    given = {name_of(path): value for path, value in jax.tree_util.tree_flatten_with_path(imported)[0]}
    here = {name_of(path): (leaf.shape, None) for path, leaf in paths}
    if not partial:
        difference = first_difference({name: (np.shape(value), None) for name, value in given.items()}, here)
        if difference:
            raise InputError(
                f"{source}: the parameters do not fit this model ({difference}); use the variant they were made with, "
                "or set config.train.init_partial"
            )
    leaves, left = [], []
    for path, leaf in paths:
        value = given.get(name_of(path))
        if value is None or np.shape(value) != leaf.shape:
            left.append(name_of(path))
            value = leaf
        leaves.append(value)
    if len(left) == len(leaves):
        raise InputError(f"{source}: not one parameter fits this model; check config.train.init_from")
    return jax.tree_util.tree_unflatten(structure, leaves), left


def _arrays(values: dict[str, float]) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in values.items()}


def _as_json(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _former_name(name: str, saved: Mapping[str, Any]) -> str:
    """What a checkpoint with arrays `saved` calls a part of the state."""
    former = _FORMER.get(name)
    return former if former and any(path.startswith(f"state/{former}/") for path in saved) else name


def _shapes_of(tree: Any) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {name_of(path): (tuple(leaf.shape), np.dtype(leaf.dtype)) for path, leaf in flat}


def _abstract(tree: Any) -> Any:
    def leaf(x):
        if isinstance(x, (jax.Array, jax.ShapeDtypeStruct)):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        return np.empty_like(x)

    return jax.tree.map(leaf, tree)

"""Checkpoints: training state, data position and timer as one unit (Orbax)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.training.joined import name_of

_ITEM = "train"


class CheckpointManager:
    """Numbered checkpoints under a directory, written asynchronously; a number is the count of updates done.

    The newest `keep` are kept and, when `best_metric` names a figure given to `save`, the best by it.
    """

    def __init__(self, directory: str | Path, keep: int = 3, best_metric: str = "", best_is_lowest: bool = False):
        from orbax.checkpoint import v1 as ocp

        self._directory = Path(directory).absolute()
        self._best_metric, self._sign = best_metric, -1.0 if best_is_lowest else 1.0
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(n=keep)]
        if best_metric:
            kept.append(policies.BestN(get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False))
        self._checkpointer = ocp.training.Checkpointer(
            self._directory, preservation_policy=policies.AnyPreservationPolicy(kept)
        )

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def best_step(self) -> int | None:
        """Step of the best checkpoint that was evaluated; None without one."""
        scored = [(self._score(found.metrics), found.step) for found in self._checkpointer.checkpoints]
        scored = [pair for pair in scored if pair[0] > -math.inf]
        return max(scored)[1] if scored else None

    def save(
        self,
        step: int,
        state: Any,
        data: dict[str, int],
        timer: dict[str, float],
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Starts writing; returns once the arrays are copied off the devices. A step already saved is left alone.

        `metrics` are the figures of this step's evaluation, if there was one.
        """
        if self.latest_step() == step:
            return
        tree = {"state": state, "data": _arrays(data), "timer": _arrays(timer)}
        self._checkpointer.save_checkpointables_async(step, {_ITEM: tree}, force=True, metrics=metrics or None)

    def restore(
        self, state: Any, data: dict[str, int], timer: dict[str, float], which: str = "latest"
    ) -> tuple[Any, dict, dict]:
        """The `latest` or `best` checkpoint in the shapes, types and shardings of the arguments.

        InputError when there is none, when it belongs to another run (names the first array that differs) and when its
        files are damaged.
        """
        step = self._find(which)
        saved = self._shapes(step)
        # Earlier versions kept fewer settings beside a position in the data: what is not there is not asked for.
        data = {name: value for name, value in data.items() if f"data/{name}" in saved}
        template = {"state": state, "data": _arrays(data), "timer": _arrays(timer)}
        difference = first_difference(saved, _shapes_of(template))
        if difference:
            raise InputError(
                f"{self._directory / str(step)}: the checkpoint does not fit this run ({difference}); "
                "use the configuration it was made with, or another --workdir"
            )
        tree = self._load(step, template)
        return (
            tree["state"],
            {key: int(value) for key, value in tree["data"].items()},
            {key: float(value) for key, value in tree["timer"].items()},
        )

    def restore_average(self, which: str = "latest") -> dict[str, Any]:
        """The averaged parameters of the `latest` or `best` checkpoint, as numpy, whatever run it comes from."""
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
            remedy = "give a directory of checkpoints" if which == "latest" else "name the figure in best_metric"
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


def first_difference(saved: dict[str, tuple], expected: dict[str, tuple]) -> str:
    """What is said of the first array, in the order of names, that two trees do not share; empty if they are alike."""
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
    """`imported` parameters in the form of `fresh` ones, and the names that stayed fresh.

    Only `partial` lets any stay fresh; otherwise InputError names the first that is missing or of another shape. Names
    that only `imported` has do not matter to a partial import.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(fresh)
    given = {name_of(path): value for path, value in jax.tree_util.tree_flatten_with_path(imported)[0]}
    here = {name_of(path): (leaf.shape, None) for path, leaf in paths}
    if not partial:
        difference = first_difference({name: (np.shape(value), None) for name, value in given.items()}, here)
        if difference:
            raise InputError(
                f"{source}: the parameters do not fit this model ({difference}); use the variant they were made with, "
                "or set config.train.initial_partial"
            )
    leaves, left = [], []
    for path, leaf in paths:
        value = given.get(name_of(path))
        if value is None or np.shape(value) != leaf.shape:
            left.append(name_of(path))
            value = leaf
        leaves.append(value)
    if len(left) == len(leaves):
        raise InputError(f"{source}: not one parameter fits this model; check config.train.initial")
    return jax.tree_util.tree_unflatten(structure, leaves), left


def _arrays(values: dict[str, float]) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in values.items()}



def _shapes_of(tree: Any) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {name_of(path): (tuple(leaf.shape), np.dtype(leaf.dtype)) for path, leaf in flat}


def _abstract(tree: Any) -> Any:
    def leaf(x):
        if isinstance(x, jax.Array):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        return np.empty_like(x)

    return jax.tree.map(leaf, tree)

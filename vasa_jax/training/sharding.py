"""The device mesh and where every array lives on it."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError

# A parameter smaller than this is cheaper to replicate than to gather.
FSDP_MINIMUM_SIZE = 2**16
AXES = ("data", "fsdp")


def name_of(path: tuple) -> str:
    """Returns the name of an array in a tree: "encoder/pose_net/head/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def make_mesh(settings: TrainConfig, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """Returns a (data, fsdp) mesh over all devices, or those given.

    Raises:
        InputError: the axes' sizes do not multiply to the devices, or the batch does not spread over them.
    """
    count = len(devices or jax.devices())
    fsdp = settings.fsdp_axis
    data = settings.data_axis if settings.data_axis > 0 else count // fsdp
    if data * fsdp != count:
        raise InputError(
            f"config.train.data_axis x fsdp_axis: {data} x {fsdp} is not the {count} devices here; "
            "set fsdp_axis to a divisor and data_axis to -1"
        )
    if settings.batch_size % (count * settings.accumulate):
        raise InputError(
            f"config.train.batch_size: {settings.batch_size} examples in {settings.accumulate} micro-batches do not "
            f"spread over {count} devices; choose a multiple of {count * settings.accumulate}"
        )
    # Auto axes: Linen convolutions cannot be traced with sharded parameters on Explicit ones.
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the sharding that spreads examples over every device."""
    return NamedSharding(mesh, P(AXES))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, P())


def place_batch(batch: Any, sharding: NamedSharding) -> Any:
    """Returns the global batch of all processes from what this one's data iterator gave.

    Arrays already spread over the mesh stay. Others are this process's examples (1 / processes of the batch).
    """

    def place(leaf):
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(place, batch)


def state_sharding(mesh: jax.sharding.Mesh, tree: Any, rules: Sequence[str] = ()) -> Any:
    """Returns shardings for a tree of (abstract) arrays.

    A rule is "regex=spec"; the first whose regex is found in the array's path (`params/decoder/out/kernel`; averages
    and optimiser moments end in the same names) decides. A spec names what each dimension is split along: `data`,
    `fsdp` or `-`, separated by commas, e.g. "decoder/.*kernel=-,-,-,fsdp"; `replicated` splits none. Without a match,
    large arrays are split along fsdp on their largest divisible dimension.

    Raises:
        InputError: a rule cannot be met, or decides about nothing.
    """
    parsed = [_parse(rule) for rule in rules]
    met = set()

    def place(path, leaf) -> NamedSharding:
        name = name_of(path)
        for index, (pattern, spec) in enumerate(parsed):
            if pattern.search(name):
                met.add(index)
                return NamedSharding(mesh, _fitting(spec, mesh, name, leaf.shape, rules[index]))
        return NamedSharding(mesh, _default(mesh.shape["fsdp"], leaf.shape))

    result = jax.tree_util.tree_map_with_path(place, tree)
    for index, rule in enumerate(rules):
        if index not in met:
            raise InputError(
                f"config.train.sharding_rules: '{rule}' decides about no array; correct its regex, or move it before "
                "the rule that hides it"
            )
    return result


def _default(size: int, shape: tuple[int, ...]) -> P:
    if size > 1 and shape and np.prod(shape) >= FSDP_MINIMUM_SIZE:
        for axis in np.argsort(shape)[::-1]:
            if shape[axis] % size == 0:
                return P(*[None] * axis, "fsdp")
    return P()


def _parse(rule: str) -> tuple[re.Pattern, tuple[str | None, ...]]:
    regex, equals, spec = rule.rpartition("=")
    names = () if spec == "replicated" else tuple(spec.split(","))
    fault = None
    if not equals or not regex or any(name not in (*AXES, "-") for name in names):
        fault = "is no rule"
    elif any(names.count(axis) > 1 for axis in AXES):
        fault = "uses an axis twice"
    try:
        pattern = re.compile(regex)
    except re.error as error:
        fault = f"has a regex that cannot be read ({error})"
    if fault:
        raise InputError(f"config.train.sharding_rules: '{rule}' {fault}; write regex=spec, e.g. kernel=-,-,-,fsdp")
    return pattern, tuple(None if name == "-" else name for name in names)


def _fitting(spec: tuple[str | None, ...], mesh: jax.sharding.Mesh, name: str, shape: tuple[int, ...], rule: str) -> P:
    fits = len(spec) <= len(shape) and all(
        axis is None or size % mesh.shape[axis] == 0 for axis, size in zip(spec, shape)
    )
    if not fits:
        raise InputError(
            f"config.train.sharding_rules: '{rule}' does not fit {name} of shape {shape} on a mesh of "
            f"{mesh.shape['data']} x {mesh.shape['fsdp']}; narrow its regex or change its spec"
        )
    return P(*spec)

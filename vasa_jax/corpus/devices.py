"""Rendering spread over devices: each renders its own part of a batch with a key of its own."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vasa_jax.errors import InputError


def on_each_device(function: Callable, sharding: NamedSharding | None, *whole: bool) -> Callable:
    """Makes every device of `sharding` run `function` on its own part of the arguments that are not `whole`.

    Results are the devices' parts of global arrays. Without a sharding, returns `function` itself.
    """
    if sharding is None:
        return function
    specs = tuple(P() if w else sharding.spec for w in whole)
    return jax.shard_map(function, mesh=sharding.mesh, in_specs=specs, out_specs=sharding.spec, check_vma=False)


def frames_per_device(batch_size: int, sharding: NamedSharding | None) -> int:
    """Returns a device's part of `batch_size` rendered frames; InputError where they do not spread evenly."""
    devices = sharding.num_devices if sharding else 1
    if batch_size % devices:
        raise InputError(
            f"config.train.batch_size: {batch_size} frames do not spread over {devices} devices; "
            f"choose a multiple of {devices}"
        )
    return batch_size // devices


def own_key(key_data: Any, sharding: NamedSharding | None) -> jax.Array:
    """Returns the key of the device that asks, within `on_each_device`; the key itself on a single device."""
    key = jax.random.wrap_key_data(key_data)
    if sharding is None or sharding.num_devices == 1:
        return key
    return jax.random.fold_in(key, jax.lax.axis_index(sharding.mesh.axis_names))

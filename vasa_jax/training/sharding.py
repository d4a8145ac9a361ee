"""The device mesh and where every array lives on it."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError

# A parameter smaller than this is cheaper to replicate than to gather.
FSDP_MINIMUM_SIZE = 2**16


def make_mesh(settings: TrainConfig) -> jax.sharding.Mesh:
    """A (data, fsdp) mesh over all devices; InputError when they do not divide."""
    count = jax.device_count()
    fsdp = settings.fsdp_axis
    data = settings.data_axis if settings.data_axis > 0 else count // fsdp
    if data * fsdp != count:
        raise InputError(
            f"config.train.data_axis x fsdp_axis: {data} x {fsdp} is not the {count} devices here; "
            "set fsdp_axis to a divisor and data_axis to -1"
        )
    # Auto axes: Linen convolutions cannot be traced with sharded parameters on Explicit ones.
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Examples are spread over every device."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def state_sharding(mesh: jax.sharding.Mesh, tree):
    """Shardings for a tree of (abstract) arrays: large ones split along fsdp on their largest divisible axis."""
    size = mesh.shape["fsdp"]

    def place(leaf) -> NamedSharding:
        if size > 1 and leaf.ndim and np.prod(leaf.shape) >= FSDP_MINIMUM_SIZE:
            for axis in np.argsort(leaf.shape)[::-1]:
                if leaf.shape[axis] % size == 0:
                    return NamedSharding(mesh, P(*[None] * axis, "fsdp"))
        return NamedSharding(mesh, P())

    return jax.tree.map(place, tree)

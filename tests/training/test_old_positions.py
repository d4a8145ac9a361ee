"""Checkpoints of earlier versions, whose position in the data named fewer settings, still restore."""

import jax.numpy as jnp
import numpy as np
from flax import struct

from vasa_jax.training.checkpoint import CheckpointManager


@struct.dataclass
class State:
    weights: np.ndarray


def test_a_position_without_settings_is_restored_by_a_stream_that_has_them(tmp_path):
    state = State(jnp.arange(3.0))
    manager = CheckpointManager(tmp_path, 2, "loss")
    manager.save(4, state, {"step": 4}, {"seconds": 1.0})
    manager.close()
    again = CheckpointManager(tmp_path, 2, "loss")
    found, position, timer = again.restore(state, {"step": 0, "seed": 0, "data_set": 77}, {"seconds": 0.0})
    np.testing.assert_array_equal(found.weights, state.weights)
    assert position == {"step": 4} and timer == {"seconds": 1.0}
    again.close()

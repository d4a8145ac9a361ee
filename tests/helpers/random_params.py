"""Parameters for tests, drawn on the host: no initialiser is compiled, and no parameter is zero."""

import jax
import numpy as np


def random_params(init, *inputs):
    """A tree like `init(key, *inputs)`: kernels with unit gain, scales near one, everything else small."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        values = rng.standard_normal(leaf.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return values / np.sqrt(np.prod(leaf.shape[:-1]))
        return 0.1 * values + (path[-1].key == "scale")

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(0), *inputs))

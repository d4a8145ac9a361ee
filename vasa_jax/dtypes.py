"""Which floating-point type convolutions and matrix products compute in."""

import jax
import jax.numpy as jnp


def compute_dtype(precision: str) -> jnp.dtype:
    """Returns the type of a precision; `auto`: bfloat16 on accelerators, float32 on CPU, which emulates bfloat16."""
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)

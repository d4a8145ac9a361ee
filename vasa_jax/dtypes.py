"""Which floating-point type convolutions and matrix products compute in."""

import jax
import jax.numpy as jnp


def compute_dtype(precision: str) -> jnp.dtype:
    """`auto`: bfloat16 on accelerators, float32 on CPU, where bfloat16 is emulated."""
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)

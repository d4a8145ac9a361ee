"""Random keys: every stream is folded from (seed, name, step) and none is carried."""

import jax


def named_key(seed: int, name: str) -> jax.Array:
    """Returns a random key that belongs to a name: streams of different names never meet."""
    key = jax.random.key(seed)
    for letter in name.encode():
        key = jax.random.fold_in(key, letter)
    return key

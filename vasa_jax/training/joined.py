"""Many small arrays as few long ones.

A codec has hundreds of parameter arrays of a few hundred numbers. Updating each on its own costs an accelerator more in
launches, and the compiler more in time, than the arithmetic does; joined end to end they are updated at once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Label = Callable[[str, jax.Array], str]


def name_of(path: tuple) -> str:
    """Of an array in a tree: "encoder/pose_net/head/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def join(tree: Any, label: Label, below: int) -> dict[str, dict[str, jax.Array]]:
    """{label: {"joined": one vector of all arrays of fewer than `below` numbers, name: array of the larger ones}}.

    Arrays of one label are joined in the order of the tree, whose arrays must be of one type.
    """
    result: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        group = result.setdefault(label(name_of(path), leaf), {})
        if leaf.size < below:
            group.setdefault("joined", []).append(leaf.reshape(-1))
        else:
            group[name_of(path)] = leaf
    for group in result.values():
        if "joined" in group:
            group["joined"] = jnp.concatenate(group["joined"])
    return result


def split(parts: dict[str, dict[str, jax.Array]], like: Any, label: Label, below: int) -> Any:
    """The inverse of `join`: a tree with the structure and shapes of `like`."""
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    used = dict.fromkeys(parts, 0)
    leaves = []
    for path, leaf in paths:
        group = label(name_of(path), leaf)
        if leaf.size < below:
            first = used[group]
            used[group] = first + leaf.size
            leaves.append(parts[group]["joined"][first : used[group]].reshape(leaf.shape))
        else:
            leaves.append(parts[group][name_of(path)])
    return jax.tree_util.tree_unflatten(structure, leaves)


def on_joined(
    inner: optax.GradientTransformation, label: Label, below: int
) -> optax.GradientTransformationExtraArgs:
    """`inner`, which must treat all numbers of a label alike, working on joined arrays."""
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return inner.init(join(params, label, below))

    def update(updates, state, params=None, **extra):
        joined_params = None if params is None else join(params, label, below)
        joined, state = inner.update(join(updates, label, below), state, joined_params, **extra)
        return split(joined, updates, label, below), state

    return optax.GradientTransformationExtraArgs(init, update)

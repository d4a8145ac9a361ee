"""Small arrays joined end to end: a round trip, and the same updates as without."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vasa_jax.config import TrainConfig
from vasa_jax.training.optimizer import flatten, make_optimizer, on_flattened, tree_norm, unflatten
from vasa_jax.training.sharding import name_of


def tree(seed: int):
    keys = iter(jax.random.split(jax.random.key(seed), 6))
    return {
        "a": {"kernel": jax.random.normal(next(keys), (3, 4)), "bias": jax.random.normal(next(keys), (4,))},
        "b": {"kernel": jax.random.normal(next(keys), (300, 300)), "bias": jax.random.normal(next(keys), ())},
    }


def label(name, leaf):
    return "kernels" if name.endswith("kernel") else "others"


def same(x, y):
    assert jax.tree.structure(x) == jax.tree.structure(y)
    assert all(bool(jnp.array_equal(a, b)) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y)))


def test_flatten_keeps_large_arrays_apart_and_unflatten_undoes_it():
    parts = flatten(tree(0), label, 100)
    assert {name: {k: v.shape for k, v in part.items()} for name, part in parts.items()} == {
        "kernels": {"joined": (12,), "b/kernel": (300, 300)},
        "others": {"joined": (5,)},
    }
    same(unflatten(parts, tree(1), label, 100), tree(0))


def test_updates_are_those_of_single_arrays():
    """AdamW works on every number alone, so joining must not change a bit; the decay keeps to kernels."""
    plain = optax.adamw(
        1e-2, weight_decay=0.1, mask=lambda p: jax.tree_util.tree_map_with_path(lambda k, _: "kernel" in name_of(k), p)
    )
    joined = on_flattened(
        optax.adamw(1e-2, weight_decay=0.1, mask=lambda parts: {
            name: dict.fromkeys(part, name == "kernels") for name, part in parts.items()
        }), label, 100,
    )  # fmt: skip
    params = tree(0)
    states = [transformation.init(params) for transformation in (plain, joined)]
    for seed in (1, 2):
        results = [t.update(tree(seed), state, params) for t, state in zip((plain, joined), states)]
        states = [state for _, state in results]
        same(results[0][0], results[1][0])


def test_optimizer_clips_by_the_norm_of_everything_and_spares_biases_from_decay():
    settings = TrainConfig(steps=10, warmup_steps=0, learning_rate=1.0, weight_decay=0.5, clip_norm=1.0)
    optimizer, params = make_optimizer(settings), tree(0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params, norm=jnp.zeros(()), rate=1.0)
    for layer, values in params.items():
        assert jnp.allclose(updates[layer]["kernel"], -0.5 * values["kernel"], rtol=1e-6)
        assert not updates[layer]["bias"].any()
    for norm, first_moment in ((0.5, 1.0), (4.0, 0.25)):
        grads = jax.tree.map(jnp.ones_like, params)
        _, state = optimizer.update(grads, optimizer.init(params), params, norm=norm, rate=1.0)
        for leaf in jax.tree.leaves(state[1][0].mu):
            np.testing.assert_allclose(leaf, (1 - settings.beta1) * first_moment, rtol=1e-5)


def test_norm_of_a_tree():
    flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree(3))])
    for whole in (False, True):
        assert jnp.allclose(tree_norm(tree(3), whole), jnp.linalg.norm(flat), rtol=1e-6)

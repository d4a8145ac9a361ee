"""Where arrays live: the default rule on the real codec, rules of the configuration and what is said of wrong ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError
from vasa_jax.models.face import init_face
from vasa_jax.training.sharding import FSDP_MINIMUM_SIZE, make_mesh, state_sharding

MESH = AbstractMesh((4, 8), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def specs(tree, rules=()):
    shardings = jax.tree_util.tree_flatten_with_path(state_sharding(MESH, tree, rules))[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): sharding.spec for path, sharding in shardings}


@pytest.fixture(scope="module")
def codec():
    return jax.eval_shape(lambda: init_face(jax.random.key(0), "face_512"))


def test_default_rule_splits_nearly_all_of_the_codec(codec):
    table = specs(codec)
    sizes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): (leaf.shape, int(np.prod(leaf.shape)))
        for path, leaf in jax.tree_util.tree_flatten_with_path(codec)[0]
    }
    for name, spec in table.items():
        shape, size = sizes[name]
        split = [axis for axis, along in enumerate(spec) if along == "fsdp"]
        assert len(split) == (size >= FSDP_MINIMUM_SIZE and any(extent % 8 == 0 for extent in shape)), name
        assert all(shape[axis] % 8 == 0 for axis in split), name
    here = sum(size // (8 if "fsdp" in table[name] else 1) for name, (_, size) in sizes.items())
    whole = sum(size for _, size in sizes.values())
    assert here < 1.1 * whole / 8


def test_first_rule_that_matches_decides(codec):
    rules = ("decoder/.*bias=replicated", "decoder/.*kernel=-,-,-,data", "decoder/=replicated")
    kernels = {"decoder": {"a": {"kernel": jnp.zeros((3, 3, 256, 256)), "bias": jnp.zeros(8), "scale": jnp.zeros(8)}}}
    kernels["encoder"] = {"kernel": jnp.zeros((3, 3, 256, 256))}
    assert specs(kernels, rules) == {
        "decoder/a/bias": P(),
        "decoder/a/kernel": P(None, None, None, "data"),
        "decoder/a/scale": P(),
        "encoder/kernel": P(None, None, None, "fsdp"),
    }


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("kernel", "is no rule"),
        ("kernel=-,model", "is no rule"),
        ("kernel=fsdp,fsdp", "uses an axis twice"),
        ("(kernel=fsdp", "has a regex that cannot be read"),
        ("kernle=fsdp", "decides about no array"),
        ("kernel=-,fsdp", r"does not fit a/kernel of shape \(8, 6\) on a mesh of 4 x 8"),
        ("kernel=-,-,fsdp", "does not fit"),
    ],
)
def test_wrong_rules_are_refused(rule, fault):
    with pytest.raises(InputError, match=fault) as told:
        specs({"a": {"kernel": jnp.zeros((8, 6))}}, (rule,))
    assert "\n" not in str(told.value)


def test_meshes_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="is not the 1 devices here"):
        make_mesh(TrainConfig(fsdp_axis=2))
    devices = jax.devices() * 3
    with pytest.raises(InputError, match="choose a multiple of 6"):
        make_mesh(TrainConfig(batch_size=32, accumulate=2), devices)

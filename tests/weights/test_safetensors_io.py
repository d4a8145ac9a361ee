"""Exports: float32 keeps every bit, bfloat16 and int8 save bytes, and a file is whole or the old one."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from vasa_jax.errors import InputError
from vasa_jax.weights.safetensors_io import load_params, save_params


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    return {
        "encoder": {"kernel": rng.normal(size=(64, 32)).astype(np.float32), "bias": rng.normal(size=32).astype("f4")},
        "count": np.array(3, np.int32),
    }


def test_a_chain_of_float32_exports_changes_no_bit(params, tmp_path):
    """What one stage exports, the next one starts from; ten times over."""
    found = params
    for stage in range(10):
        save_params(tmp_path / f"{stage}.safetensors", found, {}, jnp.float32)
        found, _ = load_params(tmp_path / f"{stage}.safetensors")
    for name in ("kernel", "bias"):
        assert found["encoder"][name].dtype == np.float32
        np.testing.assert_array_equal(found["encoder"][name], params["encoder"][name])
    assert found["count"] == 3


def test_bfloat16_rounds_matrices_and_keeps_vectors(params, tmp_path):
    sizes = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        path = tmp_path / f"{jnp.dtype(dtype).name}.safetensors"
        save_params(path, params, {"step": 7}, dtype)
        found, metadata = load_params(path)
        sizes[dtype] = path.stat().st_size
        assert metadata == {"step": 7}
        np.testing.assert_array_equal(found["encoder"]["bias"], params["encoder"]["bias"])
    kernel = params["encoder"]["kernel"]
    assert not np.array_equal(found["encoder"]["kernel"], kernel)
    np.testing.assert_allclose(found["encoder"]["kernel"], kernel, rtol=2.0**-8)
    assert sizes[jnp.float32] - sizes[jnp.bfloat16] == pytest.approx(2 * kernel.size, abs=8)


def test_int8_keeps_each_channel_to_half_a_step(params, tmp_path):
    """Channels of very different size, one of nothing, and every exact multiple of a step as it was."""
    kernel = params["encoder"]["kernel"] * 10.0 ** np.linspace(-4, 2, 32, dtype=np.float32)
    kernel[:, 5] = 0.0
    kernel[:, 6] = np.arange(-31, 33) * 4 - 1  # up to 127 times one
    params = {"encoder": {**params["encoder"], "kernel": kernel}, "count": params["count"]}
    save_params(tmp_path / "a.safetensors", params, {"step": 7}, jnp.int8)
    seen = {}
    found, metadata = load_params(tmp_path / "a.safetensors")
    assert metadata == {"step": 7} and found["count"] == 3
    np.testing.assert_array_equal(found["encoder"]["bias"], params["encoder"]["bias"])
    assert found["encoder"]["kernel"].dtype == np.float32
    step = np.abs(kernel).max(0) / 127.0
    assert (np.abs(found["encoder"]["kernel"] - kernel) <= 0.5001 * step).all()
    np.testing.assert_array_equal(found["encoder"]["kernel"][:, 6], kernel[:, 6])
    save_params(tmp_path / "b.safetensors", {"encoder": params["encoder"]}, {}, jnp.int8)
    again, _ = load_params(tmp_path / "b.safetensors", lambda shapes, _: seen.update(shapes))
    assert seen == {"encoder.kernel": (64, 32), "encoder.bias": (32,)}  # a check sees no scales
    np.testing.assert_array_equal(again["encoder"]["kernel"], found["encoder"]["kernel"])


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"w": np.ones((3, 4), np.int8)}, "is I8; save it as"),
        ({"w": np.ones((3, 4), np.int8), "w@scale": np.ones(3, np.float32)}, "are not the scales of an int8 tensor's"),
        ({"w@scale": np.ones(3, np.float32)}, "are not the scales"),
        ({"w": np.ones((3, 4), np.int8), "w@scale": np.full(4, np.nan, np.float32)}, "is not finite"),
        ({"w": np.ones((3, 4), np.int8), "w@scale": np.full(4, 1e5, np.float32)}, "holds numbers beyond"),
        ({"w": np.ones((3, 4), np.int8), "w@scale": np.ones(4, np.int8)}, "are not the scales"),
        ({"w": np.ones((3, 4), np.float32), "w@scale": np.ones(4, np.float32)}, "are not the scales"),
        ({"w@scale": np.ones(0, np.float32)}, "are not the scales"),
        ({"@scale": np.ones(0, np.float32)}, "are not the scales"),
        ({"w": np.ones((), np.int8), "w@scale": np.ones((), np.float32)}, "are not the scales"),
        ({name: np.ones(2, np.int8) for name in ("w", "w@scale", "w@scale@scale")}, "are not the scales"),
    ],
)
def test_scales_that_belong_to_nothing_are_one_line(tensors, said, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors", metadata={})
    with pytest.raises(InputError, match=said):
        load_params(tmp_path / "a.safetensors", lambda shapes, metadata: None)


def test_an_export_that_fails_keeps_the_old_file(params, tmp_path):
    path = tmp_path / "face.safetensors"
    save_params(path, params, {"step": 1})
    with pytest.raises(TypeError):
        save_params(path, params, {"step": object()})
    assert load_params(path)[1] == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]

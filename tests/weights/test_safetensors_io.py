"""Exports: float32 keeps every bit, bfloat16 halves the bytes, and a file is whole or the old one."""

import jax.numpy as jnp
import numpy as np
import pytest

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


def test_an_export_that_fails_keeps_the_old_file(params, tmp_path):
    path = tmp_path / "face.safetensors"
    save_params(path, params, {"step": 1})
    with pytest.raises(TypeError):
        save_params(path, params, {"step": object()})
    assert load_params(path)[1] == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]

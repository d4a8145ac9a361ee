"""The attention kernel against plain attention, its place in the motion transformer, and where it can run."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from scipy.special import ndtr

from vasa_jax.benchmarks.random_model import model_conditions
from vasa_jax.models import transformer
from vasa_jax.models.fused_attention import fused_attention, has_fused_attention
from vasa_jax.models.motion import VASADiffusionTransformer
from vasa_jax.models.variants import MOTION_VARIANTS


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch):
    if jax.default_backend() == "cpu":
        monkeypatch.setattr(transformer, "fused_attention", functools.partial(fused_attention, interpret=True))


@pytest.mark.parametrize(("width", "heads", "time"), [(32, 2, 20), (32, 1, 32), (64, 4, 37), (128, 2, 114)])
def test_as_plain_attention(width, heads, time):
    x = np.random.default_rng(0).standard_normal((2, time, width)).astype(np.float32)
    plain = transformer.SelfAttention(width, heads)
    params = random_params(plain.init, x)
    fused = jax.jit(transformer.SelfAttention(width, heads, fused=True).apply)
    expected = plain.apply(params, x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(fused(params, x), expected, atol=2e-6)
    # rows of a batch lie behind each other in memory, and none sees the next
    alone = fused(params, x[:1])
    x[1] = 1e3
    np.testing.assert_allclose(fused(params, x)[:1], alone, atol=2e-6)


def test_half_precision_rounds_as_plain_attention_does():
    x = np.random.default_rng(0).standard_normal((3, 50, 64)).astype(np.float32)
    exact = transformer.SelfAttention(64, 2)
    params = random_params(exact.init, x)
    expected = exact.apply(params, x)

    def error(**fields):
        layer = transformer.SelfAttention(64, 2, dtype=jnp.bfloat16, **fields)
        return np.sqrt(np.square(layer.apply(params, x.astype(jnp.bfloat16)) - expected).mean())

    assert error(fused=True) < 1.1 * error() < 0.02 * expected.std()


@pytest.mark.gpu
@pytest.mark.parametrize("width", [256, 512])
def test_on_a_gpu_at_the_sizes_of_the_sampler(width):
    """JAX_PLATFORMS=cuda pytest -m gpu"""
    x = np.random.default_rng(0).standard_normal((48, 114, width)).astype(np.float32)
    exact = transformer.SelfAttention(width, 8)
    params = random_params(exact.init, x[:1])
    with jax.default_matmul_precision("highest"):
        expected = np.asarray(exact.apply(params, x))
    assert has_fused_attention(jnp.bfloat16, 114, width // 8)

    def error(**fields):
        layer = transformer.SelfAttention(width, 8, dtype=jnp.bfloat16, **fields)
        return np.sqrt(np.square(np.asarray(jax.jit(layer.apply)(params, x), np.float32) - expected).mean())

    assert error(fused=True) < 1.1 * error() < 0.02 * expected.std()


def test_same_parameters_and_motion_with_it():
    model = VASADiffusionTransformer(**MOTION_VARIANTS["motion_tiny"])
    conditions, t = model_conditions(model, 2), jnp.array([10, 700])
    noisy = np.random.default_rng(0).standard_normal((2, model.window, model.motion_dim)).astype(np.float32)
    fused = model.clone(fused=True)
    params = random_params(model.init, noisy, t, conditions)
    made = [jax.eval_shape(each.init, jax.random.key(0), noisy, t, conditions) for each in (model, fused)]
    assert jax.tree.map(jnp.shape, made[0]) == jax.tree.map(jnp.shape, made[1])
    context = model.apply(params, conditions, method="context")
    assert context.frames.shape[1] + context.controls.shape[1] + 1 == model.tokens
    expected = model.apply(params, noisy, t, conditions)
    np.testing.assert_allclose(fused.apply(params, noisy, t, conditions), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("capability", "dtype", "time", "head_width", "able"),
    [
        ("9.0", jnp.bfloat16, 114, 64, True),
        ("8.0", jnp.float16, 114, 32, True),
        ("7.5", jnp.bfloat16, 114, 64, False),  # Turing
        ("gfx942", jnp.bfloat16, 114, 64, False),  # AMD
        (None, jnp.bfloat16, 114, 64, False),  # TPU, CPU
        ("9.0", jnp.float32, 114, 64, False),
        ("9.0", jnp.bfloat16, 114, 48, False),
        ("9.0", jnp.bfloat16, 114, 8, False),
        ("9.0", jnp.bfloat16, 512, 64, True),
        ("9.0", jnp.bfloat16, 513, 64, False),
    ],
)
def test_where_it_can_run(monkeypatch, capability, dtype, time, head_width, able):
    device = types.SimpleNamespace() if capability is None else types.SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert has_fused_attention(dtype, time, head_width) == able


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.bfloat16, 0.02)])
def test_gelu_is_exact(dtype, tolerance):
    x = jnp.linspace(-8.0, 8.0, 1001).astype(dtype)
    exact = np.asarray(x, np.float64) * ndtr(np.asarray(x, np.float64))
    assert transformer.gelu(x).dtype == dtype
    np.testing.assert_allclose(np.asarray(transformer.gelu(x), np.float64), exact, atol=tolerance)

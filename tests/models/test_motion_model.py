"""VASADiffusionTransformer: sizes, names, what every mask and null does, batching."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from vasa_jax.models.motion import (
    MotionConditions,
    PositionalEncoding,
    VASADiffusionTransformer,
    cast_products,
)
from vasa_jax.models.variants import MOTION_VARIANTS

TINY = MOTION_VARIANTS["motion_tiny"] | {"layers": 1}


def make_inputs(model, batch, **masks):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal((batch, *shape)).astype(np.float32)

    known = np.ones((batch,), bool)
    conditions = MotionConditions(
        audio=normal(model.window, model.audio_dim),
        prev_motion=normal(model.previous, model.motion_dim),
        prev_audio=normal(model.previous, model.audio_dim),
        gaze=normal(2),
        distance=normal(1),
        emotion=normal(8),
        audio_mask=np.ones((batch, model.window), bool),
        prev_mask=known,
        gaze_mask=known,
        distance_mask=known,
        emotion_mask=known,
        blinks=np.abs(normal(model.window)),
        blinks_mask=known,
    )
    noisy = normal(model.window, model.motion_dim)
    return noisy, np.arange(batch) * 211 % 1000, conditions._replace(**masks)


def build(**change):
    model = VASADiffusionTransformer(**TINY | change)
    return model, jax.jit(model.apply), random_params(model.init, *make_inputs(model, 1))


@pytest.fixture(scope="module")
def tiny():
    return build()


def abstract_params(name, **change):
    model = VASADiffusionTransformer(**MOTION_VARIANTS[name] | change)
    return jax.eval_shape(model.init, jax.random.key(0), *make_inputs(model, 1))["params"]


def test_parameter_counts():
    counts = {name: sum(x.size for x in jax.tree.leaves(abstract_params(name))) for name in MOTION_VARIANTS}
    assert 25e6 < counts["motion_base"] < 30e6
    assert counts["motion_demo"] == 6_540_899


def test_demo_key_list_is_pinned():
    """Weights are stored under these names, older ones without blinks: a change here breaks them."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract_params("motion_demo", ff_width=256, blinks=False))
    keys = sorted(f"{'/'.join(k.key for k in path)} {tuple(leaf.shape)}" for path, leaf in leaves)
    assert (
        hashlib.sha256("\n".join(keys).encode()).hexdigest()
        == "2483e33190ab2f0208fb345a3d1a895cb73ab5386523ca3857b315d35d1946e4"
    )


@pytest.mark.parametrize(
    "change", [{}, {"time_conditioning": "adaln", "positions": "sinusoidal"}, {"dtype": jnp.bfloat16}]
)
def test_batched_equals_single(change):
    model, apply, params = build(**change)
    inputs = make_inputs(
        model, 3, audio_mask=np.arange(model.window) < np.array([[0], [5], [12]]),
        prev_mask=np.array([True, False, True]), gaze_mask=np.array([False, True, True]),
    )  # fmt: skip
    batched = apply(params, *inputs)
    assert batched.shape == (3, model.window, model.motion_dim)
    assert batched.dtype == jnp.float32
    tolerance = 0.05 if "dtype" in change else 2e-5
    for row in range(3):
        single = apply(params, *jax.tree.map(lambda x, row=row: x[row : row + 1], inputs))
        np.testing.assert_allclose(batched[row], single[0], atol=tolerance)
    if change:
        return
    mapped = jax.jit(jax.vmap(lambda *row: apply(params, *jax.tree.map(lambda x: x[None], row))[0]))(*inputs)
    np.testing.assert_allclose(mapped, batched, atol=tolerance)


@pytest.mark.parametrize("time_conditioning", ["token", "adaln"])
def test_weights_cast_beforehand_change_no_bit(time_conditioning):
    model, apply, variables = build(dtype=jnp.bfloat16, time_conditioning=time_conditioning)
    inputs, variables = make_inputs(model, 2), jax.tree.map(jnp.float32, variables)
    cast = {"params": cast_products(variables["params"], model.dtype)}
    dtypes = [{leaf.dtype.name for leaf in jax.tree.leaves(tree)} for tree in (variables, cast)]
    assert dtypes == [{"float32"}, {"float32", "bfloat16"}]
    np.testing.assert_array_equal(apply(cast, *inputs), apply(variables, *inputs))


def test_blinks_that_nobody_knows_are_masked_ones(tiny):
    model, apply, params = tiny
    noisy, t, known = make_inputs(model, 2)
    masked = apply(params, noisy, t, known._replace(blinks_mask=np.zeros((2,), bool)))
    np.testing.assert_array_equal(apply(params, noisy, t, known._replace(blinks=None, blinks_mask=None)), masked)
    assert np.abs(apply(params, noisy, t, known) - masked).max() > 1e-4


MASKS = {
    "audio_mask": (["null_audio"], ["audio"]),
    "prev_mask": (["null_prev_motion", "null_prev_audio"], ["prev_motion", "prev_audio"]),
    "gaze_mask": (["null_gaze"], ["gaze"]),
    "distance_mask": (["null_distance"], ["distance"]),
    "emotion_mask": (["null_emotion"], ["emotion"]),
    "blinks_mask": ([], ["blinks"]),
}


@pytest.mark.parametrize("change", [{}, {"time_conditioning": "adaln"}])
def test_each_null_replaces_its_condition_exactly_when_masked(change):
    model, _, params = build(**change)
    noisy, t, known = make_inputs(model, 1)

    @jax.jit
    def gradients(conditions):
        def square(params, values):
            conditions_ = conditions._replace(**values)
            return jnp.sum(model.apply({"params": params}, noisy, t, conditions_) ** 2)

        values = {name: getattr(conditions, name) for _, names in MASKS.values() for name in names}
        return jax.grad(square, argnums=(0, 1))(params["params"], values)

    def sizes(conditions):
        of_params, of_values = gradients(conditions)
        of_nulls = {name: of_params[name] for nulls, _ in MASKS.values() for name in nulls}
        return {name: float(np.abs(np.asarray(gradient)).max()) for name, gradient in (of_nulls | of_values).items()}

    for dropped in [None, *MASKS]:
        conditions = known
        if dropped:
            conditions = known._replace(**{dropped: np.zeros_like(getattr(known, dropped))})
        size = sizes(conditions)
        for mask, (nulls, values) in MASKS.items():
            for null in nulls:
                assert size[null] > 1e-4 if mask == dropped else size[null] == 0, (dropped, null)
            for value in values:
                assert size[value] == 0 if mask == dropped else size[value] > 1e-4, (dropped, value)


def test_audio_mask_is_per_frame(tiny):
    """A truncated tail is not read, whatever stands there: not even NaN."""
    model, apply, params = tiny
    noisy, t, conditions = make_inputs(model, 1, audio_mask=np.arange(model.window)[None] < 7)
    base = np.asarray(apply(params, noisy, t, conditions))
    audio = conditions.audio.copy()
    audio[:, 7:] = np.nan
    np.testing.assert_array_equal(apply(params, noisy, t, conditions._replace(audio=audio)), base)
    audio[:, 6] += 1.0
    assert np.abs(apply(params, noisy, t, conditions._replace(audio=audio)) - base).max() > 1e-3


def test_unknown_labels_may_be_nan(tiny):
    model, apply, params = tiny
    noisy, t, conditions = make_inputs(model, 1, emotion_mask=np.zeros((1,), bool))
    conditions = conditions._replace(emotion=np.full((1, 8), np.nan, np.float32))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(apply(p, noisy, t, conditions) ** 2)))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_timestep_matters(tiny):
    model, apply, params = tiny
    noisy, _, conditions = make_inputs(model, 1)
    early, late = (np.asarray(apply(params, noisy, np.array([t]), conditions)) for t in (0, 999))
    assert np.abs(early - late).max() > 1e-2


def test_frames_have_an_order(tiny):
    model, apply, params = tiny
    noisy, t, conditions = make_inputs(model, 1)
    output = np.asarray(apply(params, noisy, t, conditions))
    reverse = np.asarray(apply(params, noisy[:, ::-1], t, conditions._replace(audio=conditions.audio[:, ::-1])))
    assert np.abs(reverse[:, ::-1] - output).max() > 1e-2


def test_dropout_needs_a_random_key():
    model, apply, params = build(dropout=0.5)
    inputs = make_inputs(model, 1)
    base = np.asarray(apply(params, *inputs))
    np.testing.assert_array_equal(apply(params, *inputs), base)
    assert np.abs(apply(params, *inputs, rngs={"dropout": jax.random.key(0)}) - base).max() > 1e-2


def test_positional_encoding_is_the_textbook_table():
    table = PositionalEncoding(8).apply({}, jnp.array([0.0, 3.0]))
    angles = 3.0 / 10_000.0 ** (np.arange(4) / 4)
    np.testing.assert_allclose(table[0], [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-7)
    np.testing.assert_allclose(table[1], np.concatenate([np.sin(angles), np.cos(angles)]), atol=1e-6)


def test_wrong_window_is_refused(tiny):
    model, apply, params = tiny
    noisy, t, conditions = make_inputs(model, 1)
    with pytest.raises(ValueError, match="W = 12 and K = 4"):
        apply(params, noisy[:, :-1], t, conditions)


@pytest.mark.parametrize("field", [{"time_conditioning": "film"}, {"positions": "rotary"}])
def test_unknown_field_values(field):
    model = VASADiffusionTransformer(**TINY | field)
    with pytest.raises(ValueError, match="must be"):
        jax.eval_shape(model.init, jax.random.key(0), *make_inputs(model, 1))

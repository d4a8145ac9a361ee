"""AudioEncoder: sizes, names, frame counts, alignment with video, locality, loudness, parity with PyTorch."""

import functools
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official_state import GOLDEN, inputs, random_state
from random_params import random_params
from safetensors.numpy import save_file

from vasa_jax.conventions import frame_count
from vasa_jax.models.audio import AudioEncoder, feature_frames, pad_for_video, pair_mean
from vasa_jax.models.variants import AUDIO_VARIANTS
from vasa_jax.weights.wav2vec2 import load_wav2vec2


def abstract_params(name):
    encoder = AudioEncoder(**AUDIO_VARIANTS[name])
    return jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 4000)))["params"]


def key_list(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sorted(f"{'/'.join(k.key for k in path)} {tuple(leaf.shape)}" for path, leaf in leaves)


SHORT = {"conv_kernels": (10, 3, 2), "conv_strides": (5, 2, 2)}  # three convolutions compile faster than seven


def noise(seed, *shape, level=0.1):
    return level * jax.random.normal(jax.random.key(seed), shape)


def build(name, **change):
    """The encoder's jitted `apply`, its jitted `extract`, its parameters."""
    encoder = AudioEncoder(**AUDIO_VARIANTS[name] | change)
    params = random_params(encoder.init, jnp.zeros((1, 2000)))
    return jax.jit(encoder.apply), jax.jit(functools.partial(encoder.apply, method="extract")), params


@pytest.fixture(scope="module")
def demo():
    return build("audio_demo")


@pytest.mark.parametrize(
    ("name", "parameters"),
    # PyTorch counts 94 371 712 and 315 438 720: masked_spec_embed (the width) and the 128 gains of the weight norm more
    [("wav2vec2_base", 94_371_712 - 768 - 128), ("wav2vec2_large", 315_438_720 - 1024 - 128), ("audio_demo", 413_520)],
)
def test_parameter_count(name, parameters):
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract_params(name))) == parameters


def test_base_names_and_shapes():
    keys = key_list(abstract_params("wav2vec2_base"))
    for expected in (
        "feature_extractor/conv_layers_0/conv/kernel (10, 1, 512)",
        "feature_extractor/conv_layers_0/layer_norm/scale (512,)",
        "feature_extractor/conv_layers_4/conv/kernel (3, 512, 512)",
        "feature_extractor/conv_layers_6/conv/kernel (2, 512, 512)",
        "feature_projection/layer_norm/bias (512,)",
        "feature_projection/projection/kernel (512, 768)",
        "encoder/pos_conv_embed/conv/kernel (128, 48, 768)",
        "encoder/layer_norm/scale (768,)",
        "encoder/layers_11/attention/out_proj/kernel (768, 768)",
        "encoder/layers_11/layer_norm/scale (768,)",
        "encoder/layers_11/feed_forward/intermediate_dense/kernel (768, 3072)",
        "encoder/layers_11/final_layer_norm/bias (768,)",
    ):
        assert expected in keys
    norms = [key for key in keys if key.startswith("feature_extractor") and "layer_norm" in key]
    assert len(norms) == 2, "only the first convolution has a norm"
    assert not [key for key in keys if "conv_layers" in key and "conv/bias" in key]


def test_demo_key_list_is_pinned():
    """Shipped weights are stored under these names: a change here breaks them."""
    digest = hashlib.sha256("\n".join(key_list(abstract_params("audio_demo"))).encode()).hexdigest()
    assert digest == "ae0bcc830d04c0efb5e4aa2360cd94cae74ffb8468d61d078faa08f4a53b708e"


def test_feature_frames():
    assert [feature_frames(n) for n in (0, 399, 400, 719, 720, 16_000, 64_000, 48_080)] == [0, 0, 1, 1, 2, 49, 199, 150]
    assert all(feature_frames(640 * n + 80) == 2 * n for n in range(1, 400))
    assert [frame_count(n) for n in (0, 1, 640, 641)] == [0, 1, 1, 2]


def test_features_of_tiny_have_the_predicted_length():
    encoder = AudioEncoder(**AUDIO_VARIANTS["audio_tiny"])
    for samples in (400, 1039, 4000):
        output, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), jnp.zeros((2, samples)))
        assert output.shape == (2, feature_frames(samples), 32)
        assert output.dtype == jnp.float32


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 4567])
def test_padding_gives_two_features_per_video_frame(samples):
    sound = np.arange(1, samples + 1, dtype=np.float32)
    padded = pad_for_video(sound)
    assert isinstance(padded, np.ndarray)
    assert feature_frames(padded.shape[-1]) == 2 * frame_count(samples)
    np.testing.assert_array_equal(padded[:samples], sound)
    assert not padded[samples:].any()
    np.testing.assert_array_equal(pad_for_video(jnp.asarray(sound)[None])[0], padded)


def test_pair_mean():
    features = np.arange(24, dtype=np.float32).reshape(2, 6, 2)
    expected = features.reshape(2, 3, 2, 2).mean(2)
    np.testing.assert_array_equal(pair_mean(features), expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(pair_mean))(features), expected)
    with pytest.raises(ValueError, match="even number"):
        pair_mean(features[:, :5])


def test_feature_k_sees_its_400_samples_only(demo):
    """The exact alignment with video: frame k moves with samples [320 k, 320 k + 400) and with no other."""
    _, extract, params = demo
    sound = np.array(noise(1, 1, 3280))
    base = extract(params, sound)[0]
    for sample in (0, 319, 320, 399, 400, 2000):
        other = sound.copy()
        other[0, sample] += 0.5
        moved = np.flatnonzero(np.abs(np.asarray(extract(params, other)[0] - base)).max(-1))
        expected = [k for k in range(base.shape[0]) if 320 * k <= sample < 320 * k + 400]
        assert moved.tolist() == expected


def test_convolutions_do_not_depend_on_the_chunk(demo):
    sound = np.asarray(noise(2, 1, 3280)) * np.linspace(0.1, 2.0, 3280, dtype=np.float32)

    def difference(extract, params):
        whole = extract(params, sound)
        chunk = extract(params, sound[:, 320 * 3 : 320 * 8 + 80])
        return np.abs(np.asarray(chunk - whole[:, 3:8])).max()

    assert difference(*demo[1:]) < 2e-5
    assert difference(*build("audio_tiny", conv_norm="group", conv_bias=False)[1:]) > 1e-3, "a norm over time does"


def test_loudness_is_kept_by_scale_and_removed_by_utterance(demo):
    apply, _, params = demo
    sound = np.asarray(noise(3, 1, 3280))
    assert np.abs(np.asarray(apply(params, 0.05 * sound) - apply(params, sound))).max() > 0.1
    _, standard, params = build("audio_tiny", **SHORT, waveform="utterance")
    np.testing.assert_allclose(standard(params, 0.5 * sound + 0.1), standard(params, sound), atol=1e-3)


def test_silence_is_finite_and_constant(demo):
    _, extract, params = demo
    features = np.asarray(extract(params, np.zeros((1, 3280), np.float32)))
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features, np.broadcast_to(features[:, :1], features.shape), atol=1e-6)


@pytest.mark.parametrize("change", [{}, {"conv_norm": "group", "conv_bias": False, "pre_norm": False, "dropout": 0.5}])
def test_batched_equals_single(change):
    apply, _, params = build("audio_tiny", **SHORT, **change)
    sound = np.asarray(noise(4, 3, 400))
    single = np.concatenate([apply(params, row[None]) for row in sound])
    np.testing.assert_allclose(apply(params, sound), single, atol=1e-5)
    if not change:
        mapped = jax.jit(jax.vmap(lambda row: apply(params, row[None])[0]))(sound)
        np.testing.assert_allclose(mapped, single, atol=1e-5)


def test_dropout_needs_a_random_key():
    apply, _, params = build("audio_tiny", **SHORT, dropout=0.5)
    sound = np.asarray(noise(5, 1, 400))
    np.testing.assert_array_equal(apply(params, sound), apply(params, sound))
    dropped = apply(params, sound, rngs={"dropout": jax.random.key(1)})
    assert np.abs(np.asarray(dropped - apply(params, sound))).max() > 0.1


def test_bfloat16_is_close():
    apply, _, params = build("audio_tiny", **SHORT)
    sound = np.asarray(noise(6, 1, 400))
    half = build("audio_tiny", **SHORT, dtype=jnp.bfloat16)[0](params, sound)
    assert half.dtype == jnp.float32
    assert np.sqrt(np.mean(np.asarray(half - apply(params, sound)) ** 2)) < 0.1  # of unit variance


@pytest.mark.parametrize("field", [{"waveform": "loud"}, {"conv_norm": "batch"}])
def test_unknown_field_values(field):
    encoder = AudioEncoder(**AUDIO_VARIANTS["audio_tiny"] | field)
    with pytest.raises(ValueError, match="must be"):
        jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 400)))


@pytest.mark.parametrize("layout", ["base", "large"])
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_parity_with_pytorch(tmp_path, kind, layout):
    """Through a saved file: names, weight norm and every stage (tests/golden/make_wav2vec2.py)."""
    table = json.loads((GOLDEN / "wav2vec2.json").read_text())[f"{kind}_{layout}"]
    golden = np.load(GOLDEN / "wav2vec2.npz")
    state = random_state({name: tuple(map(int, shape.split("x"))) for name, shape in table.items()})
    save_file(state, tmp_path / "model.safetensors")
    params, metadata = load_wav2vec2(tmp_path / "model.safetensors")
    encoder, params = AudioEncoder(**metadata["fields"]), {"params": params}
    sound = inputs("sound", 2, 4000)
    features = encoder.apply(params, sound, method="extract")
    np.testing.assert_allclose(features, golden[f"{kind}_{layout}/features"], atol=1e-4)
    np.testing.assert_allclose(encoder.apply(params, sound), golden[f"{kind}_{layout}/output"], atol=1e-4)

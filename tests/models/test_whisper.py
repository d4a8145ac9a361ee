"""Whisper's encoder: its mels are librosa's, its layers are those of the published network, its files load."""

import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.special import erf
from tiny_whisper import LAYERS, WIDTH, hf_state

from vasa_jax.errors import InputError
from vasa_jax.models import whisper
from vasa_jax.models.whisper import WhisperEncoder, whisper_features, whisper_mels
from vasa_jax.weights.tensor_files import flat_state, read_tensors
from vasa_jax.weights.whisper import is_whisper, load_whisper

ENCODER = "model.encoder"


def read(path):
    return load_whisper(flat_state(read_tensors(path)), path)


@pytest.fixture(autouse=True)
def short_window(monkeypatch):
    monkeypatch.setattr(whisper, "WINDOW", 32_000)


def test_mels_are_those_of_librosa():
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(32_000) * np.linspace(0, 1, 32_000)).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=sound, sr=16_000, n_fft=400, hop_length=160, n_mels=80, window="hann", center=True, pad_mode="reflect"
    )[:, :-1]
    logs = np.log10(np.maximum(power, 1e-10))
    expected = (np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0
    np.testing.assert_allclose(np.asarray(whisper_mels(sound[None]))[0].T, expected, atol=2e-4)


def reference(state, mels):
    """Computes the encoder from its published names, in float64 NumPy: (steps, 80) -> (steps / 2, width)."""
    state = {name.removeprefix("model.encoder."): value.astype(np.float64) for name, value in state.items()}

    def dense(x, name):
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def gelu(x):
        return 0.5 * x * (1.0 + erf(x / 2**0.5))

    def conv(x, name, stride):
        x = np.pad(x, ((1, 1), (0, 0)))
        taps = state[f"{name}.weight"]
        count = (len(x) - 3) // stride + 1
        y = sum(x[tap : tap + stride * (count - 1) + 1 : stride] @ taps[:, :, tap].T for tap in range(3))
        return y + state[f"{name}.bias"]

    x = gelu(conv(gelu(conv(mels.astype(np.float64), "conv1", 1)), "conv2", 2)) + state["embed_positions.weight"]
    for layer in (f"layers.{number}" for number in range(LAYERS)):
        y = norm(x, f"{layer}.self_attn_layer_norm")
        heads = []
        for columns in np.split(np.arange(WIDTH), WIDTH // 64):
            q, k, v = (dense(y, f"{layer}.self_attn.{name}_proj")[:, columns] for name in "qkv")
            weights = np.exp(q @ k.T / 8.0)
            heads.append(weights / weights.sum(-1, keepdims=True) @ v)
        x = x + dense(np.concatenate(heads, -1), f"{layer}.self_attn.out_proj")
        x = x + dense(gelu(dense(norm(x, f"{layer}.final_layer_norm"), f"{layer}.fc1")), f"{layer}.fc2")
    return norm(x, "layer_norm")


def test_a_file_gives_the_features_of_the_published_network(tmp_path):
    state = hf_state()
    save_file(state, tmp_path / "model.safetensors")
    encoder, params = read(tmp_path / "model.safetensors")
    assert (encoder.width, encoder.layers) == (WIDTH, LAYERS)
    mels = np.random.default_rng(1).normal(size=(200, 80)).astype(np.float32)
    found = np.asarray(encoder.apply({"params": params}, mels[None]))[0]
    np.testing.assert_allclose(found, reference(state, mels), atol=2e-5)


def test_a_decoder_and_other_prefixes_do_no_harm(tmp_path):
    state = hf_state()
    renamed = {name.removeprefix("model."): value for name, value in state.items()}
    save_file({**renamed, "decoder.layer_norm.weight": np.ones(3, np.float32)}, tmp_path / "model.safetensors")
    _, params = read(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(params["embed_positions"], state["model.encoder.embed_positions.weight"])


def test_other_files_are_told_apart():
    assert is_whisper(hf_state()) and not is_whisper({"wav2vec2.encoder.layer_norm.weight": np.ones(3)})


def test_a_sound_is_heard_with_silence_after_it():
    encoder = WhisperEncoder(WIDTH, LAYERS)
    sound = 0.1 * np.random.default_rng(0).standard_normal((1, 16_080)).astype(np.float32)
    params = encoder.init({"params": jnp.zeros(2, jnp.uint32)}, jnp.zeros((1, 200, 80)))["params"]
    features = whisper_features(encoder, params, sound)
    assert features.shape == (1, 50, WIDTH)
    longer = whisper_features(encoder, params, np.pad(sound, ((0, 0), (0, 15_920))))
    np.testing.assert_allclose(longer[:, :50], features, atol=1e-6)
    with pytest.raises(ValueError, match="at most 32000"):
        whisper_features(encoder, params, jnp.zeros((1, 33_000)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop(f"{ENCODER}.layers.1.fc2.bias"), r"no tensor 'model\.encoder\.layers\.1\.fc2\.bias'"),
        (lambda state: state.update({f"{ENCODER}.conv1.weight": np.zeros((WIDTH, 128, 3), "f")}), "is no finite"),
        (lambda state: state[f"{ENCODER}.layer_norm.bias"].fill(np.nan), "is no finite"),
        (lambda state: state.update({f"{ENCODER}.embed_positions.weight": np.ones(3, "f")}), "no Whisper has these"),
        (lambda state: state.update({f"{ENCODER}.embed_positions.weight": np.ones((), "f")}), "no Whisper has these"),
        (lambda state: state.update({f"{ENCODER}.layers.{n}.x": np.ones(1, "f") for n in range(40)}), "no Whisper has"),
        (lambda state: state.update({f"{ENCODER}.layers.no.x": np.ones(1, "f")}), "no tensor"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line(tmp_path, change, said):
    state = hf_state()
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=said):
        read(tmp_path / "model.safetensors")

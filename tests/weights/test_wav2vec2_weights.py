"""Public wav2vec 2.0 and HuBERT files: a synthetic state dict in either spelling becomes the encoder's parameters."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from random_params import random_params
from safetensors.numpy import save_file

from vasa_jax.errors import InputError
from vasa_jax.models.audio import CONV_STRIDES, AudioEncoder
from vasa_jax.models.variants import AUDIO_VARIANTS
from vasa_jax.weights.parts import load_part
from vasa_jax.weights.safetensors_io import save_params
from vasa_jax.weights.wav2vec2 import is_public_file, key_table, load_wav2vec2

SMALL = {"conv_width": 8, "width": 64, "layers": 2, "heads": 1, "ff_width": 24, "pos_kernel": 6, "pos_groups": 4}
LAYOUTS = {
    "base": SMALL | {"conv_norm": "group", "conv_bias": False, "pre_norm": False},
    "large": SMALL | {"conv_norm": "layer", "conv_bias": True, "pre_norm": True},
}
SPELLINGS = {
    "weight_g": ("weight_g", "weight_v"),
    "parametrizations": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
}
POSITIONS = "encoder.pos_conv_embed.conv"


def random_encoder(layout):
    params = random_params(AudioEncoder(**LAYOUTS[layout]).init, jnp.zeros((1, 4000)))["params"]
    return jax.tree.map(np.float32, params)


def public_state(params, spelling="weight_g", prefix=""):
    """The tensors of a public file with these parameters, renamed without the table under test."""
    state = {}
    for path, value in traverse_util.flatten_dict(params, sep=".").items():
        name = re.sub(r"layers_(\d+)", r"layers.\1", path)
        name = re.sub(r"(kernel|scale)$", "weight", name)
        state[prefix + name] = np.ascontiguousarray(np.transpose(value) if path.endswith("kernel") else value)
    weight = state.pop(f"{prefix}{POSITIONS}.weight")
    gain, direction = SPELLINGS[spelling]
    state[f"{prefix}{POSITIONS}.{gain}"] = np.sqrt(np.square(weight).sum((0, 1), keepdims=True))
    taps = np.random.default_rng(1).uniform(0.2, 3.0, weight.shape[2]).astype(np.float32)
    state[f"{prefix}{POSITIONS}.{direction}"] = weight * taps  # the length of a direction means nothing
    return state | {f"{prefix}masked_spec_embed": np.zeros(64, np.float32)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("prefix", ["", "wav2vec2.", "hubert."])
def test_a_public_file_becomes_the_encoders_parameters(tmp_path, layout, spelling, prefix):
    params = random_encoder(layout)
    state = public_state(params, spelling, prefix)
    if prefix:  # a larger model around the encoder
        state |= {"lm_head.weight": np.zeros((32, 64), np.float32), "quantizer.codevectors": np.zeros(3, np.float32)}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found, metadata = load_wav2vec2(tmp_path / "model.safetensors")
    assert metadata["fields"] | LAYOUTS[layout] == metadata["fields"]
    assert metadata["fields"]["conv_strides"] == CONV_STRIDES and metadata["fields"]["waveform"] == "utterance"
    for path, value in traverse_util.flatten_dict(params, sep=".").items():
        one = traverse_util.flatten_dict(found, sep=".")[path]
        assert one.dtype == np.float32
        if path.startswith(POSITIONS) and path.endswith("kernel"):
            np.testing.assert_allclose(one, value, rtol=1e-5, atol=1e-7)
        else:
            np.testing.assert_array_equal(one, value)
    assert json.loads(json.dumps(metadata["fields"]))  # goes into an export


def test_every_published_tensor_has_its_place():
    """The names of wav2vec2-base, by hand from its layout."""
    encoder = AudioEncoder(**AUDIO_VARIANTS["wav2vec2_base"])
    params = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 4000)))["params"]
    both = ("weight", "bias")
    names = {f"feature_extractor.conv_layers.{i}.conv.weight" for i in range(7)}
    names |= {f"feature_extractor.conv_layers.0.layer_norm.{kind}" for kind in both}
    names |= {f"feature_projection.{part}.{kind}" for part in ("layer_norm", "projection") for kind in both}
    names |= {f"encoder.{part}.{kind}" for part in ("pos_conv_embed.conv", "layer_norm") for kind in both}
    parts = [f"attention.{part}_proj" for part in ("q", "k", "v", "out")]
    parts += ["layer_norm", "feed_forward.intermediate_dense", "feed_forward.output_dense", "final_layer_norm"]
    names |= {f"encoder.layers.{i}.{part}.{kind}" for i in range(12) for part in parts for kind in both}
    table = key_table(params)
    assert set(table) == names
    assert {target for target, _ in table.values()} == set(traverse_util.flatten_dict(params))
    assert table["encoder.layers.3.attention.q_proj.weight"] == (
        ("encoder", "layers_3", "attention", "q_proj", "kernel"), True,
    )  # fmt: skip
    assert table["encoder.layer_norm.weight"] == (("encoder", "layer_norm", "scale"), False)


def test_a_config_beside_the_file_tells_what_tensors_do_not(tmp_path):
    save_file(public_state(random_encoder("base")), tmp_path / "model.safetensors")
    told = {"num_attention_heads": 8, "do_stable_layer_norm": True, "conv_stride": [5, 2, 2, 2, 2, 2, 1]}
    (tmp_path / "config.json").write_text(json.dumps(told))
    fields = load_wav2vec2(tmp_path / "model.safetensors")[1]["fields"]
    assert (fields["heads"], fields["pre_norm"], fields["conv_strides"]) == (8, True, (5, 2, 2, 2, 2, 2, 1))


def test_parts_may_be_public_files(tmp_path):
    params = random_encoder("base")
    save_file(public_state(params), tmp_path / "any.safetensors")
    by_file = load_part(tmp_path / "any.safetensors", "audio")
    (tmp_path / "any.safetensors").rename(tmp_path / "audio.safetensors")
    by_directory = load_part(tmp_path, "audio")
    jax.tree.map(np.testing.assert_array_equal, by_file[0], by_directory[0])
    assert by_file[1]["fields"] == by_directory[1]["fields"]
    save_params(tmp_path / "own" / "audio.safetensors", params, {"fields": LAYOUTS["base"]})
    assert not is_public_file(tmp_path / "own" / "audio.safetensors")
    assert load_part(tmp_path / "own", "audio")[1] == {"fields": LAYOUTS["base"]}


def broken(change):
    state = public_state(random_encoder("base"))
    change(state)
    return state


FAULTS = {
    "another model": (lambda s: s.clear() or s.update(w=np.zeros(3, np.float32)), "no convolutions"),
    "a tensor is missing": (lambda s: s.pop("encoder.layers.1.attention.q_proj.bias"), "no tensor 'encoder.layers.1."),
    "a tensor too many": (lambda s: s.update({"adapter.weight": np.zeros(3, np.float32)}), "unknown tensor 'adapter"),
    "half of the weight norm": (lambda s: s.pop(f"{POSITIONS}.weight_g"), "no matching weight_g and weight_v"),
    "another shape": (
        lambda s: s.update({"feature_projection.projection.weight": np.zeros((8, 64), np.float32)}),
        "'feature_projection.projection.weight' has shape (8, 64)",
    ),
    "six convolutions": (
        lambda s: [s.pop(name) for name in list(s) if "conv_layers.6" in name],
        "6 convolutions, 7 strides",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_file_is_named_in_one_line(tmp_path, name):
    change, fault = FAULTS[name]
    path = tmp_path / "model.safetensors"
    save_file(broken(change), path)
    with pytest.raises(InputError) as error:
        load_wav2vec2(path)
    text = str(error.value)
    assert text.startswith(str(path)) and fault in text and "\n" not in text


def test_unreadable_files(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        load_wav2vec2(tmp_path / "missing.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_wav2vec2(tmp_path / "bad.safetensors")
    (tmp_path / "model.bin").write_bytes(b"no tensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"needs PyTorch .* or give a \.safetensors file"):
        load_wav2vec2(tmp_path / "model.bin")

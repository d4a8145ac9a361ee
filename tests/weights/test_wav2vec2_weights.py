"""Public wav2vec 2.0 and HuBERT files: a synthetic state dict in either spelling becomes the encoder's parameters."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from public_encoders import LAYOUTS, POSITIONS, SPELLINGS, public_state, random_encoder
from safetensors.numpy import save_file
from torch_files import tensors, write_zip

from vasa_jax.errors import InputError
from vasa_jax.models.audio import CONV_STRIDES, AudioEncoder
from vasa_jax.models.variants import AUDIO_VARIANTS
from vasa_jax.weights.parts import load_part
from vasa_jax.weights.safetensors_io import save_params
from vasa_jax.weights.wav2vec2 import is_public_file, key_table, load_wav2vec2


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


FAIRSEQ = (
    ("feature_projection.projection", "post_extract_proj"),
    ("feature_projection.layer_norm", "layer_norm"),
    ("encoder.pos_conv_embed.conv", "encoder.pos_conv.0"),
    (".feed_forward.intermediate_dense", ".fc1"),
    (".feed_forward.output_dense", ".fc2"),
    (".attention.", ".self_attn."),
)


def fairseq_state(state, layout):
    """The same tensors as fairseq's HuBERT and wav2vec 2.0 name them."""
    names = {}
    for name, value in state.items():
        layer, _, rest = name.removeprefix("encoder.layers.").partition(".")
        if name.startswith("feature_extractor"):
            name = name.replace(".conv.", ".0.").replace(".layer_norm.", ".2." if layout == "base" else ".2.1.")
        elif name.startswith("encoder.layers.") and rest.startswith("layer_norm."):
            name = f"encoder.layers.{layer}.self_attn_{rest}"
        else:
            for ours, theirs in FAIRSEQ:
                name = name.replace(ours, theirs)
        names[name.replace("masked_spec_embed", "mask_emb")] = value
    return names


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fairseqs_names(tmp_path, layout):
    params = random_encoder(layout)
    state = fairseq_state(public_state(params), layout)
    state |= {"final_proj.weight": np.zeros((4, 64), np.float32), "label_embs_concat": np.zeros((504, 4), np.float32)}
    write_zip(tmp_path / "encoder.pt", {"cfg": {"model": {"_name": "hubert"}}, "model": tensors(state)})
    save_file(public_state(params), tmp_path / "model.safetensors")
    found, expected = load_wav2vec2(tmp_path / "encoder.pt"), load_wav2vec2(tmp_path / "model.safetensors")
    assert found[1]["fields"] == expected[1]["fields"]
    jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])


def test_pickled_files_need_no_pytorch(tmp_path):
    state = public_state(random_encoder("base"), prefix="hubert.")
    write_zip(tmp_path / "pytorch_model.bin", tensors(state))
    save_file(state, tmp_path / "model.safetensors")
    found, expected = (load_wav2vec2(tmp_path / name)[0] for name in ("pytorch_model.bin", "model.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_sound_may_enter_as_it_is(tmp_path):
    save_file(public_state(random_encoder("base")), tmp_path / "model.safetensors")
    fields = load_wav2vec2(tmp_path / "model.safetensors", waveform=1.0)[1]["fields"]
    assert (fields["waveform"], fields["waveform_scale"]) == ("scale", 1.0)


@pytest.mark.parametrize("name, value", [("conv_pos_batch_norm", True), ("feat_proj_layer_norm", False)])
def test_a_config_that_means_another_network_is_refused(tmp_path, name, value):
    save_file(public_state(random_encoder("base")), tmp_path / "model.safetensors")
    told = {"conv_stride": [5, 2, 2, 2, 2, 2, 2], name: value}
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=f"{name} is {value}, another network"):
        load_wav2vec2(tmp_path / "model.safetensors")


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


def test_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_wav2vec2(tmp_path / "missing.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_wav2vec2(tmp_path / "bad.safetensors")
    (tmp_path / "model.bin").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="damaged or no such format"):
        load_wav2vec2(tmp_path / "model.bin")


def test_a_public_file_of_numbers_that_are_none_or_with_an_odd_config_is_named(tmp_path):
    state = public_state(random_encoder("base"), "weight_g")
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    load_wav2vec2(path)
    for content in ({"conv_stride": "x"}, {"conv_stride": [0]}, {"conv_stride": [2], "num_attention_heads": 10**9}):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"config\.json: .*; put the model's own"):
            load_wav2vec2(path)
    (tmp_path / "config.json").write_text("[" * 100_000)  # not read, as any other file
    load_wav2vec2(path)
    name = min(state)
    save_file({**state, name: np.full_like(state[name], np.nan)}, path)
    with pytest.raises(InputError, match="is not finite"):
        load_wav2vec2(path)
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="header is cut or too large"):
        load_wav2vec2(path)

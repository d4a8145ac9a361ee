"""Public wav2vec 2.0 and HuBERT weights as parameters of `AudioEncoder`.

Files in the naming of Hugging Face (`Wav2Vec2Model`, `HubertModel`, also inside a larger model) or of fairseq. Both
safetensors and pickled state dicts are read, without PyTorch. The weight-normalised positional convolution is
folded into one kernel; both spellings of its parts are read. Sizes come from the tensors; what these do not tell
(heads, strides, whether norms come first) from a `config.json` beside the file, else from the layouts that were
published: heads of 64 channels, and norms first exactly where every convolution has a norm.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.errors import InputError
from vasa_jax.files import read_json
from vasa_jax.models.audio import CONV_STRIDES, AudioEncoder
from vasa_jax.schema import Each, Flag, Whole, check
from vasa_jax.weights.tensor_files import flat_state, read_tensors

_PREFIXES = ("wav2vec2.", "hubert.", "audio_encoder.")
_FAIRSEQ = "encoder.pos_conv.0."  # how names start that only fairseq's files have
_FAIRSEQ_NAMES = (
    (r"^w2v_encoder\.w2v_model\.", ""),
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.2\.(1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
# Of training, or of what stands on top of the encoder.
_IGNORED = re.compile(
    r"masked_spec_embed|lm_head\.|quantizer\.|project_(hid|q)\.|classifier\.|projector\.|layer_weights"
    r"|mask_emb|final_proj\.|label_embs_concat|w2v_encoder\.proj\."
)
_POSITIONS = "encoder.pos_conv_embed.conv"
_WEIGHT_NORM = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
# Of a model's config.json.
_CONFIG = {
    "conv_stride": Each(Whole(1, 100), 1, 32), "num_attention_heads": Whole(1, 1024), "do_stable_layer_norm": Flag(),
}  # fmt: skip
_WANTED = "give weights of wav2vec 2.0 or HuBERT in the naming of Hugging Face or fairseq"
# Values of a config.json that mean another network.
_OTHER_NETWORK = {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False, "add_adapter": True}


def is_public_file(path: str | Path) -> bool:
    """Tells whether a safetensors file holds an audio encoder under the public names rather than this package's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (SafetensorError, OSError):
        return False
    return any(f"{_POSITIONS}." in name and not name.endswith(".kernel") for name in names) and not any(
        name.endswith(".kernel") for name in names
    )


def load_wav2vec2(path: str | Path, waveform: float = 0.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file: (float32 parameters of `AudioEncoder`, metadata with its `fields`); InputError names the fault.

    `waveform` as in `encoder_params`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; {_WANTED}")
    return encoder_params(read_tensors(path), path, waveform)


def encoder_params(
    content: Mapping[str, Any], path: Path, waveform: float = 0.0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Converts what a file holds, as `load_wav2vec2` does.

    `waveform`: what sound in [-1, 1] is multiplied by before it enters; 0 = mean 0 and variance 1 over each utterance,
    as the public encoders are given it.
    """
    if isinstance(content.get("model"), Mapping):
        content = content["model"]
    state = {name: value for name, value in _public_names(flat_state(content)).items() if not _IGNORED.match(name)}
    _fold_weight_norm(state, path)
    fields = _fields(state, path)
    if waveform:
        fields |= {"waveform": "scale", "waveform_scale": waveform}
    expected = jax.eval_shape(AudioEncoder(**fields).init, jax.random.key(0), jnp.zeros((1, 4000)))["params"]
    table, params = key_table(expected), {}
    for name, (target, transposed) in table.items():
        if name not in state:
            raise InputError(f"{path}: no tensor '{name}'; {_WANTED}")
        with np.errstate(over="ignore"):
            value = np.asarray(state.pop(name), np.float32)
        params[target] = np.ascontiguousarray(value.T if transposed else value)
        shape = traverse_util.flatten_dict(expected)[target].shape
        if params[target].shape != shape:
            raise InputError(f"{path}: '{name}' has shape {value.shape}, not that of a {shape} kernel; {_WANTED}")
        if not np.isfinite(value).all():
            raise InputError(f"{path}: '{name}' is not finite; {_WANTED}")
    if state:
        raise InputError(f"{path}: unknown tensor '{min(state)}'; {_WANTED}")
    return traverse_util.unflatten_dict(params), {"fields": fields, "source": path.name}


def key_table(params: dict[str, Any]) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Maps the public name of each parameter of an encoder to (its path here, whether its axes are reversed).

    (out, in, taps) becomes (taps, in, out), and (out, in) becomes (in, out).
    """
    table = {}
    for path in traverse_util.flatten_dict(params):
        parts = [re.sub(r"(layers)_(\d+)", r"\1.\2", part) for part in path]
        kind = {"kernel": "weight", "scale": "weight", "bias": "bias"}[parts[-1]]
        table[".".join([*parts[:-1], kind])] = (path, path[-1] == "kernel")
    return table


def _public_names(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Brings names to those of the bare encoder of Hugging Face: a larger model puts the encoder's name in front."""
    if any(_FAIRSEQ in name for name in state):
        for pattern, name in _FAIRSEQ_NAMES:
            state = {re.sub(pattern, name, key): value for key, value in state.items()}
        return state
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in state):
            return {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def _fold_weight_norm(state: dict[str, np.ndarray], path: Path) -> None:
    """w = g v / |v| per tap of the kernel, |v| over outputs and inputs."""
    for gain, direction in _WEIGHT_NORM:
        g, v = (state.pop(f"{_POSITIONS}.{part}", None) for part in (gain, direction))
        if g is None and v is None:
            continue
        if g is None or v is None or v.ndim != 3 or g.size != v.shape[2]:
            raise InputError(f"{path}: '{_POSITIONS}' has no matching {gain} and {direction}; {_WANTED}")
        g, v = np.asarray(g, np.float64).reshape(-1), np.asarray(v, np.float64)
        norm = np.sqrt(np.square(v).sum((0, 1)))
        state[f"{_POSITIONS}.weight"] = (g * v / np.maximum(norm, np.finfo(np.float64).tiny)).astype(np.float32)


def _fields(state: dict[str, np.ndarray], path: Path) -> dict[str, Any]:
    """The encoder's sizes."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        if name not in state or state[name].ndim != axes:
            raise InputError(f"{path}: no tensor '{name}' of {axes} axes; {_WANTED}")
        return state[name].shape

    known = _published(path)
    for name, value in _OTHER_NETWORK.items():
        if known.get(name) == value:
            raise InputError(f"{path.parent / 'config.json'}: {name} is {value}, another network; {_WANTED}")
    convolutions = _count(state, r"feature_extractor\.conv_layers\.(\d+)\.")
    layers = _count(state, r"encoder\.layers\.(\d+)\.")
    shapes = [shape(f"feature_extractor.conv_layers.{i}.conv.weight", 3) for i in range(convolutions)]
    if not shapes or len({s[0] for s in shapes}) > 1:
        raise InputError(f"{path}: no convolutions of one width ({len(shapes)} found); {_WANTED}")
    strides = tuple(known.get("conv_stride", CONV_STRIDES))
    if len(strides) != convolutions:
        raise InputError(f"{path}: {convolutions} convolutions, {len(strides)} strides; put its config.json beside it")
    width, groups_in, taps = shape(f"{_POSITIONS}.weight", 3)
    per_layer = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    return {
        "conv_width": shapes[0][0],
        "conv_kernels": tuple(s[2] for s in shapes),
        "conv_strides": strides,
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "conv_norm": "layer" if per_layer else "group",
        "width": width,
        "layers": layers,
        "heads": known.get("num_attention_heads", max(width // 64, 1)),
        "ff_width": shape("encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0],
        "pos_kernel": taps,
        "pos_groups": width // groups_in,
        "pre_norm": known.get("do_stable_layer_norm", per_layer),
        "waveform": "utterance",
    }


def _count(state: dict[str, np.ndarray], pattern: str) -> int:
    return 1 + max((int(match[1]) for name in state if (match := re.match(pattern, name))), default=-1)


def _published(path: Path) -> dict[str, Any]:
    """The model's own config.json, where it lies beside its weights; else nothing."""
    remedy = "put the model's own beside its weights, or none"
    try:
        content = read_json(path.parent / "config.json", remedy)
    except InputError:
        return {}
    if not isinstance(content, dict) or "conv_stride" not in content:
        return {}
    known = {name: content[name] for name in _CONFIG if name in content}
    check(known, {name: _CONFIG[name] for name in known}, str(path.parent / "config.json"), remedy)
    return content

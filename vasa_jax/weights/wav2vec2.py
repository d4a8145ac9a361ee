"""Public wav2vec 2.0 and HuBERT weights as parameters of `AudioEncoder`.

Files in the naming of Hugging Face (`Wav2Vec2Model`, `HubertModel`, also inside a larger model): safetensors, or a
PyTorch state dict where PyTorch is installed. The weight-normalised positional convolution is folded into one kernel;
both spellings of its parts are read. Sizes come from the tensors; what these do not tell (heads, strides, whether norms
come first) from a `config.json` beside the file, else from the layouts that were published: heads of 64 channels, and
norms first exactly where every convolution has a norm.
"""

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.errors import InputError
from vasa_jax.models.audio import CONV_STRIDES, AudioEncoder

_PREFIXES = ("wav2vec2.", "hubert.")
# Of training, or of what stands on top of the encoder.
_IGNORED = re.compile(
    r"masked_spec_embed|lm_head\.|quantizer\.|project_(hid|q)\.|classifier\.|projector\.|layer_weights"
)
_POSITIONS = "encoder.pos_conv_embed.conv"
_WEIGHT_NORM = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
_WANTED = "give weights of wav2vec 2.0 or HuBERT in the naming of Hugging Face"


def is_public_file(path: str | Path) -> bool:
    """Whether a safetensors file holds an audio encoder under the public names rather than this package's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (SafetensorError, OSError):
        return False
    return any(f"{_POSITIONS}." in name and not name.endswith(".kernel") for name in names) and not any(
        name.endswith(".kernel") for name in names
    )


def load_wav2vec2(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(float32 parameters of `AudioEncoder`, metadata with its `fields`) of a file; InputError names the fault."""
    path = Path(path)
    state = {name: value for name, value in _without_prefix(_read(path)).items() if not _IGNORED.match(name)}
    _fold_weight_norm(state, path)
    fields = _fields(state, path)
    expected = jax.eval_shape(AudioEncoder(**fields).init, jax.random.key(0), jnp.zeros((1, 4000)))["params"]
    table, params = key_table(expected), {}
    for name, (target, transposed) in table.items():
        if name not in state:
            raise InputError(f"{path}: no tensor '{name}'; {_WANTED}")
        value = np.asarray(state.pop(name), np.float32)
        params[target] = np.ascontiguousarray(value.T if transposed else value)
        shape = traverse_util.flatten_dict(expected)[target].shape
        if params[target].shape != shape:
            raise InputError(f"{path}: '{name}' has shape {value.shape}, not that of a {shape} kernel; {_WANTED}")
    if state:
        raise InputError(f"{path}: unknown tensor '{min(state)}'; {_WANTED}")
    return traverse_util.unflatten_dict(params), {"fields": fields, "source": path.name}


def key_table(params: dict[str, Any]) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Public name of each parameter of an encoder -> (its path here, whether its axes are reversed).

    (out, in, taps) becomes (taps, in, out), and (out, in) becomes (in, out).
    """
    table = {}
    for path in traverse_util.flatten_dict(params):
        parts = [re.sub(r"(layers)_(\d+)", r"\1.\2", part) for part in path]
        kind = {"kernel": "weight", "scale": "weight", "bias": "bias"}[parts[-1]]
        table[".".join([*parts[:-1], kind])] = (path, path[-1] == "kernel")
    return table


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; {_WANTED}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a readable safetensors file ({error}); download it again") from error
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path}: reading it needs PyTorch (pip install torch); or give a .safetensors file"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.float().numpy() for name, value in state.items()}
    except Exception as error:  # torch raises many kinds
        fault = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not a PyTorch state dict ({fault}); {_WANTED}") from error


def _without_prefix(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names as in the bare encoder: those of a larger model start with the encoder's name."""
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
    try:
        content = json.loads((path.parent / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and "conv_stride" in content else {}

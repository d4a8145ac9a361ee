"""JoyVASA's and Ditto's motion generators: files that job `import_weights` writes, as parameters of our networks.

| generator | files |
|---|---|
| JoyVASA | joyvasa_motion, joyvasa_audio, joyvasa_template `.safetensors` |
| Ditto | ditto_motion, ditto_config/*, `.safetensors`; hubert_streaming_fix_kv.onnx |

The tensors have their published names and layouts there.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from vasa_jax.diffusion import VASADiffusion
from vasa_jax.errors import InputError
from vasa_jax.weights.published_tables import difference, ditto_table, joyvasa_table
from vasa_jax.weights.safetensors_io import load_params

State = Mapping[str, np.ndarray]

DITTO_CONFIG = "ditto_config"  # folder of its settings
FILES = {"joyvasa": "joyvasa_motion.safetensors", "ditto": "ditto_motion.safetensors"}
TEMPLATE = "joyvasa_template.safetensors"
SMALLEST_BETA = 1e-4  # of JoyVASA's schedule
_REMEDY = "import it again (configs/import_weights.py)"
_SCHEDULE = 1e-4  # largest difference of a file's schedule from the formula's


def find_generator(folder: str | Path) -> str:
    """Names the open motion generator in a folder, a key of FILES; empty for none. JoyVASA comes first."""
    return next((name for name, file in FILES.items() if (Path(folder) / file).is_file()), "")


def load_joyvasa(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads JoyVASA's denoiser and statistics: ({"transformer", "statistics"}, metadata with its `fields` and `steps`).

    InputError for a file that is missing, damaged, or of another network.
    """
    path = Path(folder) / FILES["joyvasa"]
    state, metadata = _state(path)
    try:
        fault = difference(state, joyvasa_table(state))
    except (KeyError, IndexError) as error:
        fault = f"no tensor {error}"
    if fault:
        raise InputError(f"{path}: {fault}; {_REMEDY}")
    steps = len(state["diffusion_sched.betas"]) - 1
    levels = VASADiffusion(steps, smallest_beta=SMALLEST_BETA).levels
    if steps < 1 or np.abs(state["diffusion_sched.alpha_bars"][1:] - levels).max() > _SCHEDULE:
        raise InputError(f"{path}: its noise schedule is not the cosine one; {_REMEDY}")
    previous, motion = state["start_motion_feat"].shape[1:]
    width, audio = state["audio_feature_map.weight"].shape
    fields = {
        "width": width, "motion_dim": motion, "audio_dim": audio, "previous": previous,
        "window": len(state["denoising_net.alignment_mask"]) - previous,
        "positions": metadata.get("positions", "constant"),
    }  # fmt: skip
    if fields["positions"] not in ("constant", "sequence") or motion < 70 or width % 8:
        raise InputError(f"{path}: {fields} make no network; {_REMEDY}")
    statistics = _joyvasa_statistics(Path(folder) / TEMPLATE)
    return {"transformer": joyvasa_params(state), "statistics": statistics}, {"fields": fields, "steps": steps}


def joyvasa_params(state: State) -> dict[str, Any]:
    """Makes the parameters of `JoyVASATransformer` of tensors under their published names."""
    net = "denoising_net."
    params = {
        "start_motion_feat": state["start_motion_feat"][0],
        "start_audio_feat": state["start_audio_feat"][0],
        "null_audio_feat": state["null_audio_feat"][0, 0],
        "audio_feature_map": _linear(state, "audio_feature_map"),
    }
    for name in ("diff_step_map.0", "diff_step_map.2", "feature_proj", "motion_dec.0", "motion_dec.2"):
        params[name.replace(".", "_")] = _linear(state, net + name)
    for i in range(_layers(state, rf"{net}transformer\.layers\.(\d+)\.")):
        layer = f"{net}transformer.layers.{i}"
        heard = _attention(state, f"{layer}.multihead_attn")
        params[f"layers_{i}"] = {
            "attention": _attention(state, f"{layer}.self_attn"),
            "cross_v": heard["v_proj"],  # queries and keys do not matter where one key is seen
            "cross_out": heard["out_proj"],
            "feed_forward": _feed_forward(state, layer),
            **{f"norm{j}": _norm(state, f"{layer}.norm{j}") for j in (1, 2, 3)},
        }
    return params


def load_ditto(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads Ditto's denoiser: (parameters, metadata with its `fields`, the `folder`, and what its settings say).

    Of the settings: `limits` (2, motion_dim), least and greatest values of a motion vector, and `blink` (T, 63), what a
    blink adds to an expression; None where no file of settings has them. InputError for a file that is missing,
    damaged, or of another network.
    """
    path = Path(folder) / FILES["ditto"]
    state, _ = _state(path)
    frequencies = state.pop("rotary.freqs", None)
    try:
        (_, window, width), motion = state["null_cond_embed"].shape, len(state["final_layer.bias"])
        conditions = state["cond_projection.weight"].shape[1]
        fault = difference(state, ditto_table(width, motion, conditions, window))
    except (KeyError, ValueError, IndexError) as error:
        fault = f"no tensor {error}"
    if not fault and (width % 16 or frequencies is None or not _are_rotary(frequencies, width)):
        fault = "its rotary frequencies are others"
    if fault:
        raise InputError(f"{path}: {fault}; {_REMEDY}")
    fields = {"width": width, "motion_dim": motion, "conditions": conditions, "window": window}
    return ditto_params(state), {"fields": fields, "folder": str(folder), **_ditto_settings(Path(folder), motion)}


def ditto_params(state: State) -> dict[str, Any]:
    """Makes the parameters of `DittoTransformer` of tensors under their published names."""
    names = {
        "cond_projection": "cond_projection", "input_projection": "input_projection", "time_mlp": "time_mlp.1",
        "to_time_cond": "to_time_cond.0", "to_time_tokens": "to_time_tokens.0", "final_layer": "final_layer",
        "hidden_in": "non_attn_cond_projection.1", "hidden_out": "non_attn_cond_projection.3",
    }  # fmt: skip
    params = {ours: _linear(state, theirs) for ours, theirs in names.items()}
    params |= {
        "null_cond_embed": state["null_cond_embed"][0],
        "null_cond_hidden": state["null_cond_hidden"][0],
        "hidden_norm": _norm(state, "non_attn_cond_projection.0"),
        "norm_cond": _norm(state, "norm_cond"),
    }
    for i in range(_layers(state, r"cond_encoder\.(\d+)\.")):
        layer = f"cond_encoder.{i}"
        params[f"cond_encoder_{i}"] = {
            "self_attn": _attention(state, f"{layer}.self_attn"),
            "feed_forward": _feed_forward(state, layer),
            **{f"norm{j}": _norm(state, f"{layer}.norm{j}") for j in (1, 2)},
        }
    for i in range(_layers(state, r"seqTransDecoder\.stack\.(\d+)\.")):
        layer = f"seqTransDecoder.stack.{i}"
        params[f"stack_{i}"] = {
            "self_attn": _attention(state, f"{layer}.self_attn"),
            "multihead_attn": _attention(state, f"{layer}.multihead_attn"),
            "feed_forward": _feed_forward(state, layer),
            **{f"norm{j}": _norm(state, f"{layer}.norm{j}") for j in (1, 2, 3)},
            **{f"film{j}": _linear(state, f"{layer}.film{j}.block.1") for j in (1, 2, 3)},
        }
    return params


def _state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    params, metadata = load_params(path)
    state = traverse_util.flatten_dict(params, sep=".")
    for name, value in state.items():
        if not np.isfinite(value).all():
            raise InputError(f"{path}: '{name}' is not finite; {_REMEDY}")
    return state, metadata


def _joyvasa_statistics(path: Path) -> dict[str, np.ndarray]:
    """Reads (offset, scale), each (70,): motion = offset + scale * what the network says."""
    arrays, _ = _state(path)
    offset, scale = [], []
    for name, size in (("exp", 63), ("scale", 1), ("t", 3), ("pitch", 1), ("yaw", 1), ("roll", 1)):
        kinds = ("mean", "std") if name == "exp" else ("min", "max")
        first, second = (arrays.get(f"{kind}_{name}", np.zeros(0)).reshape(-1) for kind in kinds)
        if len(first) != size or len(second) != size:
            raise InputError(f"{path}: not {size} numbers in '{kinds[0]}_{name}' and '{kinds[1]}_{name}'; {_REMEDY}")
        offset.append(first)
        scale.append(second if name == "exp" else second - first)
    return {"offset": np.concatenate(offset), "scale": np.concatenate(scale)}


def _ditto_settings(folder: Path, motion: int) -> dict[str, np.ndarray | None]:
    """Reads arrays of the first file of Ditto's settings that is there, that of its PyTorch program before others."""
    files = sorted((folder / DITTO_CONFIG).glob("*.safetensors"), key=lambda path: ("pytorch" not in path.stem, path))
    found = _state(files[0])[0] if files else {}
    kept: dict[str, np.ndarray | None] = {}
    for ours, theirs, width in (("limits", "v_min_max_for_clip", motion), ("blink", "delta_eye_arr", 63)):
        array = next((value for name, value in found.items() if name.split(".")[-1] == theirs), None)
        if array is not None and (array.ndim != 2 or len(array) < 2 or array.shape[1] != width):
            raise InputError(f"{files[0]}: '{theirs}' has shape {array.shape}, not (2 or more, {width}); {_REMEDY}")
        kept[ours] = array
    return kept | {"limits": None if kept["limits"] is None else kept["limits"][:2]}


def _are_rotary(frequencies: np.ndarray, width: int) -> bool:
    expected = 10_000.0 ** (-np.arange(0, width, 2) / width)
    return frequencies.shape == expected.shape and bool(np.allclose(frequencies, expected, rtol=1e-4))


def _layers(state: State, pattern: str) -> int:
    return 1 + max(int(match[1]) for name in state if (match := re.match(pattern, name)))


def _linear(state: State, name: str) -> dict[str, np.ndarray]:
    return {"kernel": np.ascontiguousarray(state[f"{name}.weight"].T), "bias": state[f"{name}.bias"]}


def _norm(state: State, name: str) -> dict[str, np.ndarray]:
    return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}


def _feed_forward(state: State, layer: str) -> dict[str, Any]:
    parts = {"intermediate_dense": "linear1", "output_dense": "linear2"}
    return {ours: _linear(state, f"{layer}.{theirs}") for ours, theirs in parts.items()}


def _attention(state: State, name: str) -> dict[str, Any]:
    """Splits PyTorch's one projection into those of queries, keys and values."""
    weights, biases = (np.split(state[f"{name}.in_proj_{kind}"], 3) for kind in ("weight", "bias"))
    projections = {
        part: {"kernel": np.ascontiguousarray(weight.T), "bias": bias}
        for part, weight, bias in zip(("q_proj", "k_proj", "v_proj"), weights, biases, strict=True)
    }
    return projections | {"out_proj": _linear(state, f"{name}.out_proj")}

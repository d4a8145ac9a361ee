"""LivePortrait's files as parameters of the keypoint codec, key for key (KwaiVGI/LivePortrait, MIT).

Five files: appearance feature extractor, motion extractor, warping module, SPADE generator, and the small networks for
stitching and retargeting, which may be left out. Read from .pth and from safetensors with the same names; the last one
nested or flat. A checkpoint of face-vid2vid may stand for the motion extractor. Widths and depths come from the shapes.
Running statistics and spectral norms are folded, in float64.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.conventions import IDENTITY_POSE
from vasa_jax.errors import InputError
from vasa_jax.models.fields import frozen
from vasa_jax.models.keypoint_detectors import HeadPoseExpressionEstimator
from vasa_jax.models.keypoint_face import keypoint_codec
from vasa_jax.models.keypoint_layers import fold_batch_norms
from vasa_jax.weights.face_vid2vid import BRANCHES, detector_fields, detectors_of, has_detectors, published_layer
from vasa_jax.weights.tensor_files import flat_state, read_tensors

State = dict[str, np.ndarray]

# Part -> how names start that only its file has. All but the last are needed.
PARTS = {
    "appearance_feature_extractor": "resblocks_3d.",
    "motion_extractor": "detector.",
    "warping_module": "dense_motion_network.",
    "spade_generator": "G_middle_",
    "stitching_retargeting_module": "retarget_",
}
MOTION, OPTIONAL = "motion_extractor", "stitching_retargeting_module"
_RETARGETING = {"stitching": "retarget_shoulder", "lip": "retarget_mouth", "eye": "retarget_eye"}
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_NUMBERED = re.compile(r"^(.*(?:down_blocks|up_blocks|downsample_layers|stages|mlp|mlp_shared|conv_img))_(\d.*)$")
_WANTED = "give the file as it was published"
_COLOURS = 3


class Target(NamedTuple):
    """Where a published tensor goes."""

    collection: str  # params, batch_stats
    path: tuple[str, ...]  # branch of the codec, module, layers, parameter
    shape: tuple[int, ...]  # as published


def part_of(names: Iterable[str]) -> str:
    """Tells which of PARTS a file with these names is; empty for none."""
    names = list(names)
    if has_detectors(names):
        return MOTION
    return next((part for part, sign in PARTS.items() if any(name.startswith(sign) for name in names)), "")


def load_live_portrait(paths: Mapping[str, str | Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads one file per part: ({"encoder", "decoder"} float32, fields of `keypoint_codec`).

    InputError names the file and the first key that is missing, has another shape or is not known.
    """
    return live_portrait_params({part: read_tensors(path) for part, path in paths.items()}, paths)


def live_portrait_params(
    contents: Mapping[str, Mapping[str, Any]], paths: Mapping[str, str | Path]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Does what `load_live_portrait` does, with files that were read already."""
    missing = [part for part in PARTS if part not in contents and part != OPTIONAL]
    if missing:
        folder = Path(next(iter(paths.values()))).parent
        raise InputError(f"{folder}: LivePortrait's {missing[0]} is missing; put its file beside the others")
    states = {part: named_state(contents[part], part, paths[part]) for part in PARTS if part in contents}
    fields = fields_of(states, paths)
    return codec_params(states, fields, paths), fields


def codec_params(
    states: Mapping[str, State], fields: Mapping[str, Any], paths: Mapping[str, str | Path]
) -> dict[str, Any]:
    """Converts those parts that `states` has to {"encoder", "decoder"}, running statistics folded.

    `paths`: part -> what to call it in an InputError.
    """
    variables: dict[str, dict[tuple[str, ...], np.ndarray]] = {"params": {}, "batch_stats": {}}
    for part, table in key_tables(fields).items():
        if part in states:
            _check_keys(states[part], table, paths[part])
            for name, (collection, path, _) in table.items():
                variables[collection][path] = _converted(states[part][name], path)
    params, statistics = (traverse_util.unflatten_dict(variables[kind]) for kind in ("params", "batch_stats"))
    return {branch: fold_batch_norms(params[branch], statistics.get(branch, {})) for branch in params}


def named_state(content: Mapping[str, Any], part: str, where: str | Path) -> State:
    """Returns a file's tensors, float32, under the names of `key_tables`: spectral norms folded.

    Of the file for stitching and retargeting only its three networks are read, of face-vid2vid's its two detectors.
    """
    state = flat_state((part == MOTION and detectors_of(content)) or content)
    if part == OPTIONAL:
        # The flat file calls them retarget_shoulder_module and so on.
        state = {re.sub(r"^(retarget_[a-z]+)_module\.", r"\1.", name): value for name, value in state.items()}
        state = {name: value for name, value in state.items() if name.split(".")[0] in _RETARGETING.values()}
    for name in [name for name in state if name.endswith(".weight_orig")]:
        stem = name.removesuffix("_orig")
        u, v = (state.pop(f"{stem}_{vector}", None) for vector in "uv")
        state[stem] = _without_spectral_norm(state.pop(name), u, v, f"{where}: '{stem}'")
    return state


def key_tables(fields: Mapping[str, Any]) -> dict[str, dict[str, Target]]:
    """Maps part -> published name -> where it goes, for a codec with these fields; spectral norms folded."""
    tables: dict[str, dict[str, Target]] = {part: {} for part in PARTS}
    encoder, _ = keypoint_codec(fields)
    depths = encoder.motion.get("estimator", {}).get("depths", HeadPoseExpressionEstimator.depths)
    for branch, variables in _shapes(frozen(fields)).items():
        for collection in ("params", "batch_stats"):
            for path, leaf in traverse_util.flatten_dict(variables[collection]).items():
                part, name = _published_name(path, depths)
                tables[part][name] = Target(collection, (branch, *path), _published_shape(path, leaf.shape))
    return {part: table for part, table in tables.items() if table}


def _published_name(path: tuple[str, ...], depths: tuple[int, ...]) -> tuple[str, str]:
    """Returns (part, name in its file) of a codec's variable: module, layers, parameter.

    depths: of the stages of face-vid2vid's estimator.
    """
    module, *layers, leaf = path
    if module == MOTION and layers[0] in BRANCHES:
        return module, f"{published_layer(layers, depths)}.{_LEAVES.get(leaf, leaf)}"
    names = []
    if module in _RETARGETING:
        names.append(_RETARGETING[module])
        module = OPTIONAL
    elif module == MOTION and layers[0] != "detector":
        names.append("detector")
    for layer in layers:
        layer = re.sub(r"^(encoder|decoder)_", r"\1.", layer)
        layer = re.sub(r"^resblocks_3d_(\d+)$", r"resblocks_3d.3dr\1", layer)
        numbered = _NUMBERED.match(layer)
        names.append(f"{numbered[1]}.{numbered[2].replace('_', '.')}" if numbered else layer)
    return module, ".".join([*names, _LEAVES.get(leaf, leaf)])


def _published_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    if path[-1] == "kernel":
        return (shape[-1], shape[-2], *shape[:-2])
    return (1, 1, 1, *shape) if path[-1] in ("gamma", "beta") else shape


def _converted(value: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
    """Brings a published tensor into the layout of the codec's variable."""
    if "conv_img_0" in path:
        # The pixel shuffle reads channels (colour, row, column) there, (row, column, colour) here.
        value = value.reshape(_COLOURS, -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
    if path[-1] != "kernel":
        return value.reshape(-1)
    return np.ascontiguousarray(value.transpose(*range(2, value.ndim), 1, 0))


def _without_spectral_norm(weight: np.ndarray, u: Any, v: Any, where: str) -> np.ndarray:
    """Returns weight / (u W v) with the stored vectors, as evaluation does; not the largest singular value."""
    matrix = weight.reshape(len(weight), -1).astype(np.float64)
    if u is None or v is None or u.shape != matrix.shape[:1] or v.shape != matrix.shape[1:]:
        raise InputError(f"{where} has no matching weight_u and weight_v; {_WANTED}")
    return (weight / (u.astype(np.float64) @ matrix @ v.astype(np.float64))).astype(np.float32)


def _check_keys(state: State, table: Mapping[str, Target], path: str | Path) -> None:
    for name, target in table.items():
        if name not in state:
            raise InputError(f"{path}: no tensor '{name}'; {_WANTED}")
        if state[name].shape != target.shape:
            raise InputError(f"{path}: '{name}' has shape {state[name].shape}, not {target.shape}; {_WANTED}")
    unknown = [name for name in state if name not in table]
    if unknown:
        raise InputError(f"{path}: unknown tensor '{unknown[0]}'; {_WANTED}")


@functools.lru_cache(4)
def _shapes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns shapes of the codec's variables, {"encoder", "decoder"}."""
    encoder, decoder = keypoint_codec(fields)
    image = jnp.zeros((1, encoder.image_size, encoder.image_size, 3))
    latents, first = jax.eval_shape(encoder.init_with_output, jax.random.key(0), image)
    pose = jnp.asarray([IDENTITY_POSE])
    second = jax.eval_shape(decoder.init, jax.random.key(0), *latents._replace(pose=pose))
    return {"encoder": first, "decoder": second}


def fields_of(states: Mapping[str, State], paths: Mapping[str, str | Path]) -> dict[str, Any]:
    """Tells the codec's sizes from the shapes of its tensors; `paths` as in `codec_params`.

    What they do not tell is left at its default: the sides of pictures.
    """

    def shape(part: str, name: str, axes: int) -> tuple[int, ...]:
        value = states[part].get(name)
        fault = ""
        if value is None:
            fault = f"no tensor '{name}'"
        elif value.ndim != axes or not value.size:
            fault = f"'{name}' has {value.ndim} axes, not {axes}" if value.size else f"'{name}' is empty"
        if fault:
            raise InputError(f"{paths[part]}: {fault}; {_WANTED}")
        return value.shape

    def count(part: str, pattern: str) -> int:
        found = {int(match[1]): name for name in states[part] if (match := re.match(pattern, name))}
        if max(found, default=0) > len(states[part]):  # more layers than tensors
            raise InputError(f"{paths[part]}: unknown tensor '{found[max(found)]}'; {_WANTED}")
        return 1 + max(found, default=-1)

    features, _, warp, generator = list(PARTS)[:4]
    channels = shape(features, "resblocks_3d.3dr0.conv1.weight", 5)[0]
    max_width, _, _, _ = shape(features, "second.weight", 4)
    if has_detectors(states[MOTION]):
        told = (functools.partial(function, MOTION) for function in (shape, count))
        fields = {"motion": detector_fields(states[MOTION], *told), "separate_motion": True, "angles": "face_vid2vid"}
    else:
        stages = range(count(MOTION, r"detector\.stages\.(\d+)\."))
        fields = {
            "motion": {
                "keypoints": shape(MOTION, "detector.fc_kp.weight", 2)[0] // 3,
                "depths": tuple(count(MOTION, rf"detector\.stages\.{stage}\.(\d+)\.") for stage in stages),
                "widths": tuple(shape(MOTION, f"detector.stages.{stage}.0.dwconv.weight", 4)[0] for stage in stages),
            }
        }
    field = "dense_motion_network"
    blocks = count(warp, rf"{field}\.hourglass\.encoder\.down_blocks\.(\d+)\.")
    widths = [
        shape(warp, f"{field}.hourglass.encoder.down_blocks.{i}.conv.weight", 5)[0] for i in range(max(blocks, 1))
    ]
    return {
        "codec": "keypoint",
        "encoder": {
            "appearance": {
                "width": shape(features, "first.conv.weight", 4)[0],
                "first_size": shape(features, "first.conv.weight", 4)[2],
                "down_blocks": count(features, r"down_blocks\.(\d+)\."),
                "max_width": max_width,
                "channels": channels,
                "depth": max_width // channels,
                "blocks_3d": count(features, r"resblocks_3d\.3dr(\d+)\."),
            },
            **fields,
        },
        "decoder": {
            "keypoints": fields["motion"]["keypoints"],
            "retargeting": OPTIONAL in states,
            "warp": {
                "width": shape(warp, "fourth.weight", 4)[0],
                "field": {
                    "compress": shape(warp, f"{field}.compress.weight", 5)[0],
                    "width": shape(warp, f"{field}.hourglass.decoder.up_blocks.{blocks - 1}.conv.weight", 5)[0],
                    "max_width": max(widths),
                    "blocks": blocks,
                },
            },
            "generator": {
                "width": shape(generator, "up_1.conv_0.weight", 4)[1],
                "blocks": count(generator, r"G_middle_(\d+)\."),
                "out_width": shape(generator, "up_1.conv_1.weight", 4)[0],
                "shuffle": 2 if "conv_img.0.weight" in states[generator] else 1,
            },
        },
    }

"""Checkpoints of face-vid2vid whose detectors take the place of LivePortrait's motion extractor, key for key.

No weights of its authors are public. The layout is that of zhengkw18/face-vid2vid: a dict of state dicts by the names
of its networks. `ckd` is the `CanonicalKeypointDetector`, `hpe_ede` the `HeadPoseExpressionEstimator`; what else is in
it (the other networks, optimizers, the epoch) is not read.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

DETECTOR, ESTIMATOR = "ckd", "hpe_ede"
BRANCHES = {"canonical_keypoint_detector": DETECTOR, "head_pose_expression_estimator": ESTIMATOR}
_DETECTOR_LAYERS = {"lift": "mid_conv", "heat": "out_conv"}
# Layers of a bottleneck: a convolution and its norm are two items of one list.
_BOTTLENECK = {
    "block1.conv": "layers.0.layers.0", "block1.norm": "layers.0.layers.1", "block2.conv": "layers.1.layers.0",
    "block2.norm": "layers.1.layers.1", "conv3": "layers.2.layers.0", "norm3": "layers.2.layers.1",
    "skip": "down_sample.layers.0", "skip_norm": "down_sample.layers.1",
}  # fmt: skip
_ESTIMATOR_LAYERS = {
    "stem.conv": "pre_layers.0.layers.0", "stem.norm": "pre_layers.0.layers.1", "fc_exp": "fc_delta",
}  # fmt: skip
_PLACES = {"down": 0, "up": 1}  # of the convolution beside the resizing
_SKIP = r"hpe_ede\.res_layers\.(\d+)\.down_sample\.layers\.0\.weight"  # where a stage begins


def has_detectors(names: Iterable[str]) -> bool:
    """Tells whether a file with these names, of networks or of their tensors, holds such detectors."""
    return any(re.match(rf"({DETECTOR}|{ESTIMATOR})(\.|$)", name) for name in names)


def detectors_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a checkpoint holds of the two networks."""
    return {name: value for name, value in content.items() if has_detectors([name])}


def published_layer(layers: Sequence[str], depths: Sequence[int]) -> str:
    """Returns the name, in a checkpoint, of a layer of `SeparateMotionExtractor`; depths: of the estimator's stages."""
    branch, first, *rest = layers
    inner = ".".join(rest)
    if block := re.fullmatch(r"stages_(\d+)_(\d+)", first):
        place = sum(depths[: int(block[1])]) + int(block[2])
        name = f"res_layers.{place}.{_BOTTLENECK[inner]}"
    elif level := re.fullmatch(r"(down|up)_blocks_(\d+)", first):
        place = _PLACES[level[1]]
        name = f"{level[1]}.{level[2]}.layers.{place}.layers.{('conv', 'norm').index(inner)}"
    else:
        own = ".".join(filter(None, (first, inner)))
        name = (_DETECTOR_LAYERS | _ESTIMATOR_LAYERS).get(own, own)
    return f"{BRANCHES[branch]}.{name}"


def detector_fields(
    names: Iterable[str], shape: Callable[[str, int], tuple[int, ...]], count: Callable[[str], int]
) -> dict[str, Any]:
    """Tells the fields of `SeparateMotionExtractor` from a checkpoint's tensors.

    shape: (name, axes) -> the tensor's shape, or an InputError; count: pattern of names -> one more than the highest
    number in them.
    """

    def widths(kind: str, axes: int) -> tuple[int, ...]:
        levels = range(max(count(rf"{DETECTOR}\.{kind}\.(\d+)\."), 1))
        return tuple(shape(f"{DETECTOR}.{kind}.{i}.layers.{_PLACES[kind]}.layers.0.weight", axes)[0] for i in levels)

    down = widths("down", 4)
    blocks = max(count(rf"{ESTIMATOR}\.res_layers\.(\d+)\."), 1)
    found = (re.fullmatch(_SKIP, name) for name in names)
    starts = sorted({0, *(int(match[1]) for match in found if match)})
    return {
        "keypoints": shape(f"{DETECTOR}.out_conv.weight", 5)[0],
        "depth": shape(f"{DETECTOR}.mid_conv.weight", 4)[0] // down[-1],
        "detector": {"down_widths": down, "up_widths": widths("up", 5)},
        "estimator": {
            "stem": shape(f"{ESTIMATOR}.pre_layers.0.layers.0.weight", 4)[0],
            "widths": tuple(
                shape(f"{ESTIMATOR}.res_layers.{start}.layers.2.layers.0.weight", 4)[0] for start in starts
            ),
            "depths": tuple(int(n) for n in np.diff([*starts, blocks])),
        },
    }

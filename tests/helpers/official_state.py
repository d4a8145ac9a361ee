"""Random weights under the published names: the same numbers wherever they are drawn, so that none need storing.

Each tensor is drawn from a generator seeded by its name. Norms and their statistics are far from their defaults, else
mistakes in them would not show.
"""

import json
import math
import re
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"

I3D_INPUT = (1, 12, 72, 88, 3)  # sizes of which the padding of some layers is odd
INCEPTION_INPUT = (2, 107, 91, 3)  # pictures of which the valid convolutions leave odd rests
FACE_MODEL_INPUT = (2, 96, 80, 3)
POWER_ITERATIONS = 3  # few enough that the stored vectors do not give the largest singular value


def random_state(shapes):
    """{name: shape} to {name: float32 array}; names end as PyTorch's modules call their tensors."""
    state = {name: _draw(name, tuple(shape)) for name, shape in shapes.items()}
    for name in shapes:
        if name.endswith("weight_orig"):
            state |= _singular_vectors(state, name)
    return state


def published_keys(kind):
    """{part: {name: shape}} of the official modules: "published" widths, or "narrow", which have fewer blocks."""
    tables, column = json.loads((GOLDEN / "keypoint_keys.json").read_text()), ("published", "narrow").index(kind)
    return {
        part: {
            name: tuple(int(n) for n in shapes.split(" ")[column].split("x") if n)
            for name, shapes in table.items()
            if column < len(shapes.split(" "))
        }
        for part, table in tables.items()
    }


def inputs(name, *shape, scale=1.0):
    """Normal numbers that belong to a name."""
    return (scale * _rng(name).standard_normal(shape)).astype(np.float32)


def spread(values, count):
    """About `count` of an array's numbers; the step shares no factor with an axis, so all places of each are seen."""
    step = max(values.size // count, 1)
    while any(math.gcd(step, size) > 1 for size in values.shape):
        step += 1
    return values.reshape(-1)[::step]


def _rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def _draw(name, shape):
    rng = _rng(name)
    if "fc_scale" in name:  # the size of a head is positive
        return (1.3 * name.endswith("bias") + 0.02 * rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("num_batches_tracked"):
        return np.array(1000, np.int64)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("gamma", "beta")) and len(shape) == 4:  # of a global response norm
        values = 0.5 * rng.standard_normal(shape)
    elif name.endswith(("bias", "running_mean")):
        values = 0.1 * rng.standard_normal(shape)
    elif re.search(r"(^|\.)weight$", name) and len(shape) == 1:
        values = 1.0 + 0.2 * rng.standard_normal(shape)
    else:
        values = rng.standard_normal(shape, np.float32) * np.float32(1.0 / np.sqrt(max(np.prod(shape[1:]), 1)))
    return values.astype(np.float32)


def _singular_vectors(state, name):
    """u and v of a spectral norm after a few power iterations, as training leaves them."""
    matrix = state[name].reshape(len(state[name]), -1).astype(np.float64)
    v = _rng(name + "_v").standard_normal(matrix.shape[1])
    for _ in range(POWER_ITERATIONS):
        u = matrix @ v
        u /= np.linalg.norm(u)
        v = u @ matrix
        v /= np.linalg.norm(v)
    stem = name.removesuffix("orig")
    return {f"{stem}u": u.astype(np.float32), f"{stem}v": v.astype(np.float32)}


def live_portrait_files(kind="narrow"):
    """{part: content of its file} as LivePortrait publishes them, at random weights."""
    files = {}
    for part, shapes in published_keys(kind).items():
        state = random_state(shapes)
        if part == "stitching_retargeting_module":
            nested = {}
            for name, value in state.items():
                network, inner = name.split(".", 1)
                nested.setdefault(network, {})[inner] = value
            state = nested
        files[part] = state
    return files

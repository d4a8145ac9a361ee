"""LivePortrait's files in every layout they are found in become the codec's parameters; a wrong one is named."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official_state import live_portrait_files, random_state
from safetensors.numpy import save_file
from torch_files import tensors, write_legacy, write_zip

from vasa_jax.errors import InputError
from vasa_jax.weights.liveportrait import load_live_portrait, part_of

STITCHING = "stitching_retargeting_module"
GENERATOR = "spade_generator"


def write(folder, files, writer=write_zip, suffix=".pth"):
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for part, content in files.items():
        paths[part] = folder / f"{part}{suffix}"
        writer(paths[part], tensors(content))
    return paths


@functools.cache
def files():
    return live_portrait_files()


def changed(part, change):
    """The files with one of them changed."""
    new = dict(files()[part])
    change(new)
    return files() | {part: new}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the plain files give."""
    return load_live_portrait(write(tmp_path_factory.mktemp("plain"), files()))


def same(found, expected, tolerance=0.0):
    assert found[1] == expected[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found[0], expected[0])


def test_sizes_come_from_the_tensors(expected):
    _, fields = expected
    assert fields["codec"] == "keypoint"
    assert fields["encoder"]["appearance"] == {
        "width": 8, "first_size": 3, "down_blocks": 2, "max_width": 32, "channels": 4, "depth": 8, "blocks_3d": 2,
    }  # fmt: skip
    assert fields["encoder"]["motion"] == {"keypoints": 5, "depths": (1, 1, 2, 1), "widths": (8, 12, 16, 24)}
    assert fields["decoder"]["warp"] == {
        "width": 32, "field": {"compress": 2, "width": 4, "max_width": 16, "blocks": 3},
    }  # fmt: skip
    assert fields["decoder"]["generator"] == {"width": 32, "blocks": 6, "out_width": 16, "shuffle": 2}
    assert fields["decoder"]["keypoints"] == 5 and fields["decoder"]["retargeting"]


def test_spectral_norms_use_the_stored_vectors(expected):
    """weight / (u W v); the largest singular value would give other numbers."""
    state = files()[GENERATOR]
    weight = state["up_0.conv_s.weight_orig"].astype(np.float64)
    matrix = weight.reshape(len(weight), -1)
    sigma = state["up_0.conv_s.weight_u"] @ matrix @ state["up_0.conv_s.weight_v"]
    assert sigma < 0.99 * np.linalg.norm(matrix, 2)
    found = expected[0]["decoder"]["spade_generator"]["up_0"]["conv_s"]["kernel"]
    np.testing.assert_allclose(found, (weight / sigma).transpose(2, 3, 1, 0), rtol=1e-6)


def test_running_statistics_are_folded(expected):
    state = files()["appearance_feature_extractor"]
    scale = state["first.norm.weight"] / np.sqrt(state["first.norm.running_var"] + 1e-5)
    found = expected[0]["encoder"]["appearance_feature_extractor"]["first"]["norm"]
    assert found.keys() == {"scale", "bias"}
    np.testing.assert_allclose(found["scale"], scale, rtol=1e-6)
    shift = state["first.norm.bias"] - scale * state["first.norm.running_mean"]
    np.testing.assert_allclose(found["bias"], shift, rtol=1e-5, atol=1e-7)


def test_older_format_of_torch_save(tmp_path, expected):
    same(load_live_portrait(write(tmp_path, files(), write_legacy)), expected)


def test_names_of_a_parallel_run(tmp_path, expected):
    wrapped = {
        part: content if part == STITCHING else {f"module.{name}": value for name, value in content.items()}
        for part, content in files().items()
    }
    same(load_live_portrait(write(tmp_path, wrapped)), expected)


def flat(content):
    """As the mirror in safetensors names the tensors."""
    names = {}
    for network, inner in content.items():
        if isinstance(inner, dict):
            names |= {f"{network}_module.{name.removeprefix('module.')}": value for name, value in inner.items()}
        else:
            names[network] = inner
    return names


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 0.0), (np.float16, 2e-3), (jnp.bfloat16, 2e-2)])
def test_safetensors_with_flat_names(tmp_path, expected, dtype, tolerance):
    paths = {}
    for part, content in files().items():
        state = {
            name: np.ascontiguousarray(value.astype(dtype) if value.dtype == np.float32 else value)
            for name, value in flat(content).items()
        }
        paths[part] = tmp_path / f"{part}.safetensors"
        save_file(state, paths[part])
    params, fields = load_live_portrait(paths)
    assert all(value.dtype == np.float32 for value in jax.tree.leaves(params))
    if tolerance:  # of the numbers in the file; a spectral norm adds up many
        part = "motion_extractor"
        params, expected = (({"encoder": {part: p["encoder"][part]}}, fields) for p in (params, expected[0]))
        same(params, expected, tolerance)
    else:
        same((params, fields), expected)


def test_of_the_small_networks_file_only_they_are_read(tmp_path, expected):
    """The published file is larger than its three networks: it has others, too."""
    more = {"retarget_nose": {"module.mlp.0.weight": np.zeros((3, 3), np.float32)}, "epoch": np.array(3)}
    same(load_live_portrait(write(tmp_path, changed(STITCHING, lambda content: content.update(more)))), expected)


def test_small_networks_may_be_left_out(tmp_path, expected):
    paths = write(tmp_path, {part: content for part, content in files().items() if part != STITCHING})
    params, fields = load_live_portrait(paths)
    assert not fields["decoder"]["retargeting"]
    assert set(expected[0]["decoder"]) - set(params["decoder"]) == {"stitching", "lip", "eye"}


def test_a_needed_file_is_missed(tmp_path):
    paths = write(tmp_path, files())
    del paths["warping_module"]
    with pytest.raises(InputError, match="warping_module is missing; put its file beside"):
        load_live_portrait(paths)


FEATURES, WARP, THIRD, FOURTH = "appearance_feature_extractor", "warping_module", "third.conv.weight", "fourth.weight"
FAULTS = {
    "missing": (FEATURES, lambda s: s.pop("down_blocks.1.conv.bias"), "no tensor 'down_blocks.1.conv.bias'"),
    "missing, and it tells a size": (FEATURES, lambda s: s.pop("second.weight"), "no tensor 'second.weight'"),
    "surplus": ("motion_extractor", lambda s: s.update({"detector.fc_gaze.bias": np.zeros(2)}), "unknown tensor 'det"),
    "surplus, another block": (
        WARP,
        lambda s: s.update({"fifth.weight": np.zeros((2, 2), np.float32)}),
        "unknown tensor 'fifth.weight'",
    ),
    "shape": (WARP, lambda s: s.update({THIRD: s[THIRD][:, :8]}), "'third.conv.weight' has shape (32, 8, 3, 3)"),
    "axes": (WARP, lambda s: s.update({FOURTH: s[FOURTH][0]}), "'fourth.weight' has 3 axes"),
    "surplus, a block far off": (
        FEATURES,
        lambda s: s.update({"resblocks_3d.3dr100000000.conv1.bias": np.zeros(4, np.float32)}),
        "unknown tensor 'resblocks_3d.3dr100000000.conv1.bias'",
    ),
    "empty": (WARP, lambda s: s.update({FOURTH: s[FOURTH][:0]}), "'fourth.weight' is empty"),
    "half of a spectral norm": (GENERATOR, lambda s: s.pop("up_1.conv_1.weight_u"), "no matching weight_u and"),
    "no network of three": (STITCHING, lambda s: s.pop("retarget_eye"), "no tensor 'retarget_eye.mlp.0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_first_differing_key_is_named_in_one_line(tmp_path, name):
    part, change, fault = FAULTS[name]
    paths = write(tmp_path, changed(part, change))
    with pytest.raises(InputError) as error:
        load_live_portrait(paths)
    text = str(error.value)
    assert text.startswith(str(paths[part])) and fault in text and "\n" not in text


def test_files_are_told_apart_by_their_names():
    for part, content in files().items():
        assert part_of(content) == part
        assert part_of(flat(content)) == part
    assert part_of(random_state({"features.0.weight": (3, 3)})) == ""

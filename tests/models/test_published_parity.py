"""SyncNet and I3D give what the published PyTorch classes give (tests/golden/make_evaluation_networks.py)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from official_state import I3D_INPUT, inputs, random_state
from random_params import random_params
from torch_files import tensors, write_legacy, write_zip

from vasa_jax.errors import InputError
from vasa_jax.models.i3d import I3D, Unit
from vasa_jax.models.syncnet import SyncNet
from vasa_jax.weights.networks import initial_shapes, shapes_of
from vasa_jax.weights.published_networks import find_published, load_published
from vasa_jax.weights.published_tables import i3d_table, syncnet_table
from vasa_jax.weights.safetensors_io import save_params

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "evaluation_networks.npz")
TOLERANCE = 1e-5  # of the largest number


@pytest.fixture(scope="module")
def syncnet_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "syncnet_v2.model"
    write_legacy(path, tensors(random_state(syncnet_table())))
    return path


def assert_near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_syncnet_is_the_published_one(syncnet_file):
    assert find_published(syncnet_file.parent, "syncnet") == syncnet_file
    params = load_published(syncnet_file, "syncnet")
    frames, sound = inputs("syncnet frames", 2, 5, 224, 224, 3), inputs("syncnet sound", 2, 20, 13)
    assert shapes_of(params) == shapes_of(initial_shapes(SyncNet(), frames, sound))
    lip, aud = SyncNet().apply({"params": params}, frames, sound)
    assert_near(lip, GOLDEN["syncnet/lip"])
    assert_near(aud, GOLDEN["syncnet/aud"])


def test_what_import_weights_keeps_is_read_too(syncnet_file, tmp_path):
    state = random_state(syncnet_table())
    nested = traverse_util.unflatten_dict(state, sep=".")
    save_params(tmp_path / "syncnet.safetensors", nested, {}, jnp.float32)
    kept = traverse_util.flatten_dict(load_published(find_published(tmp_path, "syncnet"), "syncnet"), sep=".")
    for name, value in traverse_util.flatten_dict(load_published(syncnet_file, "syncnet"), sep=".").items():
        np.testing.assert_array_equal(kept[name], value)


@pytest.fixture(scope="module")
def i3d_params_of_a_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("i3d")
    write_zip(folder / "i3d_pretrained_400.pt", tensors(random_state(i3d_table())))
    return load_published(find_published(folder, "i3d"), "i3d")


def test_i3d_has_the_parameters_of_its_file(i3d_params_of_a_file):
    video = np.zeros(I3D_INPUT, np.float32)
    assert shapes_of(i3d_params_of_a_file) == shapes_of(initial_shapes(I3D(), video))


@pytest.mark.parametrize("size", [6, 7])
def test_padding_depends_on_the_size(size):
    """As TensorFlow's SAME: of what is missing the smaller half comes first."""
    video = inputs("padding", 1, size, size, size, 2)
    unit = Unit(3, 7, 2)
    params = random_params(lambda key: unit.init(key, video)["params"])
    missing = 5 if size % 2 == 0 else 6
    before, after = missing // 2, missing - missing // 2
    padded = np.pad(video, [(0, 0), *[(before, after)] * 3, (0, 0)])
    kernel, bias = np.asarray(params["conv3d"]["kernel"]), np.asarray(params["conv3d"]["bias"])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7, 7), (1, 2, 3))[:, ::2, ::2, ::2]
    expected = np.maximum(np.einsum("bthwcijk,ijkco->bthwo", windows, kernel) + bias, 0.0)
    np.testing.assert_allclose(unit.apply({"params": params}, video), expected, atol=1e-5)


@pytest.mark.slow
def test_i3d_is_the_published_one(i3d_params_of_a_file):
    params, video = i3d_params_of_a_file, inputs("i3d", *I3D_INPUT)
    assert_near(jax.jit(I3D().apply)({"params": params}, video), GOLDEN["i3d"])
    assert sum(leaf.size for leaf in traverse_util.flatten_dict(params).values()) < 12_697_264  # statistics are folded


def test_another_file_is_refused(tmp_path):
    state = random_state({name: shape for name, shape in syncnet_table().items() if "lip" not in name})
    write_zip(tmp_path / "a.pt", tensors(state))
    with pytest.raises(InputError, match=r"a.pt: no tensor 'netcnnlip.0.weight'; download"):
        load_published(tmp_path / "a.pt", "syncnet")
    with pytest.raises(InputError, match=r"a.pt: no tensor 'Conv3d_1a"):
        load_published(tmp_path / "a.pt", "i3d")
    assert find_published(tmp_path, "i3d") is None


def test_numbers_that_are_none_are_refused(tmp_path):
    state = random_state(syncnet_table())
    state["netfcaud.1.running_var"][3] = -1.0
    write_zip(tmp_path / "a.pt", tensors(state))
    with pytest.raises(InputError, match=r"'netfcaud.1.running_var' holds numbers"):
        load_published(tmp_path / "a.pt", "syncnet")

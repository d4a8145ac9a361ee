"""FID's Inception and Deep3DFaceRecon's network give what the published ones give (golden/make_picture_networks.py)."""

from pathlib import Path

import jax
import numpy as np
import pytest
from official_state import FACE_MODEL_INPUT, INCEPTION_INPUT, inputs, random_state
from torch_files import tensors, write_zip

from vasa_jax.errors import InputError
from vasa_jax.models.face_model import GROUPS, FaceModelNetwork
from vasa_jax.models.inception import Inception
from vasa_jax.weights.networks import initial_shapes, shapes_of
from vasa_jax.weights.published_networks import NETWORKS, find_published, load_published

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "picture_networks.npz")
HERE = {"inception": (Inception(), INCEPTION_INPUT), "face_model": (FaceModelNetwork(), FACE_MODEL_INPUT)}


@pytest.fixture(scope="module", params=HERE)
def published(request, tmp_path_factory):
    """Name and file of a network; tensors that its training alone needs are beside them where checkpoints have such."""
    name = request.param
    path = tmp_path_factory.mktemp(name) / NETWORKS[name].files[0]
    state = random_state(NETWORKS[name].table())
    content = tensors(state | {"exp_avg": np.full(3, np.nan, np.float32)})
    rest = {"exp_avg": content.pop("exp_avg")}
    write_zip(path, {"net_recon": content, "opt_00": rest} if name == "face_model" else content)
    return name, path


@pytest.mark.parametrize("name", HERE)
def test_tables_list_what_the_classes_have(name):
    golden = dict(key.split(" ") for key in GOLDEN[f"{name}/keys"].tolist())
    assert {key: "x".join(map(str, shape)) for key, shape in NETWORKS[name].table().items()} == golden


@pytest.mark.long
def test_networks_are_the_published_ones(published):
    name, path = published
    network, shape = HERE[name]
    assert find_published(path.parent, name) == path
    params, pictures = load_published(path, name), inputs(name, *shape)
    assert shapes_of(params) == shapes_of(initial_shapes(network, pictures))
    found = jax.jit(network.apply)({"params": params}, pictures)
    expected = GOLDEN[name]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert name == "inception" or found.shape[1] == sum(GROUPS.values())


def test_another_file_is_refused(tmp_path):
    for name in HERE:
        path = tmp_path / NETWORKS[name].files[0]
        write_zip(path, tensors({"fc.weight": np.zeros((2, 2), np.float32)}))
        with pytest.raises(InputError, match=f"{path.name}: no tensor '.*; download it again"):
            load_published(path, name)

"""What networks say of pictures and their truth, by networks whose answers are known; LPIPS against plain numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
from official_state import random_state
from torch_files import tensors, write_legacy, write_zip

from vasa_jax.errors import InputError
from vasa_jax.evaluation.picture_judges import PictureJudges
from vasa_jax.losses.perceptual import FeatureJudge, Judges
from vasa_jax.models.backbones import VGG, VGG16, AlexNet
from vasa_jax.weights import lpips

PLAIN = FeatureJudge(lambda params, image: [params["gain"] * image], (1.0,), scales=1, relative=False)
PARAMS = {"vgg19": {"gain": jnp.float32(2.0)}, "identity": {}}


def colour(_, image):
    return image.mean((1, 2))


def pictures(*values):
    return np.stack([np.broadcast_to(np.uint8(value), (8, 8, 3)) for value in values])


def test_means_are_over_pairs_however_many_are_compared_at_once():
    a = pictures(*([[255, 0, 0]] * 11), [0, 255, 0])
    b = pictures(*([[255, 0, 0]] * 11), [255, 0, 0])
    found = PictureJudges(Judges(PARAMS, {"vgg19": PLAIN}, colour), arcface=True).compare(a, b)
    assert found["csim"] == pytest.approx(11 / 12, abs=1e-6)
    assert found["features_vgg19"] == pytest.approx(2.0 * (2 / 3) / 12, abs=1e-6)
    assert set(found) == {"csim", "features_vgg19"}


def test_only_arcface_is_called_csim_and_only_what_is_there_speaks():
    a = pictures([255, 0, 0], [0, 255, 0])
    assert set(PictureJudges(Judges(PARAMS, {}, colour), arcface=False).compare(a, a)) == {"identity_judge"}
    assert set(PictureJudges(Judges(PARAMS, {"vgg19": PLAIN}), arcface=False).compare(a, a)) == {"features_vgg19"}


def test_a_judge_of_faces_is_not_shown_whole_pictures():
    faces = FeatureJudge(PLAIN.features, (1.0,), faces=True)
    a = pictures([255, 0, 0])
    assert not PictureJudges(Judges(PARAMS, {"vggface": faces}, colour), True).compare(a, a).keys() - {"csim"}


def test_a_folder_without_networks_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has none of judge, vgg19.*give their folder, or leave it empty"):
        PictureJudges.open(tmp_path)


# LPIPS in plain numpy, (C, H, W), on narrow networks under the published names.
WIDTHS = (4, 6, 6, 5, 5)
MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
# Where torchvision has the convolutions: (place, size, stride, padding), poolings between them as (size, stride).
NETWORKS = {
    "vgg16": [
        [(0, 3, 1, 1), (2, 3, 1, 1)], (2, 2), [(5, 3, 1, 1), (7, 3, 1, 1)], (2, 2),
        [(10, 3, 1, 1), (12, 3, 1, 1), (14, 3, 1, 1)], (2, 2), [(17, 3, 1, 1), (19, 3, 1, 1), (21, 3, 1, 1)], (2, 2),
        [(24, 3, 1, 1), (26, 3, 1, 1), (28, 3, 1, 1)],
    ],
    "alexnet": [[(0, 11, 4, 2)], (3, 2), [(3, 5, 1, 2)], (3, 2), [(6, 3, 1, 1)], [(8, 3, 1, 1)], [(10, 3, 1, 1)]],
}  # fmt: skip


def windows(x, size, stride):
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride]


def features(name, flat, image):
    x, found = ((image / 255.0 - MEAN) / STD).transpose(2, 0, 1), []
    for part in NETWORKS[name]:
        if isinstance(part, tuple):
            x = windows(x, *part).max((3, 4))
            continue
        for place, size, stride, padding in part:
            x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
            kernel, bias = flat[f"features.{place}.weight"], flat[f"features.{place}.bias"]
            x = np.maximum(np.einsum("ihwyx,oiyx->ohw", windows(x, size, stride), kernel) + bias[:, None, None], 0)
        found.append(x)
    return found


def expected(name, flat, linear, a, b):
    total = 0.0
    for layer, (x, y) in enumerate(zip(features(name, flat, a), features(name, flat, b), strict=True)):
        x, y = (value / (np.sqrt((value**2).sum(0)) + 1e-10) for value in (x, y))
        total += np.einsum("c,chw->hw", linear[layer], (x - y) ** 2).mean()
    return total


def trunk_file(name):
    """Tensors of a narrow network under torchvision's names; what belongs to its classifier is there too."""
    shapes, before = {"classifier.6.weight": (3, 4)}, 3
    for width, stage in zip(WIDTHS, (part for part in NETWORKS[name] if isinstance(part, list)), strict=True):
        for place, size, *_ in stage:
            shapes |= {f"features.{place}.weight": (width, before, size, size), f"features.{place}.bias": (width,)}
            before = width
    return random_state(shapes)


def linear_file():
    return {f"lin{i}.model.1.weight": np.abs(random_state({f"lin{i}": (1, n, 1, 1)})[f"lin{i}"])
            for i, n in enumerate(WIDTHS)}  # fmt: skip


@pytest.fixture
def narrow(monkeypatch):
    """Networks of few channels, whose linear weights count as the published ones."""
    digest = lpips.digest([value.reshape(-1) for value in linear_file().values()])
    networks = {"vgg16": lambda: VGG(VGG16, WIDTHS), "alexnet": lambda: AlexNet(WIDTHS)}
    trunks = {
        name: trunk._replace(network=networks[name], widths=WIDTHS, digest=digest)
        for name, trunk in lpips.TRUNKS.items()
    }
    for name, trunk in trunks.items():
        monkeypatch.setitem(lpips.TRUNKS, name, trunk)
    return trunks


@pytest.mark.parametrize(("name", "side"), [("vgg16", 32), ("alexnet", 64)])
def test_lpips_is_what_plain_numpy_computes(narrow, tmp_path, name, side):
    flat, linear, trunk = trunk_file(name), linear_file(), narrow[name]
    write_legacy(tmp_path / trunk.files[0], tensors(flat))
    a, b = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    judges, files = PictureJudges.open(tmp_path)
    unlearnt = judges.compare(a[None], b[None])
    assert set(files) == {name} and set(unlearnt) == {f"features_{name}"}  # nothing is called LPIPS without its weights
    ones = [np.ones(width) for width in WIDTHS]
    assert unlearnt[f"features_{name}"] == pytest.approx(expected(name, flat, ones, a, b), rel=1e-4)
    write_zip(tmp_path / trunk.linear, tensors(linear))
    judges, files = PictureJudges.open(tmp_path)
    found = judges.compare(np.stack([a, a]), np.stack([b, a]))
    wanted = expected(name, flat, [value.reshape(-1) for value in linear.values()], a, b)
    assert set(files) == {name, f"{name}_linear"} and set(found) == {f"lpips_{name}"}
    assert found[f"lpips_{name}"] == pytest.approx(wanted / 2, rel=1e-4) and wanted > 0.01


def test_linear_weights_that_are_not_the_published_ones_are_refused(narrow, tmp_path):
    path = tmp_path / narrow["alexnet"].linear
    write_zip(path, tensors(linear_file()))
    with pytest.raises(InputError, match=r"alex.pth: weighs .* not there; put alexnet-owt-7be5be79.pth"):
        PictureJudges.open(tmp_path)
    other = linear_file()
    other["lin2.model.1.weight"] = other["lin2.model.1.weight"] * 1.001
    write_zip(path, tensors(other))
    with pytest.raises(InputError, match=r"alex.pth: its numbers are not those of version 0.1; give alex.pth"):
        lpips.load_linear(path, "alexnet")
    write_zip(path, tensors({f"lin{i}.model.1.weight": np.ones((1, 4, 1, 1), np.float32) for i in range(7)}))
    with pytest.raises(InputError, match=r"alex.pth: not the linear weights of LPIPS for alexnet; give alex.pth"):
        lpips.load_linear(path, "alexnet")

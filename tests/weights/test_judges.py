"""Judges: what they are trained on, what they export, and the networks of known files against plain numpy."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_people import drawn_people
from flax import traverse_util
from official_state import GOLDEN, random_state, spread

from vasa_jax import losses
from vasa_jax.config import LossNetworksConfig
from vasa_jax.errors import InputError
from vasa_jax.losses.perceptual import FeatureJudge, Judges, feature_distance
from vasa_jax.main import parse
from vasa_jax.models.backbones import VGG, VGG19, VGGFACE, IResNet
from vasa_jax.models.loss_networks import FaceReading
from vasa_jax.training.jobs import train
from vasa_jax.training.tasks import loss_networks as judge_task
from vasa_jax.training.tasks.loss_networks import LossNetworksTask, numbered_people, reading_losses
from vasa_jax.weights import loss_networks as files
from vasa_jax.weights.loss_networks import (
    arcface_params,
    iresnet_depths,
    load_judges,
    torchvision_vgg_params,
    vggface_params,
)
from vasa_jax.weights.safetensors_io import load_params, save_params

STORED = 300  # as in tests/golden/make_judges.py
CONFIG = Path(__file__).parents[2] / "configs" / "train_loss_networks.py"


def test_margin_softmax_is_cross_entropy_with_a_smaller_true_cosine():
    embedding, person = jnp.eye(3)[jnp.array([0, 1])], jnp.array([0, 2])
    cosine, loss = losses.margin_softmax(embedding, 5.0 * jnp.eye(3), person, 4.0, 0.25)
    np.testing.assert_allclose(cosine, embedding, atol=1e-6)
    right = -np.log(np.exp(3.0) / (np.exp(3.0) + 2.0))
    wrong = -np.log(np.exp(-1.0) / (np.exp(-1.0) + np.exp(4.0) + 1.0))
    np.testing.assert_allclose(loss, (right + wrong) / 2, rtol=1e-5)


def test_reading_losses_ask_for_the_right_part_and_cell():
    segmentation = np.zeros((1, 8, 8), np.uint8)
    segmentation[:, ::2, ::2] = 2  # every second pixel decides
    landmarks = jnp.array([[[0.9, -0.9], [1.5, 0.0]]])  # the second one lies outside
    parts = jnp.zeros((1, 4, 4, 3)).at[..., 2].set(50.0)
    heat = jnp.zeros((1, 2, 2, 2)).at[0, 0, 1, 0].set(50.0)
    for value in reading_losses(FaceReading([], parts, heat), segmentation, landmarks):
        np.testing.assert_allclose(value, 0.0, atol=1e-6)
    flat = reading_losses(FaceReading([], 0 * parts, 0 * heat), segmentation, landmarks)
    np.testing.assert_allclose(flat, np.log([3.0, 4.0]), rtol=1e-6)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """(figures, export directory) of the shipped configuration, shortened and on drawn people."""
    options = {
        "judge.people": 16, "judge.size": 32, "judge.degrade": 0, "train.steps": 24, "train.batch_size": 16,
        "train.learning_rate": 3e-3, "train.warmup_steps": 2, "train.ema_decay": 0.5,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_task, "render_people", drawn_people)
        patch.setattr(judge_task, "HELD_OUT_PEOPLE", 8)
        arguments = [f"--config.{name}={value}" for name, value in options.items()]
        config, _ = parse(["main", f"--config={CONFIG}", *arguments])
        workdir = tmp_path_factory.mktemp("judge")
        train(config, workdir)
        return load_params(workdir / "export" / "judge.safetensors")[1]["errors"], workdir / "export"


@pytest.mark.long
def test_judges_learn_people_and_parts(judge):
    figures, _ = judge
    assert figures["identity_auc"] > 0.8
    assert figures["segmentation_accuracy"] > 0.9


def test_classes_are_people_and_training_never_shows_the_held_out_ones(monkeypatch):
    seen = []
    monkeypatch.setattr(judge_task, "render_people", lambda who, key, *look: {"who": jax.random.key_data(who)})
    task = LossNetworksTask(LossNetworksConfig(people=5, size=32), 16, seed=3)
    batches = [next(iter(task.data())) for _ in range(1)] + [task.data().batch(7)]
    people = {}
    for batch in batches:
        for who, person in zip(np.asarray(batch["who"]), np.asarray(batch["person"])):
            seen.append(int(person))
            assert people.setdefault(int(person), who.tobytes()) == who.tobytes()
    assert len(set(people.values())) == len(people) == len(set(seen)) <= 5
    held_out = {who.tobytes() for who in task.held_out()["who"]}
    assert not held_out & set(people.values())
    first, again = task.data(), task.data()
    next(first)
    again.restore(first.state())
    np.testing.assert_array_equal(next(first)["who"], next(again)["who"])
    assert len(jax.random.key_data(numbered_people(jax.random.key(0), jnp.arange(3)))) == 3


@pytest.mark.long
def test_own_judge_loads_and_measures(judge):
    judges = load_judges(judge[1])
    image = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    other, features = image[::-1], jax.jit(judges.perceptual_loss)
    assert features(judges.params, image, image) < 1e-5
    assert features(judges.params, image, other) > 0.1
    identity = jax.jit(judges.identity_loss)
    each = [identity(judges.params, image, other, jnp.eye(2)[i]) for i in range(2)]
    np.testing.assert_allclose(identity(judges.params, image, image, jnp.ones(2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(identity(judges.params, image, other, jnp.ones(2)), sum(each) / 2, rtol=1e-4)
    assert each[0] > 0.01
    np.testing.assert_allclose(identity(judges.params, image, other, jnp.zeros(2)), 0.0, atol=1e-6)


def test_perceptual_features_reach_the_decoded_picture_only_where_they_differ():
    judge = FeatureJudge(lambda p, x: [x * p["gain"], x[:, ::2]], (1.0, 0.5), scales=3)
    x = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3)) + 0.5
    # Constant factors: every layer and both octaves (16 pixels would be too few) miss by the same share.
    np.testing.assert_allclose(feature_distance(judge, {"gain": 7.0}, 1.1 * x, x), 1.5 * 0.1, rtol=1e-3)
    gradient = jax.grad(lambda x, y: feature_distance(judge, {"gain": 7.0}, x, y), (0, 1))
    a, b = gradient(1.1 * x, x)
    assert jnp.abs(a).max() > 0 and jnp.abs(b).max() > 0


def test_judges_of_faces_see_crops_that_the_pose_aligns():
    pixels = FeatureJudge(lambda p, x: [x], (1.0,), scales=1, relative=False)
    judges = Judges({"own": {}, "face": {}}, {"own": pixels, "face": dataclasses.replace(pixels, faces=True)})
    assert (judges.of_pictures, judges.of_faces) == (("own",), ("face",))
    alone = Judges({"own": {}}, {"own": pixels})
    assert alone.of_pictures == alone.of_faces == ("own",)
    straight = jnp.zeros((1, 9)).at[:, jnp.array([0, 4])].set(1.0)
    x = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3))
    # At pose scale 1 the crop is 32 of the 64 pixels wide; its middle lies 0.2 below the picture's.
    centre = 32 + round(0.2 * 32)
    inside = jnp.zeros((64, 64, 1)).at[centre - 18 : centre + 18, 14:50].set(1.0)
    face, whole = jax.jit(judges.face_loss), jax.jit(judges.perceptual_loss)
    assert face(judges.params, x + (1 - inside), x, straight) == 0.0
    np.testing.assert_allclose(face(judges.params, x + 0.25 * inside, x, straight), 0.25, rtol=1e-4)
    np.testing.assert_allclose(whole(judges.params, x + inside, x), inside.mean(), rtol=1e-4)
    aside = straight.at[:, 7].set(1.0)
    assert 0 < face(judges.params, x + inside, x, aside) < 0.6  # half of the crop has moved off what changed
    assert (jax.grad(face, 3)(judges.params, x + inside, x, aside) == 0).all()


def test_identity_is_the_cosine_of_embeddings_and_no_gradient_reaches_the_source():
    judges = Judges({"identity": {}}, identity=lambda p, x: x.mean((1, 2)))
    a = jnp.zeros((1, 4, 4, 3)).at[..., 0].set(1.0)
    b = jnp.zeros((1, 4, 4, 3)).at[..., :2].set(1.0)
    np.testing.assert_allclose(judges.identity_loss(judges.params, a, b), 1 - np.sqrt(0.5), rtol=1e-5)
    gradients = jax.grad(lambda x, y: judges.identity_loss(judges.params, x, y), (0, 1))(a, b)
    assert jnp.abs(gradients[0]).max() > 0 and jnp.abs(gradients[1]).max() == 0


# Known networks: random files in their makers' layout against plain numpy, (C, H, W) as PyTorch has it, and against
# the numbers that PyTorch's own layers gave (tests/golden/make_judges.py).
TORCH = np.load(GOLDEN / "judges.npz")


def conv(x, weight, bias=None, stride=1):
    pad = weight.shape[-1] // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    size = weight.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride]
    result = np.einsum("ihwyx,oiyx->ohw", windows, weight)
    return result if bias is None else result + bias[:, None, None]


def pool(x):
    return x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))


def random_file(path, shapes):
    flat = random_state(shapes)
    save_params(path, traverse_util.unflatten_dict(flat, sep="."), {}, jnp.float32)
    return flat


def vgg_shapes(layout, widths, name):
    shapes, before = {}, 3
    for stage, (depth, width) in enumerate(zip(layout.depths, widths), start=1):
        for i in range(1, depth + 1):
            shapes |= {f"{name(stage, i)}.weight": (width, before, 3, 3), f"{name(stage, i)}.bias": (width,)}
            before = width
    return shapes


# Where torchvision's vgg19 has its convolutions.
VGG19_PLACES = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28,))


@pytest.mark.parametrize("which", ["vgg19", "vggface"])
def test_vgg_files_give_the_features_of_their_network(tmp_path, which):
    widths = (4, 6, 8, 6, 4)
    if which == "vgg19":
        layout, read = VGG19, torchvision_vgg_params

        def name(stage, i):
            return f"features.{VGG19_PLACES[stage - 1][i - 1]}"
    else:
        layout, read = VGGFACE, vggface_params

        def name(stage, i):
            return f"conv{stage}_{i}"

    flat = random_file(tmp_path / f"{which}.safetensors", vgg_shapes(layout, widths, name))
    image = np.random.default_rng(1).random((1, 32, 32, 3)).astype(np.float32)
    taps = VGG(layout, widths).apply({"params": read(flat)}, image)
    x, expected = ((image[0] - np.array(layout.mean)) / np.array(layout.std)).transpose(2, 0, 1), []
    for stage, depth in enumerate(layout.depths, start=1):
        x = pool(x) if stage > 1 else x
        for i in range(1, depth + 1):
            x = np.maximum(conv(x, flat[f"{name(stage, i)}.weight"], flat[f"{name(stage, i)}.bias"]), 0)
            if i == 1:
                expected.append(x)
    for tap, wanted in zip(taps, expected, strict=True):
        np.testing.assert_allclose(tap[0], wanted.transpose(1, 2, 0), rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    for stage, tap in enumerate(taps, start=1):
        golden = TORCH[f"{which}/relu{stage}_1"]
        np.testing.assert_allclose(spread(np.asarray(tap[0]), STORED), golden, rtol=1e-3, atol=1e-4 * golden.max())


def iresnet_shapes(depths, widths, embedding, side):
    def norm(name, width):
        return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}

    shapes = {"conv1.weight": (widths[0], 3, 3, 3), "prelu.weight": (widths[0],), **norm("bn1", widths[0])}
    before = widths[0]
    for stage, (depth, width) in enumerate(zip(depths, widths), start=1):
        for i in range(depth):
            at = f"layer{stage}.{i}"
            shapes |= norm(f"{at}.bn1", before) | norm(f"{at}.bn2", width) | norm(f"{at}.bn3", width)
            shapes |= {f"{at}.conv1.weight": (width, before, 3, 3), f"{at}.conv2.weight": (width, width, 3, 3)}
            shapes |= {f"{at}.prelu.weight": (width,)}
            if i == 0:
                shapes |= {f"{at}.downsample.0.weight": (width, before, 1, 1), **norm(f"{at}.downsample.1", width)}
            before = width
    places = before * side * side
    shapes |= {"fc.weight": (embedding, places), "fc.bias": (embedding,)}
    return shapes | norm("bn2", before) | norm("features", embedding)


def test_arcface_files_give_the_embedding_of_their_network(tmp_path):
    depths, widths, embedding = (1, 2, 1, 1), (4, 4, 6, 6), 8
    flat = random_file(tmp_path / "arcface.safetensors", iresnet_shapes(depths, widths, embedding, 7))
    params = arcface_params(flat)
    assert iresnet_depths(params) == depths
    image = np.random.default_rng(1).random((1, 112, 112, 3)).astype(np.float32)
    found = IResNet(depths, widths, embedding).apply({"params": params}, image)

    def norm(x, name):
        shape = (-1, *[1] * (x.ndim - 1))
        weight, bias, mean, variance = (
            flat[f"{name}.{part}"].reshape(shape) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    def prelu(x, name):
        return np.where(x > 0, x, flat[f"{name}.weight"][:, None, None] * x)

    x = prelu(norm(conv((image[0].transpose(2, 0, 1) - 0.5) / 0.5, flat["conv1.weight"]), "bn1"), "prelu")
    for stage, depth in enumerate(depths, start=1):
        for i in range(depth):
            at, stride = f"layer{stage}.{i}", 2 if i == 0 else 1
            h = prelu(norm(conv(norm(x, f"{at}.bn1"), flat[f"{at}.conv1.weight"]), f"{at}.bn2"), f"{at}.prelu")
            h = norm(conv(h, flat[f"{at}.conv2.weight"], stride=stride), f"{at}.bn3")
            if i == 0:
                x = norm(conv(x, flat[f"{at}.downsample.0.weight"], stride=2), f"{at}.downsample.1")
            x = h + x
    vector = flat["fc.weight"] @ norm(x, "bn2").reshape(-1) + flat["fc.bias"]
    np.testing.assert_allclose(found[0], norm(vector, "features"), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[0], TORCH["arcface/embedding"], rtol=1e-3, atol=1e-4)


def test_files_choose_the_judges_and_wrong_ones_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"has none of judge.safetensors, vgg19.safetensors"):
        load_judges(tmp_path)
    widths = (4, 4, 4, 4, 4)
    monkeypatch.setattr(files, "VGG", lambda layout, dtype: VGG(layout, widths, dtype))
    random_file(tmp_path / "vggface.safetensors", vgg_shapes(VGGFACE, widths, lambda s, i: f"conv{s}_{i}"))
    random_file(tmp_path / "arcface.safetensors", iresnet_shapes((1, 1, 1, 1), (64, 128, 256, 512), 512, 7))
    judges = load_judges(tmp_path)
    assert list(judges.perceptual) == ["vggface"] and judges.identity is not None
    image = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3))
    assert judges.of_pictures == () and judges.of_faces == ("vggface",)
    straight = jnp.zeros((1, 9)).at[:, jnp.array([0, 4])].set(1.0)
    assert judges.face_loss(judges.params, image, 1 - image, straight) > 0
    np.testing.assert_allclose(judges.similarity(judges.params, image, image), 1.0, atol=1e-5)
    random_file(tmp_path / "vgg19.safetensors", {"features.0.weight": (4, 3, 3, 3)})
    with pytest.raises(InputError, match=r"vgg19.safetensors: the key 'features.2.weight' is missing"):
        load_judges(tmp_path)
    random_file(tmp_path / "judge.safetensors", {"features.0.weight": (4, 3, 3, 3)})
    with pytest.raises(InputError, match=r"judge.safetensors: not a judge"):
        load_judges(tmp_path)

"""The keypoint codec: its contract, its batches, its training, and what its options change."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from tiny_keypoint import FIELDS, random_variables

from vasa_jax.conventions import IDENTITY_POSE
from vasa_jax.models.face import face_codec
from vasa_jax.models.keypoint_face import KeypointAppearance, exported, keypoint_codec
from vasa_jax.models.keypoint_generator import Generator
from vasa_jax.models.keypoint_layers import (
    BatchNorm,
    corner_grid,
    fold_batch_norms,
    picture_from_volume,
    volume_from_picture,
)
from vasa_jax.models.keypoint_motion_field import MotionFieldEstimator
from vasa_jax.models.keypoints import posed_keypoints


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def codec():
    """(encoder, decoder, parameters) of fields as JSON gives them back."""
    return *face_codec(json.loads(json.dumps(FIELDS))), exported(random_variables())


@functools.partial(jax.jit, static_argnums=(0, 3))
def _encode(encoder, params, images, method):
    return encoder.apply({"params": params["encoder"]}, images, method=method)


@functools.partial(jax.jit, static_argnums=0)
def _decode(decoder, params, *latents):
    return decoder.apply({"params": params["decoder"]}, *latents)


def encode(codec, images, method="encode"):
    return _encode(codec[0], codec[2], images, method)


def decode(codec, *latents):
    return _decode(codec[1], codec[2], *latents)


def images(count):
    return rng().uniform(size=(count, 64, 64, 3)).astype(np.float32)


def test_latents_and_pictures(codec):
    latents = encode(codec, images(2))
    assert latents.appearance.volume.shape == (2, 8, 8, 8, 4) and latents.appearance.keypoints.shape == (2, 5, 3)
    assert latents.identity.shape == (2, 5, 3) and latents.pose.shape == (2, 9) and latents.dynamics.shape == (2, 15)
    pose, dynamics = encode(codec, images(2), "encode_motion")
    np.testing.assert_array_equal(pose, latents.pose)
    np.testing.assert_array_equal(dynamics, latents.dynamics)
    placed = posed_keypoints(latents.identity, pose, dynamics.reshape(2, 5, 3))
    np.testing.assert_allclose(placed, latents.appearance.keypoints, atol=1e-6)
    decoded = decode(codec, *latents)
    assert decoded.rgb.shape == (2, 64, 64, 3) and decoded.matte.shape == (2, 64, 64, 1)
    assert decoded.rgb.min() >= 0 and decoded.rgb.max() <= 1 and decoded.rgb.std() > 0.01
    np.testing.assert_array_equal(decoded.matte, 1.0)


def test_one_portrait_serves_many_frames(codec):
    """A batch of frames, of one portrait or of several, is what the frames are one by one."""
    latents, drivers = encode(codec, images(2)), encode(codec, images(4)[2:], "encode_motion")
    one = jax.tree.map(lambda x: x[:1], latents)
    together = decode(codec, one.appearance, one.identity, *drivers).rgb
    several = decode(codec, *latents[:2], *drivers).rgb
    for i in range(2):
        single = decode(codec, one.appearance, one.identity, drivers[0][i : i + 1], drivers[1][i : i + 1]).rgb
        np.testing.assert_allclose(together[i : i + 1], single, atol=1e-5)
    second = jax.tree.map(lambda x: x[1:], latents)
    single = decode(codec, second.appearance, second.identity, drivers[0][1:2], drivers[1][1:2]).rgb
    np.testing.assert_allclose(several[1:], single, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_larger_pictures_are_averaged(codec):
    small = rng().uniform(size=(1, 32, 32, 3)).astype(np.float32)
    large = small.repeat(2, 1).repeat(2, 2)
    for a, b in zip(jax.tree.leaves(encode(codec, small)), jax.tree.leaves(encode(codec, large))):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_small_networks_move_keypoints(codec):
    """With zero weights but for one bias each, offsets are known."""
    _, decoder, params = codec
    params = dict(params["decoder"]) | {
        name: jax.tree.map(np.zeros_like, params["decoder"][name]) for name in ("stitching", "lip", "eye")
    }
    offsets = np.arange(17, dtype=np.float32)
    params["stitching"]["mlp_6"]["bias"] = offsets
    params["lip"]["mlp_6"]["bias"] = params["eye"]["mlp_10"]["bias"] = offsets[:15]
    source, driven = rng().standard_normal((2, 1, 5, 3)).astype(np.float32)
    apply = functools.partial(decoder.apply, {"params": params})
    moved = driven + offsets[:15].reshape(5, 3) + [15.0, 16.0, 0.0]
    np.testing.assert_allclose(apply(source, driven, method="stitch"), moved, rtol=1e-6)
    for method, ratios in (("retarget_lips", 2), ("retarget_eyes", 3)):
        found = apply(source, np.zeros((1, ratios), np.float32), method=method)
        np.testing.assert_array_equal(found[0], offsets[:15].reshape(5, 3))


def test_unmoved_keypoints_leave_the_grid():
    """Where source and driven keypoints agree, every flow is the identity, whatever the masks are."""
    estimator = MotionFieldEstimator(5, 2, 4, 16, 2)
    volume, keypoints = rng().standard_normal((1, 4, 8, 8, 3)).astype(np.float32), rng().uniform(-1, 1, (1, 5, 3))
    params = random_params(estimator.init, volume, keypoints, keypoints)
    motion = jax.jit(estimator.apply)({"params": params["params"]}, volume, keypoints, keypoints)
    np.testing.assert_allclose(motion.deformation[0], corner_grid(4, 8, 8), atol=1e-7)
    grid = corner_grid(4, 8, 8)
    np.testing.assert_array_equal(grid[0, 0, 0], [-1, -1, -1])
    np.testing.assert_array_equal(grid[3, 0, 7], [1, -1, 1])
    assert grid[0, 1, 0, 1] == pytest.approx(2 / 7 - 1)


def test_several_occlusion_masks():
    """The first is what a single one is; the others have weights of their own."""
    volume, driven, source = rng().standard_normal((1, 4, 8, 8, 3)), *rng(1).uniform(-1, 1, (2, 1, 5, 3))
    two = MotionFieldEstimator(5, 2, 4, 16, 2, occlusions=2)
    params = random_params(two.init, volume, driven, source)["params"]
    both = jax.jit(two.apply)({"params": params}, volume, driven, source)
    one = {name: value for name, value in params.items() if name != "occlusion2"}
    alone = jax.jit(MotionFieldEstimator(5, 2, 4, 16, 2).apply)({"params": one}, volume, driven, source)
    assert both.occlusions.shape == (1, 8, 8, 2)
    np.testing.assert_allclose(both.occlusions[..., :1], alone.occlusions, atol=1e-6)
    np.testing.assert_allclose(both.deformation, alone.deformation, atol=1e-6)
    assert np.abs(both.occlusions[..., 1] - both.occlusions[..., 0]).max() > 0.01


def test_hidden_features_are_what_the_last_convolution_reads():
    generator = Generator(8, 1, 4, 1)
    features = rng().standard_normal((1, 4, 4, 8)).astype(np.float32)
    params = random_params(generator.init, features)["params"]
    image, hidden = jax.jit(functools.partial(generator.apply, hidden=True))({"params": params}, features)
    assert hidden.shape == (1, 16, 16, 4) and image.shape == (1, 16, 16, 3)
    np.testing.assert_allclose(jax.jit(generator.apply)({"params": params}, features), image, atol=1e-6)
    last = params["conv_img"]
    drawn = jax.lax.conv_general_dilated(
        hidden, last["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(jax.nn.sigmoid(drawn + last["bias"]), image, atol=1e-6)


def test_volumes_and_pictures():
    """Channel c of depth d is channel c * depth + d of the picture."""
    picture = np.arange(2 * 3 * 12, dtype=np.float32).reshape(1, 2, 3, 12)
    volume = volume_from_picture(picture, 4)
    assert volume.shape == (1, 4, 2, 3, 3) and volume[0, 3, 1, 2, 2] == picture[0, 1, 2, 2 * 4 + 3]
    np.testing.assert_array_equal(picture_from_volume(volume), picture)


def test_separate_networks_for_keypoints_and_pose():
    fields = FIELDS | {
        "encoder": {
            "image_size": 128,
            "input_size": 128,
            "separate_motion": True,
            "appearance": FIELDS["encoder"]["appearance"],
            "motion": {"keypoints": 5, "depth": 2},
        }
    }
    encoder, _ = keypoint_codec(fields)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 128, 128, 3)))
    latents = jax.eval_shape(encoder.apply, shapes, jnp.zeros((3, 128, 128, 3)))
    assert latents.identity.shape == (3, 5, 3) and latents.pose.shape == (3, 9) and latents.dynamics.shape == (3, 15)
    networks = shapes["params"]["motion_extractor"]
    assert set(networks) == {"canonical_keypoint_detector", "head_pose_expression_estimator"}


def test_batch_norm_learns_its_statistics():
    x = (3.0 + 2.0 * rng().standard_normal((4, 5, 5, 3))).astype(np.float32)
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x)
    y, updated = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-4)
    statistics = updated["batch_stats"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * x.var((0, 1, 2), ddof=1), rtol=1e-4)
    evaluated = norm.apply({"params": variables["params"], "batch_stats": statistics}, x)
    folded = fold_batch_norms(variables["params"], statistics)
    np.testing.assert_allclose(norm.apply({"params": folded}, x), evaluated, atol=1e-6)
    np.testing.assert_allclose(evaluated, (x - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5), atol=1e-5)


@pytest.mark.long
def test_training_moves_every_part_and_its_statistics():
    """Gradients reach every network, and statistics every norm."""
    variables, pictures = random_variables(), images(2)
    encoder, decoder = keypoint_codec(FIELDS)

    def loss(params):
        statistics = variables["batch_stats"]
        parts = [{"params": params[part], "batch_stats": statistics[part]} for part in ("encoder", "decoder")]
        latents, first = encoder.apply(parts[0], pictures, True, mutable=["batch_stats"])
        # Each is driven by the other.
        pose, dynamics = latents.pose[::-1], latents.dynamics[::-1]
        decoded, second = decoder.apply(parts[1], *latents[:2], pose, dynamics, True, mutable=["batch_stats"])
        statistics = {"encoder": first["batch_stats"], "decoder": second["batch_stats"]}
        return jnp.square(decoded.rgb - pictures[::-1]).mean(), statistics

    gradients, statistics = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
    for part, networks in gradients.items():
        for network in set(networks) - {"stitching", "lip", "eye"}:
            assert max(np.abs(x).max() for x in jax.tree.leaves(networks[network])) > 0, (part, network)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), statistics, variables["batch_stats"])
    assert min(jax.tree.leaves(moved)) > 0


def test_bfloat16_keeps_places_in_float32(codec):
    encoder, decoder = keypoint_codec(FIELDS, jnp.bfloat16)
    params = codec[2]
    latents = encode((encoder, decoder, params), images(1))
    assert latents.appearance.volume.dtype == jnp.bfloat16
    assert all(x.dtype == jnp.float32 for x in (latents.appearance.keypoints, *latents[1:]))
    volume, placed = latents.appearance
    warp = functools.partial(decoder.apply, method=lambda module, *given: module.warping_module(*given))
    shapes = jax.eval_shape(warp, {"params": params["decoder"]}, volume, placed + 0.1, placed)
    assert shapes[0].dtype == jnp.bfloat16
    assert shapes[1].deformation.dtype == shapes[1].occlusions.dtype == jnp.float32
    rgb = decode((encoder, decoder, params), *latents).rgb
    exact = encode(codec, images(1))
    for a, b in zip(jax.tree.leaves(latents[1:]), jax.tree.leaves(exact[1:])):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert rgb.dtype == jnp.float32
    assert 10 * np.log10(1 / np.square(np.float64(rgb - decode(codec, *exact).rgb)).mean()) > 30


@pytest.mark.gpu
def test_bfloat16_on_a_gpu():
    """LivePortrait's widths: 35 dB between both precisions of one frame."""
    from official_state import published_keys, random_state

    from vasa_jax.weights.liveportrait import codec_params, named_state

    fields = {"encoder": {}, "decoder": {}}
    states = {part: named_state(random_state(keys), part, part) for part, keys in published_keys("published").items()}
    params = codec_params(states, fields, {part: part for part in states})
    portrait = jax.image.resize(rng().uniform(size=(2, 16, 16, 3)), (2, 512, 512, 3), "cubic").clip(0, 1)

    def draw(dtype):
        encoder, decoder = keypoint_codec(fields, dtype)

        @jax.jit
        def run(params):
            latents = encoder.apply({"params": params["encoder"]}, portrait[:1])
            motion = encoder.apply({"params": params["encoder"]}, portrait[1:], method="encode_motion")
            return decoder.apply({"params": params["decoder"]}, *latents[:2], *motion).rgb

        return run(params)

    with jax.default_matmul_precision("highest"):
        exact = draw(jnp.float32)
    error = np.square(np.float64(draw(jnp.bfloat16) - exact)).mean()
    assert 10 * np.log10(1 / error) >= 35


def test_a_pose_at_rest_leaves_canonical_keypoints():
    canonical = rng().standard_normal((2, 5, 3)).astype(np.float32)
    pose = np.float32([IDENTITY_POSE] * 2)
    np.testing.assert_array_equal(posed_keypoints(canonical, pose, jnp.zeros_like(canonical)), canonical)


def test_appearance_is_a_pytree(codec):
    latents = encode(codec, images(1))
    assert isinstance(jax.tree.map(jnp.asarray, latents).appearance, KeypointAppearance)

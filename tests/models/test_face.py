"""The volume codec: sizes, warps, batching, gradients."""

import functools
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from random_params import random_params
from tiny_face import LEAST

from vasa_jax.conventions import IDENTITY_POSE
from vasa_jax.models import geometry
from vasa_jax.models.face import face_codec, init_face
from vasa_jax.models.face_encoder import PoseNet
from vasa_jax.models.layers import (
    Conv,
    GroupNorm,
    ResidualBlock,
    fold_standardisation,
    group_count,
    pixel_shuffle,
    standardised,
)
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.models.warp import REACH, WarpGenerator

TINY = FACE_VARIANTS["face_tiny"]
ENCODER, DECODER = face_codec("face_tiny")
SIZE = ENCODER.image_size


@functools.cache
def shapes_of(variant: str) -> dict[str, tuple[int, ...]]:
    params = jax.eval_shape(lambda key: init_face(key, variant), jax.random.key(0))
    return {name: leaf.shape for name, leaf in flatten_dict(params, sep="/").items()}


@pytest.fixture(scope="module")
def params():
    encoder = random_params(ENCODER.init, jnp.zeros((1, SIZE, SIZE, 3)))["params"]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(encode, encoder, images(1)))
    return {"encoder": encoder, "decoder": random_params(DECODER.init, *zeros)["params"]}


def images(count: int):
    return jnp.asarray(np.random.default_rng(1).random((count, SIZE, SIZE, 3)), jnp.float32)


def poses(count: int):
    noise = np.random.default_rng(2).normal(size=(count, 9)) * 0.2
    return jnp.asarray(np.asarray(IDENTITY_POSE) + noise, jnp.float32)


def codes(count: int):
    return jnp.asarray(np.random.default_rng(3).normal(size=(count, 128)), jnp.float32)


def without_warp(params):
    """The same parameters with the last layer of the warp generator at its initial value."""
    flat = flatten_dict(params, sep="/")
    flat = {name: leaf * 0 if name.startswith("warp_net/head") else leaf for name, leaf in flat.items()}
    return unflatten_dict(flat, sep="/")


@jax.jit
def encode(params, image):
    return ENCODER.apply({"params": params}, image, method="encode")


@jax.jit
def decode(params, appearance, identity, pose, dynamics):
    return DECODER.apply({"params": params}, appearance, identity, pose, dynamics)


@jax.jit
def source_grid(params, identity, pose, dynamics):
    return ENCODER.apply({"params": params}, identity, pose, dynamics, method="source_grid")


@jax.jit
def driven_grid(params, identity, pose, dynamics):
    return DECODER.apply({"params": params}, identity, pose, dynamics, method="driven_grid")


@jax.jit
def drive(params, appearance, identity, pose, dynamics):
    return DECODER.apply({"params": params}, appearance, identity, pose, dynamics, method="drive")


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("variant,kernels", [("face_512", 76.5e6), ("face_512_paper", 114.8e6)])
def test_convolution_parameters_of_the_codec(variant, kernels):
    """E_app, two warp generators, G3D and G2D, convolution kernels alone, against the published layer lists."""
    networks = {"appearance_net", "warp_net", "canonical_net", "image_net"}
    sizes = [
        np.prod(shape)
        for name, shape in shapes_of(variant).items()
        if name.split("/")[1] in networks and name.endswith("kernel")
    ]
    assert abs(sum(sizes) / kernels - 1) < 0.01


def test_the_shipped_variant_is_small():
    assert sum(np.prod(shape) for shape in shapes_of("face_demo").values()) <= 5.5e6


def test_256_pixels_start_from_128():
    """What reads and moves a face has the same parameters at both sizes; what lifts and draws the picture has not."""
    small, large = shapes_of("face_demo_128"), shapes_of("face_demo")
    kept = {name for name in small if large.get(name) == small[name]}
    others = {name.split("/")[1] for name in small.keys() - kept}
    assert others == {"appearance_net", "image_net"}
    assert {name.split("/")[1] for name in large.keys() - small.keys()} == {*others, "pixels", "pose_correction"}
    encoder, decoder = face_codec("face_demo")
    latents, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), jnp.zeros((1, 256, 256, 3)))
    decoded, _ = jax.eval_shape(decoder.init_with_output, jax.random.key(0), *latents)
    assert decoded.rgb.shape == (1, 256, 256, 3)


def test_parameter_names_are_stable():
    names = sorted(f"{name} {shape}" for name, shape in shapes_of("face_tiny").items())
    assert len(names) == 247
    assert hashlib.sha256("\n".join(names).encode()).hexdigest()[:16] == "3ca6fdec1abbdf25"


def test_variants_survive_json():
    assert face_codec(json.loads(json.dumps(TINY))) == face_codec("face_tiny")


def test_parameters_and_latents_stay_float32_under_bfloat16():
    encoder, decoder = face_codec("face_tiny", jnp.bfloat16)
    latents, variables = jax.eval_shape(encoder.init_with_output, jax.random.key(0), images(1))
    decoded, _ = jax.eval_shape(decoder.init_with_output, jax.random.key(0), *latents)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert latents.appearance.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((latents[1:], decoded))} == {jnp.dtype("float32")}


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="sides of 64"):
        jax.eval_shape(ENCODER.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    encoder, _ = face_codec({**TINY, "encoder": TINY["encoder"] | {"widths": (16,)}})
    with pytest.raises(ValueError, match="1 widths take 64 pixels to 32, not 16"):
        jax.eval_shape(encoder.init, jax.random.key(0), images(1))
    _, decoder = face_codec({**TINY, "decoder": TINY["decoder"] | {"shuffle": 1}})
    with pytest.raises(ValueError, match="make 32 pixels, not 64"):
        jax.eval_shape(
            decoder.init, jax.random.key(0), jnp.zeros((1, 4, 16, 16, 16)), jnp.zeros((1, 4, 4, 32)), poses(1), codes(1)
        )


# ---------------------------------------------------------------- layers


def test_folded_weights_compute_the_same():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 8)), jnp.float32)
    block = ResidualBlock(12, groups=4)
    variables = random_params(block.init, x)
    folded = fold_standardisation(variables)
    gains = [{name for name in flatten_dict(tree, sep="/") if name.endswith("gain")} for tree in (variables, folded)]
    assert (len(gains[0]), len(gains[1])) == (3, 0)
    np.testing.assert_allclose(block.apply(folded, x), block.apply(variables, x), atol=1e-5)


def test_group_counts():
    assert [group_count(width, 32) for width in (64, 96, 768)] == [32, 32, 32]
    assert [group_count(width, 8) for width in (24, 20, 7)] == [8, 5, 7]


def test_group_norm_against_its_definition():
    x = 3.0 + 2.0 * np.random.default_rng(0).normal(size=(2, 4, 6, 12)).astype(np.float32)
    module = GroupNorm(groups=4)
    variables = random_params(module.init, jnp.asarray(x))
    cells = x.reshape(2, 24, 4, 3)
    expected = (cells - cells.mean((1, 3), keepdims=True)) / np.sqrt(cells.var((1, 3), keepdims=True) + 1e-5)
    expected = expected.reshape(x.shape) * variables["params"]["scale"] + variables["params"]["bias"]
    np.testing.assert_allclose(module.apply(variables, jnp.asarray(x)), expected, atol=1e-4)


def test_adaptive_group_norm_uses_every_place_of_the_embedding():
    x, embedding = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 4, 8)), jnp.float32), jnp.ones((1, 16, 6))
    module = GroupNorm(groups=4)
    variables = random_params(module.init, x, embedding)
    terms = jax.jit(jax.jacobian(lambda e: module.apply(variables, x, e)))(embedding)
    assert jnp.abs(terms).max(axis=(0, 1, 2, 3, 4, 5, 7)).min() > 0
    plain = {"params": {name: variables["params"][name] for name in ("scale", "bias")}}
    np.testing.assert_allclose(module.apply(variables, x, 0 * embedding), module.apply(plain, x), atol=1e-6)


def test_standardised_kernels_have_mean_zero_and_unit_gain():
    kernel = 5.0 + jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 8, 4)), jnp.float32)
    result = standardised(kernel, jnp.asarray([1.0, 2.0, 0.5, 1.0]))
    np.testing.assert_allclose(result.mean((0, 1, 2)), 0.0, atol=1e-6)
    np.testing.assert_allclose(jnp.square(result).sum((0, 1, 2)), [1.0, 4.0, 0.25, 1.0], rtol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_convolution_in_3d_against_xla(size):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 5, 3)), jnp.float32)
    module = Conv(7, size, standardise=False)
    variables = random_params(module.init, x)
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    kernel = variables["params"]["kernel"]
    expected = jax.lax.conv_general_dilated(x, kernel, (1,) * 3, "SAME", dimension_numbers=numbers)
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


def test_pixel_shuffle_puts_rows_before_columns():
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)
    np.testing.assert_array_equal(pixel_shuffle(x, 2)[0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])


# ---------------------------------------------------------------- warps


def test_fresh_networks_neither_warp_nor_turn():
    generator = WarpGenerator(depth=4, side=8, widths=(8,), groups=4)
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles in a tenth of the time
    delta, _ = jax.jit(generator.init_with_output)(key, jnp.ones((1, 4, 4, 6)))
    assert delta.shape == (1, 4, 8, 8, 3) and jnp.abs(delta).max() == 0
    changed = random_params(generator.init, jnp.ones((1, 4, 4, 6)))
    delta = jax.jit(generator.apply)(
        changed, jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 6)), jnp.float32)
    )
    assert -REACH <= delta.min() < 0 < delta.max() <= REACH
    network = {"depths": (1,), "widths": (8,), "stem": 8, "strides": (2,), "stem_pool": False}
    pose, _ = jax.jit(PoseNet(16, network, 4).init_with_output)(key, images(2)[:, :16, :16])
    np.testing.assert_array_equal(pose, [IDENTITY_POSE] * 2)


def test_without_displacements_both_warps_are_the_rigid_map_and_its_inverse(params):
    identity = jnp.asarray(np.random.default_rng(4).normal(size=(3, 4, 4, 32)), jnp.float32)
    pose, dynamics = poses(3), codes(3)
    encoder, decoder = without_warp(params["encoder"]), without_warp(params["decoder"])
    source = source_grid(encoder, identity, pose, dynamics)
    driven = driven_grid(decoder, identity, pose, dynamics)
    points = geometry.pixel_grid(4, 16, 16)[None]
    np.testing.assert_allclose(source, geometry.image_from_canonical(points, pose), atol=1e-6)
    np.testing.assert_allclose(driven, geometry.canonical_from_image(points, pose), atol=1e-6)
    np.testing.assert_allclose(geometry.canonical_from_image(source, pose), jnp.repeat(points, 3, 0), atol=1e-5)
    moved = driven_grid(params["decoder"], identity, pose, dynamics)
    assert jnp.abs(moved - driven).max() > 0.05


def test_driving_with_the_identity_pose_keeps_every_voxel(params):
    """Depth becomes channels (it is not summed), and nothing is resampled."""
    appearance = jnp.asarray(np.random.default_rng(5).normal(size=(1, 4, 16, 16, 16)), jnp.float32)
    pose = jnp.asarray([IDENTITY_POSE])
    args = (appearance, jnp.zeros((1, 4, 4, 32)), pose, codes(1))
    driven = drive(without_warp(params["decoder"]), *args)
    np.testing.assert_array_equal(driven, appearance.transpose(0, 2, 3, 1, 4).reshape(1, 16, 16, 64))


# ---------------------------------------------------------------- whole networks


def test_encoder_batched_equals_single(params):
    batch = images(3)
    together = encode(params["encoder"], batch)
    for i in range(3):
        alone = encode(params["encoder"], batch[i : i + 1])
        for a, b in zip(together, alone):
            np.testing.assert_allclose(a[i : i + 1], b, atol=1e-3 * float(jnp.abs(b).max()))
    assert jnp.abs(together.dynamics[0] - together.dynamics[1]).max() > 1e-3


def test_decoder_batched_equals_single_and_broadcasts_one_portrait(params):
    latents = encode(params["encoder"], images(3))
    pose, dynamics = poses(3), codes(3)
    broadcast = decode(params["decoder"], latents.appearance[:1], latents.identity[:1], pose, dynamics)
    for i in range(3):
        one = slice(i, i + 1)
        alone = decode(params["decoder"], latents.appearance[:1], latents.identity[:1], pose[one], dynamics[one])
        for a, b in zip(jax.tree.leaves(broadcast), jax.tree.leaves(alone)):
            np.testing.assert_allclose(a[one], b, atol=1e-4)
    assert broadcast.rgb.shape == (3, SIZE, SIZE, 3) and broadcast.matte.shape == (3, SIZE, SIZE, 1)
    assert broadcast.rgb.min() >= 0 and broadcast.rgb.max() <= 1
    # Pose and dynamics each reach the picture.
    for change in ((pose[::-1], dynamics), (pose, dynamics[::-1])):
        other = decode(params["decoder"], latents.appearance[:1], latents.identity[:1], *change)
        assert jnp.abs(other.rgb[0] - broadcast.rgb[0]).max() > 1e-3


def test_no_gradient_reaches_the_pose_through_the_aligned_crop(params):
    def total(image, pose):
        return ENCODER.apply({"params": params["encoder"]}, image, pose, method="crop").sum()

    by_image, by_pose = jax.jit(jax.grad(total, argnums=(0, 1)))(images(1), poses(1))
    assert jnp.abs(by_pose).max() == 0 < jnp.abs(by_image).max()


@pytest.mark.long
def test_a_training_step_reaches_every_parameter():
    """From source and driver to the driver's picture: every parameter gets a finite gradient that is not 0."""

    encoder, decoder = face_codec(LEAST)
    params = random_params(lambda key: init_face(key, LEAST))

    @jax.jit
    def gradient(params, source, driver):
        def loss(params):
            weights = {"params": params["encoder"]}
            poses, codes = encoder.apply(weights, jnp.concatenate([source, driver]), method="encode_motion")
            portrait = encoder.apply(weights, source, poses[:2], codes[:2], method="encode_appearance")
            decoded = decoder.apply({"params": params["decoder"]}, *portrait, poses[2:], codes[2:])
            return jnp.square(decoded.rgb - driver).mean() + jnp.square(decoded.matte - 0.5).mean()

        return jax.grad(loss)(params)

    # Near the identity pose, where a head would be.
    flat = flatten_dict(params, sep="/")
    flat["encoder/pose_net/head/kernel"] = 0.02 * flat["encoder/pose_net/head/kernel"]
    pictures = images(2)[:, ::2, ::2]
    gradients = gradient(unflatten_dict(flat, sep="/"), pictures, pictures[::-1])
    sizes = {name: float(jnp.abs(leaf).max()) for name, leaf in flatten_dict(gradients, sep="/").items()}
    assert all(np.isfinite(size) for size in sizes.values())
    assert [name for name, size in sizes.items() if size == 0] == []

"""The keypoint codec against the official PyTorch modules at random weights (tests/golden/make_keypoint.py)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official_state import GOLDEN, inputs, published_keys, random_state, spread

from vasa_jax.models.keypoint_appearance import AppearanceFeatureExtractor
from vasa_jax.models.keypoint_face import KeypointFaceDecoder, keypoint_codec
from vasa_jax.models.keypoint_generator import Generator
from vasa_jax.models.keypoint_motion import MotionExtractor
from vasa_jax.models.keypoint_motion_field import WarpingNetwork
from vasa_jax.models.keypoints import angle, pose_from_raw, posed_keypoints, rotation_from_angles
from vasa_jax.weights.liveportrait import PARTS, codec_params, fields_of, key_tables, named_state

KEYS = published_keys("published")
DEFAULT = {"encoder": {}, "decoder": {}}
TOLERANCE = 1e-5


@functools.cache
def golden():
    return dict(np.load(GOLDEN / "keypoint.npz"))


def params_of(part):
    """The codec's parameters of one published file at random weights."""
    state = named_state(random_state(KEYS[part]), part, part)
    return codec_params({part: state}, DEFAULT, {part: part})


def picture(name, *shape, scale=1.0):
    """Random input, channels last."""
    return np.moveaxis(inputs(name, *shape, scale=scale), 1, -1)


def unit(name, *shape):
    return jax.nn.sigmoid(picture(name, *shape))


def close(name, values, tolerance=TOLERANCE):
    """`values`: channels last. The reference holds channels first."""
    values, expected = np.moveaxis(np.asarray(values, np.float64), -1, 1), golden()[name]
    assert values.shape == tuple(golden()[f"{name}.shape"])
    difference = np.abs(spread(values, 2000) - expected).max()
    assert np.std(expected) > 20 * tolerance and difference <= tolerance, (name, difference, np.std(expected))
    print(f"{name}: max {difference:.1e} at std {np.std(expected):.2g}")


def close_table(name, values, tolerance=TOLERANCE):
    """The same for what has no channel axis to move."""
    values = np.asarray(values)
    close(name, np.moveaxis(values, 1, -1), tolerance)


def test_every_published_key_has_its_place():
    """Names and shapes of all five files, from the official modules."""
    tables = key_tables(DEFAULT)
    assert list(tables) == list(PARTS) == list(KEYS)
    for part, table in tables.items():
        published = {}
        for name, shape in KEYS[part].items():
            if not name.endswith(("num_batches_tracked", "weight_u", "weight_v")):
                published[name.replace(".module.", ".").replace("weight_orig", "weight")] = tuple(shape)
        assert {name: target.shape for name, target in table.items()} == published
        assert len({target.path + (target.collection,) for target in table.values()}) == len(table)


def test_appearance_feature_extractor():
    params = params_of("appearance_feature_extractor")["encoder"]["appearance_feature_extractor"]
    close("appearance", jax.jit(AppearanceFeatureExtractor().apply)({"params": params}, unit("image", 2, 3, 32, 40)))


def test_motion_extractor_and_posed_keypoints():
    params = params_of("motion_extractor")["encoder"]["motion_extractor"]
    raw = jax.jit(MotionExtractor().apply)({"params": params}, unit("face", 2, 3, 64, 96))
    for name in ("pitch", "yaw", "roll", "scale"):
        close_table(f"motion.{name}", getattr(raw, name))
    close_table("motion.t", raw.translation)
    close_table("motion.exp", raw.expression.reshape(2, -1))
    close_table("motion.kp", raw.keypoints.reshape(2, -1))

    sharper = raw._replace(**{name: 2.0 * getattr(raw, name) for name in ("pitch", "yaw", "roll")})
    angles = [angle(getattr(sharper, name)) for name in ("pitch", "yaw", "roll")]
    close_table("degrees", jnp.rad2deg(jnp.stack(angles, -1)), 1e-4)
    # The official matrix is for row vectors.
    close_table("rotation", rotation_from_angles(*angles).swapaxes(-1, -2))
    posed = posed_keypoints(raw.keypoints, pose_from_raw(sharper), raw.expression)
    close_table("posed", posed)


def test_a_pose_holds_scale_and_translation():
    rng = np.random.default_rng(0)
    canonical, expression = rng.standard_normal((2, 1, 5, 3)).astype(np.float32)
    angles = np.float32([[0.3], [-0.5], [0.2]])
    rotation = rotation_from_angles(*angles)
    pose = np.concatenate([rotation[..., 0], rotation[..., 1], [[np.log(1.5)]], [[0.1, -0.2]]], -1).astype(np.float32)
    expected = 1.5 * (canonical[0] @ np.asarray(rotation)[0].T + expression[0]) + [0.1, -0.2, 0.0]
    np.testing.assert_allclose(posed_keypoints(canonical, pose, expression)[0], expected, atol=1e-6)


def driven_inputs():
    source = inputs("source", 1, 21, 3, scale=0.3)
    return picture("volume", 1, 32, 16, 32, 32, scale=0.5), source + inputs("driven", 1, 21, 3, scale=0.15), source


@pytest.mark.long
def test_warping_network():
    params = params_of("warping_module")["decoder"]["warping_module"]
    features, motion = jax.jit(WarpingNetwork().apply)({"params": params}, *driven_inputs())
    close("warp.out", features)
    close("warp.occlusion_map", motion.occlusions)
    close_table("warp.deformation", motion.deformation)


def test_generator():
    params = params_of("spade_generator")["decoder"]["spade_generator"]
    draw = jax.jit(functools.partial(Generator().apply, hidden=True))
    features = picture("features", 1, 256, 8, 8, scale=0.5)
    image, hidden = draw({"params": params}, features)
    close("generator", image)
    close("generator.hidden", hidden, 2e-5)  # of sums of thousands of products, whose order is the processor's
    close("generator.contrast", draw({"params": params}, 20.0 * features)[0], 1e-4)


@pytest.mark.parametrize("name, width", [("stitching", 126), ("lip", 65), ("eye", 66)])
def test_stitching_and_retargeting(name, width):
    params = params_of("stitching_retargeting_module")["decoder"]
    decoder = KeypointFaceDecoder()
    values = inputs(name, 3, width)
    close_table(name, decoder.apply({"params": params}, values, method=lambda m, x: getattr(m, name)(x)))


def test_from_two_pictures_to_the_driven_one():
    """A narrow codec, whose sizes are told by its tensors, as the official wrapper runs it."""
    keys = published_keys("narrow")
    states = {part: named_state(random_state(table), part, part) for part, table in keys.items()}
    fields = fields_of(states, {part: part for part in states})
    fields["encoder"] |= {"image_size": 128, "input_size": 64}
    params = codec_params(states, fields, {part: part for part in states})
    encoder, decoder = keypoint_codec(fields)

    def run(params, images):
        latents = encoder.apply({"params": params["encoder"]}, images[:1])
        pose, dynamics = encoder.apply({"params": params["encoder"]}, images[1:], method="encode_motion")
        decode = functools.partial(decoder.apply, {"params": params["decoder"]})
        driven = posed_keypoints(latents.identity, pose, dynamics.reshape(2, -1, 3))
        source = jnp.repeat(latents.appearance.keypoints, 2, 0)
        stitched = decode(source, driven, method="stitch")
        lips, eyes = (jax.nn.sigmoid(inputs(f"{name}.openness", 2, n)) for name, n in (("lip", 2), ("eye", 3)))
        pictures = decode(latents.appearance, jnp.concatenate([driven, stitched]), method="draw")
        return {
            "driven": pictures[:2],
            "driven.keypoints": driven,
            "stitched": pictures[2:],
            "stitched.keypoints": stitched,
            "lip": decode(source, lips, method="retarget_lips"),
            "eye": decode(source, eyes, method="retarget_eyes"),
        }

    found = jax.jit(run)(params, unit("chain", 3, 3, 128, 128))
    for name, values in found.items():
        if values.ndim == 4:  # five networks deep
            close(f"chain.{name}", values, 1e-4)
        else:
            close_table(f"chain.{name}", values)

"""face-vid2vid's detectors in the place of LivePortrait's motion extractor (tests/golden/make_face_vid2vid.py)."""

import functools
import json

import jax
import numpy as np
import pytest
from official_state import GOLDEN, inputs, live_portrait_files, random_state
from tiny_keypoint import FIELDS
from torch_files import tensors, write_zip

from vasa_jax.errors import InputError
from vasa_jax.models.keypoint_face import KeypointFaceEncoder, keypoint_codec
from vasa_jax.models.keypoints import angle, pose_from_raw, posed_keypoints
from vasa_jax.weights.importer import import_weights
from vasa_jax.weights.liveportrait import codec_params, key_tables, live_portrait_params, named_state
from vasa_jax.weights.parts import load_part

TOLERANCE = 1e-5
MOTION = "motion_extractor"


@functools.cache
def golden():
    return dict(np.load(GOLDEN / "face_vid2vid.npz"))


def keys(kind):
    table = json.loads(str(golden()[f"{kind}.keys"]))
    return {name: tuple(int(n) for n in shape.split("x") if n) for name, shape in table.items()}


@functools.cache
def checkpoint():
    """As its training saves it: state dicts of all networks, optimizers, the epoch."""
    networks = {"afe": {"in_conv.weight": np.zeros((2, 2), np.float32)}, "ckd": {}, "hpe_ede": {}}
    for name, value in random_state(keys("narrow")).items():
        network, inner = name.split(".", 1)
        networks[network][inner] = value
    optimizer = {"state": {0: {"step": 5, "exp_avg": np.ones(3, np.float32)}}, "param_groups": [{"lr": 2e-4}]}
    return networks | {"optimizer_ckd": optimizer, "epoch": 7}


def converted(content):
    files = live_portrait_files() | {MOTION: content}
    return live_portrait_params(files, {part: f"{part}.pth" for part in files})


def check(kind, encoder, params, side):
    """Everything that both networks say of two pictures, and the keypoints as that program poses them."""
    image = jax.nn.sigmoid(np.moveaxis(inputs("face", 2, 3, side, side), 1, -1))
    raw = jax.jit(functools.partial(encoder.apply, method="read"))({"params": params}, image)
    pose, expression = pose_from_raw(raw, encoder.angles), raw.expression
    depth = np.pad(raw.translation[:, None, 2:], ((0, 0), (0, 0), (2, 0)))  # which a pose has not
    found = {
        "keypoints": raw.keypoints, "expression": expression, "t": raw.translation,
        "angles": np.stack([angle(logits, "face_vid2vid") for logits in raw[:3]], -1),
        "posed": posed_keypoints(raw.keypoints, pose, expression) + depth,
    }  # fmt: skip
    for name, values in found.items():
        expected = golden()[f"{kind}.{name}"]
        assert np.std(expected) > 1000 * TOLERANCE, name
        np.testing.assert_allclose(values, expected, rtol=0, atol=TOLERANCE, err_msg=name)


def test_names_and_shapes_are_those_of_the_official_modules():
    encoder = FIELDS["encoder"] | {"separate_motion": True, "input_size": 128, "motion": {}}
    fields = {"encoder": encoder, "decoder": FIELDS["decoder"] | {"keypoints": 15, "retargeting": False}}
    table = key_tables(fields)[MOTION]
    assert {name: target.shape for name, target in table.items()} == {
        name: shape for name, shape in keys("published").items() if not name.endswith("num_batches_tracked")
    }


def test_a_checkpoint_becomes_a_codecs_motion_extractor(tmp_path):
    (tmp_path / "in").mkdir()
    for part, content in (live_portrait_files() | {MOTION: checkpoint()}).items():
        suffix = ".pth.tar" if part == MOTION else ".pth"
        write_zip(tmp_path / "in" / f"{part}{suffix}", tensors(content))
    (entry,) = import_weights(tmp_path / "in", tmp_path / "out")
    assert entry["commercial"] == "ask" and "LivePortrait + face-vid2vid's detectors" in entry["title"]
    params, metadata = load_part(tmp_path / "out", "face")
    fields = metadata["fields"]
    assert fields["encoder"]["motion"] == {
        "keypoints": 5, "depth": 8,
        "detector": {"down_widths": [8, 8, 12, 16, 24], "up_widths": [16, 12, 8, 8, 6]},
        "estimator": {"stem": 8, "widths": [16, 24, 32, 48], "depths": [2, 3, 2, 2]},
    }  # fmt: skip
    encoder, _ = keypoint_codec(fields | {"encoder": fields["encoder"] | {"image_size": 128, "input_size": 128}})
    check("narrow", encoder, params["encoder"], 128)


@pytest.mark.slow
def test_at_full_width():
    fields = {
        "encoder": {"image_size": 256, "separate_motion": True, "angles": "face_vid2vid"},
        "decoder": {"keypoints": 15, "retargeting": False},
    }
    state = named_state(random_state(keys("published")), MOTION, MOTION)
    params = codec_params({MOTION: state}, fields, {MOTION: MOTION})["encoder"]
    other = KeypointFaceEncoder(appearance=FIELDS["encoder"]["appearance"], **fields["encoder"])
    shapes = jax.eval_shape(other.init, jax.random.key(0), np.zeros((1, 256, 256, 3), np.float32))["params"]
    missing = "appearance_feature_extractor"
    params |= {missing: jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes[missing])}
    check("published", other, params, 256)


def without(network, name):
    state = {key: value for key, value in checkpoint()[network].items() if key != name}
    return checkpoint() | {network: state}


@pytest.mark.parametrize(
    ("network", "name"), [("ckd", "out_conv.weight"), ("hpe_ede", "res_layers.5.down_sample.layers.1.running_var")]
)
def test_a_missing_tensor_is_named(network, name):
    with pytest.raises(InputError, match=rf"{MOTION}\.pth: no tensor '{network}\.{name}'; give the file as it was"):
        converted(without(network, name))


def test_it_needs_the_other_networks_and_no_second_extractor(tmp_path):
    write_zip(tmp_path / "00000099-checkpoint.pth.tar", tensors(checkpoint()))
    with pytest.raises(InputError, match="LivePortrait's appearance_feature_extractor is missing"):
        import_weights(tmp_path, tmp_path / "out")
    write_zip(tmp_path / "m.pth", tensors(live_portrait_files()[MOTION]))
    with pytest.raises(InputError, match="of the same kind; leave one of them"):
        import_weights(tmp_path, tmp_path / "out")

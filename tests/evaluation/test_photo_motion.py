"""The fixed motion of a file: saved motion and plain numbers of either kind of codec; all else is one line."""

import os
import pickle
import types

import numpy as np
import pytest
from hostile import refused

from vasa_jax.conventions import IDENTITY_POSE, POSE_DIM, rotation_columns
from vasa_jax.evaluation.photo_motion import from_file
from vasa_jax.generation.driving_motion import DrivingMotion, save_motion
from vasa_jax.generation.motion_edit import about_portrait

VOLUME = types.SimpleNamespace(codec="volume", dynamics=128, model="aaa")
KEYPOINT = types.SimpleNamespace(codec="keypoint", dynamics=63, model="bbb")
CODECS = pytest.mark.parametrize("codec", [VOLUME, KEYPOINT], ids=["volume", "keypoint"])


def moved(codec, frames=5, model=""):
    rng = np.random.default_rng(0)
    pose = np.concatenate([rotation_columns(rng.uniform(-20, 20, (frames, 3))), rng.normal(0, 0.1, (frames, 3))], 1)
    dynamics = rng.normal(0, 0.05, (frames, codec.dynamics))
    return DrivingMotion(pose.astype(np.float32), dynamics.astype(np.float32), 30.0, codec.codec, model)


@CODECS
def test_saved_motion_and_its_plain_numbers_are_the_same(codec, tmp_path):
    motion = moved(codec, model=codec.model)
    save_motion(tmp_path / "m.npz", motion)
    np.save(tmp_path / "m.npy", motion.vectors)
    avatar = types.SimpleNamespace(motion=moved(codec, 1).vectors[0])
    for name in ("m.npz", "m.npy"):
        asked = from_file(tmp_path / name, codec)
        np.testing.assert_array_equal(asked.pose, motion.pose)
        np.testing.assert_array_equal(asked.of(codec, avatar), about_portrait(motion.vectors, avatar.motion))
        np.testing.assert_array_equal(asked.of(codec, avatar)[:, POSE_DIM:], motion.dynamics)
        assert asked.curves is None and asked.mouth is None and not asked.unfit(codec)


def test_a_template_moves_a_codec_with_as_many_keypoints(tmp_path):
    frame = {"R": np.eye(3, dtype=np.float32), "scale": 1.2, "t": np.zeros(3), "exp": np.full((21, 3), 0.01)}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"n_frames": 3, "output_fps": 25, "motion": [frame] * 3}))
    asked = from_file(tmp_path / "m.pkl", KEYPOINT)
    np.testing.assert_allclose(asked.motion.dynamics, 0.01)
    refused(lambda: from_file(tmp_path / "m.pkl", VOLUME), "m.pkl: holds motion of a keypoint codec with 63")


@CODECS
@pytest.mark.parametrize(
    ("shape", "value"), [((5, 3), 0), ((2, None), 0), ((0, None), 0), ((5, None), np.nan), ((5, None), np.inf)]
)
def test_an_array_of_another_form_is_refused(codec, shape, value, tmp_path):
    width = POSE_DIM + codec.dynamics
    np.save(tmp_path / "m.npy", np.full([width if side is None else side for side in shape], value))
    refused(lambda: from_file(tmp_path / "m.npy", codec), "m.npy: holds", f"at least 3 frames of {width} numbers")


@CODECS
def test_numbers_that_are_no_motion_are_refused(codec, tmp_path):
    vectors = moved(codec).vectors
    faults = {
        "frame 1 has no rotation": ((1, slice(0, 6)), 0.0),
        "the usual size": ((2, 6), 5.0),
        "holds numbers that are no motion": ((3, 20), 1e6),
    }
    for fault, (where, value) in faults.items():
        wrong = vectors.copy()
        wrong[where] = value
        np.save(tmp_path / "m.npy", wrong)
        refused(lambda: from_file(tmp_path / "m.npy", codec), "m.npy: ", fault)


@CODECS
def test_motion_of_another_codec_is_refused(codec, tmp_path):
    other = {"volume": KEYPOINT, "keypoint": VOLUME}[codec.codec]
    path = tmp_path / "m.npz"
    save_motion(path, moved(other))
    refused(lambda: from_file(path, codec), f"m.npz: holds motion of a {other.codec} codec with {other.dynamics}",
            f"not of a {codec.codec} codec with {codec.dynamics}; give one that reenact saved")  # fmt: skip
    save_motion(path, moved(types.SimpleNamespace(codec=codec.codec, dynamics=72)))
    refused(lambda: from_file(path, codec), f"a {codec.codec} codec with 72 numbers a face, not of")
    save_motion(path, moved(codec, model="ccc"))
    refused(lambda: from_file(path, codec), f"m.npz: was read by the codec ccc, not by {codec.model}; give")
    save_motion(path, moved(codec, frames=2))
    refused(lambda: from_file(path, codec), "m.npz: holds 2 frames; give at least 3")
    np.save(tmp_path / "m.npy", moved(other).vectors)
    refused(lambda: from_file(tmp_path / "m.npy", codec), f"m.npy: holds (5, {POSE_DIM + other.dynamics}); give")


def test_damaged_saved_motion_is_refused(tmp_path):
    path, good = tmp_path / "m.npz", moved(KEYPOINT)
    fields = {"pose": good.pose, "dynamics": good.dynamics, "fps": 25.0, "codec": "keypoint", "model": ""}
    for name, value in (("pose", good.pose[:0]), ("dynamics", np.full_like(good.dynamics, np.nan)),
                        ("dynamics", np.array([{}] * 5, object)), ("codec", "wax")):  # fmt: skip
        np.savez(path, **{**fields, name: value})
        refused(lambda: from_file(path, KEYPOINT), "m.npz: ")
    for data in (b"hello", b"PK\3\4"):
        path.write_bytes(data)
        refused(lambda: from_file(path, KEYPOINT), "m.npz: ", "save it again with config.motion_output")
    path.write_bytes(b"")
    refused(lambda: from_file(path, KEYPOINT), "m.npz: is empty")


@CODECS
@pytest.mark.filterwarnings("error")
def test_a_file_that_is_no_array_is_one_line(codec, tmp_path):
    path, width = tmp_path / "m.npy", POSE_DIM + codec.dynamics
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, {width})}}".encode().ljust(77) + b"\n"
    claim = b"\x93NUMPY\1\0\x4e\0" + head
    for data in (b"", b"hello", b"\x93NUMPY", b"PK\3\4", claim):
        path.write_bytes(data)
        refused(lambda: from_file(path, codec), "m.npy: ", "give a .npy file")
    for array in (np.array([{}], object), np.ones((3, width), complex), np.full((3, width), "a"),
                  np.full((3, width), 1e300)):  # fmt: skip
        np.save(path, array, allow_pickle=True)
        refused(lambda: from_file(path, codec), "m.npy", "give")
    path.unlink()
    os.mkfifo(path)
    refused(lambda: from_file(path, codec), "is a FIFO")


def test_plain_numbers_are_of_any_codec_with_as_many(tmp_path):
    np.save(tmp_path / "m.npy", np.tile([*IDENTITY_POSE, *np.zeros(63)], (3, 1)))
    asked = from_file(tmp_path / "m.npy", KEYPOINT)
    assert not asked.unfit(types.SimpleNamespace(codec="keypoint", dynamics=63, model="another"))
    assert asked.unfit(VOLUME)

"""Files of motion: ours come back bit for bit, LivePortrait's templates as the same rotations and displacements."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hostile import refused

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import rotation_columns, rotation_matrices
from vasa_jax.errors import InputError
from vasa_jax.generation.driving_motion import MOST_FRAMES, DrivingMotion, motion_file, read_motion, save_motion
from vasa_jax.generation.job import DEMO
from vasa_jax.main import run


def example(frames=6, codec="keypoint"):
    rng = np.random.default_rng(0)
    degrees = rng.uniform(-20, 20, (frames, 3))
    pose = np.concatenate([rotation_columns(degrees), rng.normal(0, 0.1, (frames, 3))], 1).astype(np.float32)
    return DrivingMotion(pose, rng.normal(0, 0.05, (frames, 63)).astype(np.float32), 30.0, codec)


def template(motion, rotation="R"):
    """As LivePortrait writes it: R is that of row vectors."""
    frames = [
        {
            "scale": np.exp(pose[6:7])[None],
            rotation: rotation_matrices(pose).T[None].astype(np.float32),
            "exp": values.reshape(1, 21, 3),
            "t": np.array([[*pose[7:9], 0.3]], np.float32),
            "kp": np.zeros((1, 21, 3), np.float32),
            "x_s": np.zeros((1, 21, 3), np.float32),
        }
        for pose, values in zip(motion.pose, motion.dynamics)
    ]
    older = "_d" * (rotation == "R_d")
    ratios = {
        f"c{older}_eyes_lst": [np.array([[0.3, 0.01 * i]], np.float32) for i in range(len(frames))],
        f"c{older}_lip_lst": [np.array([[0.02 * i]], np.float32) for i in range(len(frames))],
    }
    return {"n_frames": len(frames), "output_fps": motion.fps, "motion": frames, **ratios}


@pytest.mark.parametrize("rotation", ["R", "R_d"])
def test_templates_go_round(tmp_path, rotation):
    motion = example()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(template(motion, rotation)))
    read = read_motion(tmp_path / "a.pkl")
    np.testing.assert_allclose(read.vectors, motion.vectors, atol=1e-6)
    assert (read.fps, read.codec, read.model) == (30.0, "keypoint", "")
    np.testing.assert_allclose(read.openness, [(0.3, 0.01 * i, 0.02 * i) for i in range(6)], rtol=1e-6)
    save_motion(tmp_path / "a.npz", read)
    again = read_motion(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.vectors, read.vectors)
    np.testing.assert_array_equal(again.openness, read.openness)
    assert (again.fps, again.codec, again.model) == (30.0, "keypoint", "")


def test_frame_rates_go_to_25_and_back():
    motion = example(61)
    slower = motion.at_rate(25.0)
    assert len(slower) == 51 and slower.fps == 25.0
    np.testing.assert_allclose(slower.vectors[::5], motion.vectors[::6], atol=1e-6)  # the same moments
    turns = rotation_matrices(slower.pose)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (51, 1, 1)), atol=1e-5)
    back = slower.at_rate(30.0)
    assert len(back) == 61
    np.testing.assert_allclose(back.vectors[::6], motion.vectors[::6], atol=1e-6)
    assert motion.at_rate(30.0).vectors is not None and len(motion.at_rate(30.0)) == 61


class Hostile:
    def __reduce__(self):
        return print, ("run",)


def without(name):
    content = template(example())
    del content["motion"][2][name]
    return content


def changed(change):
    content = template(example())
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Hostile(), r"print"),
        ({"frames": 3}, "no list 'motion'"),
        (without("exp"), "frame 2 has no 'exp'"),
        (without("R"), "frame 2 has no 'R_d'"),
        (changed(lambda c: c["motion"][1].update(t=np.zeros(5))), "frame 1 has other shapes"),
        (changed(lambda c: c["motion"][1].update(scale=np.zeros((1, 1)))), "frame 1 has a scale of 0"),
        (changed(lambda c: c["motion"][1].update(R=np.zeros((1, 3, 3)))), "frame 1 has no rotation"),
        (changed(lambda c: c["motion"][1].update(exp=np.full((1, 21, 3), np.nan))), "no motion"),
        (changed(lambda c: c["motion"][1].update(exp=np.zeros((1, 20, 3)))), "different numbers of keypoints"),
        (changed(lambda c: c.update(output_fps="fast")), "output_fps is no number"),
        (changed(lambda c: c.update(output_fps=10**400)), "output_fps is no number"),
        (changed(lambda c: c["motion"][1].update(scale=10**400)), "frame 1 has other shapes"),
        (changed(lambda c: c["motion"][1].update(t=[10**400, 0, 0])), "frame 1 has other shapes"),
        (changed(lambda c: c.update(output_fps=0)), "frame rate of 0"),
        (changed(lambda c: c.update(c_lip_lst=[0.1])), "c_eyes_lst and c_lip_lst are not 2 and 1 numbers a frame"),
        (changed(lambda c: c.update(c_eyes_lst=np.full((6, 2), np.nan))), "not open by 3 numbers a frame"),
    ],
)
def test_bad_templates_are_one_line(tmp_path, capsys, content, message):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        read_motion(tmp_path / "a.pkl")
    assert "\n" not in str(error.value) and "a.pkl" in str(error.value)
    assert "run" not in capsys.readouterr().out


def test_bad_npz_files_are_one_line(tmp_path):
    np.savez(tmp_path / "a.npz", pose=np.zeros((3, 9)))
    with pytest.raises(InputError, match="no array"):
        read_motion(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", pose=np.array([Hostile()]), dynamics=0, fps=25, codec="volume", model="")
    with pytest.raises(InputError, match="cannot be read"):
        read_motion(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes(b"PK\3\4 not a zip")
    with pytest.raises(InputError, match="cannot be read"):
        read_motion(tmp_path / "c.npz")
    with pytest.raises(InputError, match=r"saved as \.npz"):
        save_motion(tmp_path / "d.txt", example())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "changes",
    [
        {"pose": np.ones((3, 9), complex)},
        {"pose": np.full((3, 9), "a")},
        {"pose": np.ones((3, 9), "M8[s]")},
        {"pose": np.ones((3, 9), bool)},
        {"pose": np.full((3, 9), 1e300)},
        {"dynamics": np.full((3, 2), 1e300)},
        {"dynamics": np.full((3, 2), np.nan)},
        {"fps": np.ones(2)},
        {"fps": 1j},
        {"fps": "fast"},
        {"codec": np.zeros((3, 3))},
    ],
)
def test_arrays_of_other_kinds_are_one_line_without_a_warning(tmp_path, changes):
    pose = np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0, 0]), (3, 1))
    good = {"pose": pose, "dynamics": np.zeros((3, 2)), "fps": 25.0, "codec": "volume", "model": ""}
    np.savez(tmp_path / "a.npz", **good)
    assert len(read_motion(tmp_path / "a.npz")) == 3
    np.savez(tmp_path / "a.npz", **{**good, **changes})
    refused(lambda: read_motion(tmp_path / "a.npz"), "a.npz")


@pytest.mark.parametrize("scale", [-60.0, -3.1, 3.1, 100.0, 9000.0])
def test_heads_have_sizes_that_can_be_computed_with(tmp_path, scale):
    """The scale is kept as a logarithm: exp(100) is no number of an image."""
    pose = example().pose
    pose[2, 6] = scale
    refused(lambda: save_and_read(tmp_path / "a.npz", pose), "a.npz: has heads of more than 20 times")
    pose[2, 6] = np.sign(scale) * 2.9
    assert save_and_read(tmp_path / "a.npz", pose).pose[2, 6] == pose[2, 6]


def save_and_read(path, pose):
    save_motion(path, DrivingMotion(pose, example().dynamics, 25.0, "keypoint"))
    return read_motion(path)


def test_a_motion_of_few_frames_a_second_does_not_become_endless():
    pose = np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0, 0]), (20_000, 1))
    slow = DrivingMotion(pose, np.zeros((20_000, 3), np.float32), 1.0, "keypoint")
    refused(lambda: slow.at_rate(120), "5.6 hours at 120 frames a second")
    assert len(slow.at_rate(25)) == 500_000 <= MOST_FRAMES


@pytest.mark.parametrize("name", ["a.mp4", "folder.npz", "n" * 300 + ".npz", "file/a.npz", "/proc/a.npz", "me.npz"])
def test_where_a_motion_is_saved_is_checked_before_anything_is_read(tmp_path, name):
    """Also what drives: it would be lost."""
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").write_text("x")
    save_motion(tmp_path / "me.npz", example())
    refused(lambda: motion_file(tmp_path / name, [tmp_path / "me.npz"]), name[-8:])
    given = {"image": DEMO["image"], "video": tmp_path / "me.npz", "output": tmp_path / "o.mp4"}
    given |= {"motion_output": tmp_path / name, "checkpoint": "missing"}
    config = VASAConfig(job="reenact", **{key: str(value) for key, value in given.items()})
    refused(lambda: run(config), name[-8:])


@pytest.mark.filterwarnings("error")
def test_a_template_with_giant_numbers_is_one_line_without_a_warning(tmp_path):
    content = template(example())
    content["motion"][1]["exp"] = np.full((1, 21, 3), 1e300)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    refused(lambda: read_motion(tmp_path / "a.pkl"), "no motion")


def test_a_compressed_motion_is_read_and_a_bomb_is_not(tmp_path):
    """67 million frames of zeros take 2.4 GB, and 2.4 MB when compressed."""
    pose = np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0, 0]), (3, 1))
    good = {"dynamics": np.zeros((3, 2)), "fps": 25.0, "codec": "volume", "model": ""}
    np.savez_compressed(tmp_path / "a.npz", pose=pose, **good)
    assert len(read_motion(tmp_path / "a.npz")) == 3
    np.savez_compressed(tmp_path / "a.npz", pose=np.zeros((2**23, 9), np.float32), **good)
    tracemalloc.start()
    try:
        refused(lambda: read_motion(tmp_path / "a.npz"), "claims more")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()

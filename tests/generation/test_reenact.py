"""A driving face's motion taken over: each mode's formula, the whole command, and its bad input."""

import contextlib
import itertools

import av
import numpy as np
import pytest
from drawn_faces import picture
from PIL import Image
from tiny_model import save_tiny_model

from vasa_jax.conventions import head_angles, rotation_columns, rotation_matrices
from vasa_jax.data.audio_files import Audio
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import DrivingMotion, read_motion
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.motion_smoothing import smoothed, steadied
from vasa_jax.generation.reenact import driven_motion
from vasa_jax.generation.reenactment import reenact
from vasa_jax.main import main


def motion(degrees, place, dynamics):
    """Motion vectors (T, 9 + Z) of yaw, pitch, roll; log scale, tx, ty; dynamics, one row per frame."""
    return np.concatenate([rotation_columns(np.array(degrees)), place, dynamics], 1).astype(np.float32)


PORTRAIT = motion([(10, -5, 3)], [(0.1, 0.2, -0.1)], [(1.0, 2.0, 3.0)])[0]
READ = motion(
    [(4, 2, 0), (24, 2, 0), (4, 12, 5)], [(0.3, 0.0, 0.1), (0.4, 0.2, 0.1), (0.1, 0.0, 0.0)],
    [(0.5, 0, 0), (0.7, 0, -1), (0.5, 1, 0)],
)  # fmt: skip
DRIVING = DrivingMotion(READ[:, :9], READ[:, 9:], 25.0, "volume")


def driven(**settings):
    return driven_motion(PORTRAIT, DRIVING, Driving(**settings))


def rotations(vectors):
    return rotation_matrices(vectors[..., :6])


def test_relative_motion_starts_at_the_portrait_and_adds_what_changes():
    found = driven(driving_rest="first")
    np.testing.assert_allclose(found[0], PORTRAIT, atol=1e-6)
    np.testing.assert_allclose(found[:, 6:], PORTRAIT[6:] + READ[:, 6:] - READ[0, 6:], atol=1e-6)
    own, read = rotations(PORTRAIT), rotations(READ)
    np.testing.assert_allclose(rotations(found), own @ read[0].T @ read, atol=1e-6)


def test_a_face_at_rest_is_the_one_that_is_nearest_to_the_portraits():
    """A driving face whose mouth is open at first still opens a closed one: its own rest is looked for."""
    vectors = np.tile(READ[:1], (3, 1))
    vectors[:, 9:] = PORTRAIT[9:] + np.array([[0.5], [0.1], [0.9]]) * np.eye(1, len(PORTRAIT) - 9)
    driving = DrivingMotion(vectors[:, :9], vectors[:, 9:], 25.0, "volume")
    changes = {rest: driven_motion(PORTRAIT, driving, Driving(driving_rest=rest))[:, 9] - PORTRAIT[9]
               for rest in ("auto", "nearest", "first")}  # fmt: skip
    np.testing.assert_allclose(changes["auto"], [0.4, 0.0, 0.8], atol=1e-6)
    np.testing.assert_array_equal(changes["nearest"], changes["auto"])
    np.testing.assert_allclose(changes["first"], [0.0, -0.4, 0.4], atol=1e-6)


def test_absolute_motion_is_the_driving_faces_at_the_portraits_scale():
    found = driven(mode="absolute")
    np.testing.assert_allclose(np.delete(found, 6, 1), np.delete(READ, 6, 1), atol=1e-6)
    np.testing.assert_array_equal(found[:, 6], np.repeat(PORTRAIT[6], 3))


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_regions_take_their_part_of_the_whole(mode):
    whole = driven(mode=mode)
    pose, face = driven(mode=mode, region="pose"), driven(mode=mode, region="expression")
    np.testing.assert_array_equal(pose[:, [*range(6), 7, 8]], whole[:, [*range(6), 7, 8]])
    np.testing.assert_array_equal(pose[:, 9:], np.tile(PORTRAIT[9:], (3, 1)))
    np.testing.assert_array_equal(pose[:, 6], np.repeat(PORTRAIT[6], 3))
    np.testing.assert_array_equal(face[:, 9:], whole[:, 9:])
    np.testing.assert_array_equal(face[:, :9], np.tile(PORTRAIT[:9], (3, 1)))


def test_the_multiplier_scales_last_and_about_the_portrait():
    once, half = driven(mode="absolute"), driven(mode="absolute", driving_multiplier=0.5)
    np.testing.assert_allclose(half[:, 6:], (once[:, 6:] + PORTRAIT[6:]) / 2, atol=1e-6)
    turns = [rotations(PORTRAIT).T @ rotations(vectors) for vectors in (once, half)]
    np.testing.assert_allclose(turns[1] @ turns[1], turns[0], atol=1e-5)
    np.testing.assert_allclose(driven(driving_multiplier=0.0), np.tile(PORTRAIT, (3, 1)), atol=1e-6)


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_the_face_can_move_more_than_the_head(mode):
    once, twice = driven(mode=mode), driven(mode=mode, expression_multiplier=2.0)
    np.testing.assert_array_equal(once[:, :9], twice[:, :9])
    np.testing.assert_allclose(twice[:, 9:] - PORTRAIT[9:], 2.0 * (once[:, 9:] - PORTRAIT[9:]), atol=1e-6)


def test_smoothing_finds_the_most_likely_course():
    """The same from the normal equations of the whole course."""
    readings = np.cumsum(np.random.default_rng(0).normal(size=(30, 2)), 0)
    noise = 0.5
    normal = np.eye(30) / noise + np.diag(np.r_[1 + 1e-5, np.full(28, 2.0), 1.0])
    normal -= np.eye(30, k=1) + np.eye(30, k=-1)
    right = readings / noise
    right[0] += 1e-5 * readings[0]
    np.testing.assert_allclose(smoothed(readings, noise), np.linalg.solve(normal, right), atol=1e-9)
    np.testing.assert_array_equal(smoothed(readings, 0.0), readings)
    np.testing.assert_allclose(
        driven(driving_smoothing=0.5, driving_rest="first")[:, 9:] - PORTRAIT[9:],
        smoothed(READ, 0.5)[:, 9:] - smoothed(READ, 0.5)[0, 9:], atol=1e-6,
    )  # fmt: skip


def test_readings_tell_how_noisy_they_are():
    """A still head is still, a moving one loses its jitter; faces, and what is smooth, are left as they are."""
    rng, seconds = np.random.default_rng(0), np.arange(100) / 25
    motion = np.zeros((100, 9 + 20))
    motion[:, 0] = motion[:, 4] = 1.0
    motion[:, 7], motion[:, 9] = 0.3 * np.sin(np.pi * seconds), np.sin(2 * np.pi * 4 * seconds)  # 0.5 Hz, 4 Hz
    assert np.abs(steadied(motion)[:, :9] - motion[:, :9]).max() < 1e-3
    noisy = motion + 0.03 * rng.normal(size=motion.shape)
    found = steadied(noisy)
    error = [np.sqrt(np.square(values - motion).mean(0)) for values in (noisy, found)]
    assert error[1][7] < 0.7 * error[0][7]
    np.testing.assert_array_equal(found[:, 9:], noisy[:, 9:])
    still = np.tile(motion[:1], (50, 1)) + 0.1 * rng.normal(size=(50, 29))
    assert steadied(still)[:, :9].std(0).mean() < 0.35 * still[:, :9].std(0).mean()
    np.testing.assert_array_equal(steadied(noisy, 0.0), noisy)
    np.testing.assert_array_equal(steadied(noisy[:5]), noisy[:5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"region": "lip"}, "config.region: lip cannot be told apart by this codec"),
        ({"region": "eyes"}, "config.region: eyes cannot"),
        ({"eye_openness": 0.3}, "config.eye_openness: only keypoint codecs"),
        ({"lip_openness": 0.0}, "config.lip_openness: only keypoint codecs"),
        ({"close_lips": True}, "config.close_lips: only keypoint codecs"),
        ({"retarget_eyes": True}, "config.retarget_eyes: only keypoint codecs"),
        ({"retarget_lips": True}, "config.retarget_lips: only keypoint codecs"),
        ({"steady_eyes": True, "dub": True}, "config.steady_eyes: only keypoint codecs"),
    ],
)
def test_what_the_codec_cannot_do_is_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        driven(**settings)


# with files


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def faces(count, *where, side=160):
    """Frames of drawn faces that nod."""
    return [picture(side, side, *[(x, y + 2 * np.sin(i / 3), r) for x, y, r in where]) for i in range(count)]


@pytest.fixture(scope="module")
def driving_video(tmp_path_factory):
    sound = Audio.from_samples(0.1 * np.random.default_rng(0).normal(size=16_000).astype(np.float32))
    return write_video(tmp_path_factory.mktemp("driving") / "a.mp4", faces(12, (80, 76, 30)), sound, fps=12)


def run(checkpoint, output, *arguments):
    return main([
        "main", "--config=configs/reenact.py", f"--config.checkpoint={checkpoint}", f"--config.image={DEMO['image']}",
        f"--config.output={output}", "--config.decode_batch=4", *arguments,
    ])  # fmt: skip


def decoded(path):
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        return np.stack(frames), float(file.streams.video[0].average_rate), len(file.streams.audio)


def test_command_keeps_sound_rate_and_motion(tmp_path, checkpoint, driving_video, capsys):
    saved = tmp_path / "motion.npz"
    arguments = [f"--config.video={driving_video}", f"--config.motion_output={saved}", "--config.mark=False"]
    assert run(checkpoint, tmp_path / "a.mp4", *arguments) == 0
    assert "25 frames, 1.00 s, 64 x 64, 25 fps" in capsys.readouterr().out
    frames, rate, sounds = decoded(tmp_path / "a.mp4")
    assert (len(frames), rate, sounds) == (25, 25.0, 1)
    motion = read_motion(saved)
    assert len(motion) == 25 and motion.codec == "volume" and motion.model
    again = [f"--config.video={saved}", "--config.mark=False"]
    assert run(checkpoint, tmp_path / "b.mp4", *again) == 0
    repeated, _, sounds = decoded(tmp_path / "b.mp4")
    np.testing.assert_array_equal(repeated, frames)
    assert sounds == 0
    own_rate = [f"--config.video={driving_video}", "--config.fps=0", "--config.paste=True"]
    assert run(checkpoint, tmp_path / "c.mp4", *own_rate) == 0
    frames, rate, _ = decoded(tmp_path / "c.mp4")
    with Image.open(DEMO["image"]) as image:
        assert (len(frames), rate) == (12, 12.0) and frames.shape[1:3] == image.size[::-1]


def test_from_python(checkpoint, driving_video):
    generator = VideoGenerator.from_pretrained(checkpoint, decode_batch=4, mark=False)
    motion = generator.motion_of(driving_video)
    assert len(motion) == 25 and motion.fps == 25.0
    avatar = generator.prepare(generator.read_portrait(DEMO["image"]).pixels)
    frames = np.concatenate(list(generator.render(avatar, motion)))
    assert generator.reenact(DEMO["image"], driving_video, paste=True).edited == "photograph"
    video = generator.reenact(DEMO["image"], driving_video)
    assert not video.edited
    np.testing.assert_array_equal(np.stack(list(video.frames())), frames)
    np.testing.assert_allclose(video.motion[0, 6:9], avatar.motion[6:9], atol=1e-5)
    assert np.abs(video.motion[:, 9:] - avatar.motion[9:]).max(1).min() < 1e-5  # in the frame at rest
    np.testing.assert_allclose(rotations(video.motion[0]), rotations(avatar.motion), atol=1e-5)
    assert head_angles(generator.drive(avatar, motion, mode="absolute")[:, :9]).shape == (25, 3)


def test_a_source_video_stays_as_it_is_but_for_the_face(tmp_path, checkpoint, driving_video):
    source = write_video(tmp_path / "source.mp4", faces(10, (86, 80, 32), side=180))
    animator = PortraitAnimator.from_checkpoint(checkpoint, decode_batch=4, mark=False)
    with contextlib.closing(read_video(source).frames) as frames:
        stored = np.stack(list(frames)).astype(int)
    still, _ = reenact(animator, source, driving_video, Driving(dub=True, driving_multiplier=0.0))
    assert still.size == (180, 180) and still.fps == 25.0 and len(still.motion) == 10 and still.edited == "video"
    apart = np.abs(np.stack(list(still.frames())) - stored)
    # A frame's place in its batch changes roundings, and those the optical flow: one number in four thousand.
    assert np.mean(apart > 2) < 1e-3 and apart.max() <= 8
    moved, _ = reenact(animator, source, driving_video, Driving(dub=True, region="expression", driving_multiplier=3.0))
    np.testing.assert_allclose(moved.motion[:, :9], still.motion[:, :9], atol=1e-5)
    assert (np.stack(list(itertools.islice(moved.frames(), 3))) != stored[:3]).any()
    with pytest.raises(InputError, match="is one picture"):
        reenact(animator, DEMO["image"], driving_video, Driving(dub=True))


def test_one_picture_drives_too(tmp_path, checkpoint):
    Image.fromarray(faces(1, (80, 76, 30))[0]).save(tmp_path / "face.png")
    arguments = [f"--config.video={tmp_path / 'face.png'}", "--config.mode=absolute"]
    assert run(checkpoint, tmp_path / "a.mp4", *arguments) == 0
    assert len(decoded(tmp_path / "a.mp4")[0]) == 1


@pytest.fixture(scope="module")
def bad_videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    wall = [np.full((160, 160, 3), 120, np.uint8)] * 4
    write_video(folder / "empty.mp4", [*wall, *faces(4, (80, 76, 30))])
    write_video(folder / "two.mp4", faces(4, (90, 90, 34), (230, 90, 32), side=320))
    negative = [255 - frame for frame in faces(20, (60, 70, 30))]
    write_video(folder / "cut.mp4", [*faces(20, (80, 76, 30)), *negative])
    (folder / "notes.mp4").write_text("no video")
    return folder


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ("empty.mp4", "no face was found in its first frame"),
        ("two.mp4", "2 faces are in its first frame; choose one with --config.driving_crop="),
        ("cut.mp4", "the scene is cut (0.8 s)"),
        ("notes.mp4", "is not readable as sound or video"),
        ("none.mp4", "does not exist"),
    ],
)
def test_bad_driving_is_one_line_and_code_2(tmp_path, checkpoint, bad_videos, capsys, video, message):
    assert run(checkpoint, tmp_path / "a.mp4", f"--config.video={bad_videos / video}") == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and message in error and video in error
    assert not (tmp_path / "a.mp4").exists()

"""A keypoint codec at work with the same commands: framing, driving and the whole picture."""

import contextlib

import numpy as np
import pytest
from drawn_faces import picture
from drawn_portrait import drawn_points
from PIL import Image
from tiny_keypoint import FIELDS, random_variables

from vasa_jax.data.face_crop import crop_within, find_face
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.photo_motion import from_file
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import DrivingMotion, save_motion
from vasa_jax.generation.driving_video import open_driving
from vasa_jax.generation.framing import BOX_RISE, BOX_SCALE, Landmarks, PortraitFraming, VideoFraming
from vasa_jax.generation.landmark_crop import TurnedSquare, square_of
from vasa_jax.generation.reenactment import drive, motion_of, reenact
from vasa_jax.main import main
from vasa_jax.models.keypoint_face import exported
from vasa_jax.preparation.face_backends.base import FaceLandmarks
from vasa_jax.weights.safetensors_io import save_params


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keypoints")
    save_params(folder / "face.safetensors", exported(random_variables()), {"fields": FIELDS}, np.float32)
    Image.fromarray(picture(240, 200, (120, 90, 34))).save(folder / "me.png")
    pose = np.tile(np.float32([1, 0, 0, 0, 1, 0, 0.1, 0, 0]), (3, 1))
    dynamics = np.linspace(0, 0.1, 45, dtype=np.float32).reshape(3, 15)
    save_motion(folder / "motion.npz", DrivingMotion(pose, dynamics, 25.0, "keypoint"))
    return folder


@pytest.fixture(scope="module")
def animator(folder):
    return PortraitAnimator.from_checkpoint(folder, decode_batch=2, mark=False)


def test_an_unmoved_portrait_is_the_photograph_here_too(folder, animator):
    still = Driving(driving_multiplier=0.0, stitching=False)
    video, _ = reenact(animator, folder / "me.png", folder / "motion.npz", still, paste=True)
    np.testing.assert_allclose(video.motion, np.tile(video.avatar.motion, (3, 1)), atol=1e-5)
    with Image.open(folder / "me.png") as image:
        photograph = np.asarray(image).astype(int)
    frames = np.stack(list(video.frames())).astype(int)
    assert frames.shape == (3, 200, 240, 3) and np.abs(frames - photograph).max() <= 2
    moving, _ = reenact(animator, folder / "me.png", folder / "motion.npz", Driving(driving_multiplier=5.0), paste=True)
    assert isinstance(moving.crop, TurnedSquare)
    assert (np.stack(list(moving.frames())) != photograph).any()


def test_the_report_on_photographs_draws_saved_motion(folder, animator):
    saved, avatar = motion_of(animator, folder / "motion.npz"), animator.prepare(np.zeros((64, 64, 3), np.uint8))
    motion = from_file(folder / "motion.npz", animator).of(animator, avatar)
    np.testing.assert_allclose(motion[:, :9], np.tile(avatar.motion[:9], (3, 1)), atol=1e-6)
    np.testing.assert_array_equal(motion[:, 9:], saved.dynamics)
    frames = np.concatenate(list(animator.render(avatar, motion)))
    assert frames.shape == (3, 64, 64, 3) and np.ptp(frames.astype(int), 0).max() > 0


def test_stitching_is_the_codecs_network(folder, animator):
    avatar = animator.prepare(np.zeros((64, 64, 3), np.uint8))
    motion = motion_of(animator, folder / "motion.npz")
    stitched, plain = (Driving(stitching=on, expression_friendly=False) for on in (True, False))
    with_network, without = (drive(animator, avatar, motion, how) for how in (stitched, plain))
    assert np.abs(with_network - without).max() > 1e-4
    with pytest.raises(InputError, match=r"config\.lip_openness: needs to know how open"):
        drive(animator, avatar, motion, Driving(lip_openness=0.1))
    with pytest.raises(InputError, match=r"config\.steady_eyes: needs to know how open"):
        drive(animator, avatar, motion, Driving(dub=True, steady_eyes=True))
    opened = drive(animator, avatar, motion, Driving(lip_openness=0.1, portrait_openness=(0.3, 0.3, 0.0)))
    assert opened.shape == (3, 24)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"retarget_eyes": True}, "retarget_eyes: needs to know how open the portrait's"),
        ({"retarget_lips": True, "portrait_openness": (0.3, 0.3, 0.1)}, "retarget_lips: how open the driving face's"),
        ({"retarget_lips": True, "lip_openness": 0.1}, "retarget_lips: not together with config.lip_openness"),
        ({"steady_eyes": True}, r"steady_eyes: is of a source video; set config.dub=True"),
    ],
)
def test_what_following_needs_is_told(folder, animator, settings, fault):
    with pytest.raises(InputError, match=rf"^config\.{fault}") as error:
        reenact(animator, folder / "me.png", folder / "motion.npz", Driving(**settings))
    assert "\n" not in str(error.value)


class Analyzer:
    """Stands for the litert analyzer: the face of frame i is open by i tenths; none is found in frame 1."""

    calls = loads = 0

    def __init__(self, folder):
        assert folder == "graphs"
        Analyzer.loads += 1

    def landmarks(self, image, previous=None):
        Analyzer.calls += 1
        points = np.zeros((478, 3), np.float32)
        points[[33, 133, 362, 263, 78, 308], 0] = 0, 10, 20, 30, 10, 20
        points[[145, 374, 14], 1] = Analyzer.calls - 1
        return None if Analyzer.calls == 2 else FaceLandmarks(points, 1.0)


def test_openness_of_a_driving_video(animator, tmp_path, monkeypatch):
    monkeypatch.setattr("vasa_jax.generation.framing.LitertAnalyzer", Analyzer)
    monkeypatch.setattr(Analyzer, "calls", 0)
    path = write_video(tmp_path / "driving.mp4", np.stack([picture(96, 96, (40 + i, 40, 20)) for i in range(3)]))
    how = Driving(retarget_eyes=True, face_models="graphs", driving_crop="0,0,96")
    motion = motion_of(animator, path, how)
    np.testing.assert_allclose(motion.openness, np.repeat([[0.0], [0.0], [0.2]], 3, 1), atol=1e-6)
    save_motion(tmp_path / "kept.npz", motion)
    np.testing.assert_array_equal(motion_of(animator, tmp_path / "kept.npz", how).openness, motion.openness)
    doubled = motion.at_rate(50.0)
    np.testing.assert_allclose(doubled.openness[:, 0], [0, 0, 0, 0.1, 0.2, 0.2], atol=1e-6)
    avatar = animator.prepare(np.zeros((64, 64, 3), np.uint8))
    followed = drive(animator, avatar, motion, Driving(retarget_eyes=True, portrait_openness=(0.3, 0.3, 0.1)))
    assert np.abs(followed[2] - followed[0]).max() > 1e-4 and np.abs(followed[1] - followed[0]).max() == 0


def test_graphs_are_read_once_and_only_where_faces_are_looked_at(folder, animator, tmp_path, monkeypatch):
    monkeypatch.setattr("vasa_jax.generation.framing.LitertAnalyzer", Analyzer)
    monkeypatch.setattr(Analyzer, "loads", 0)
    path = write_video(tmp_path / "take.mp4", np.stack([picture(96, 96, (40 + i, 40, 20)) for i in range(3)]))
    crops = {"face_models": "graphs", "driving_crop": "0,0,96"}
    reenact(animator, folder / "me.png", path, Driving(**crops), crop="0,0,96")
    assert Analyzer.loads == 0
    monkeypatch.setattr(Analyzer, "calls", 2)  # a face in every frame
    reenact(animator, path, path, Driving(**crops, dub=True, retarget_eyes=True), crop="0,0,96")
    assert Analyzer.loads == 1 and Analyzer.calls == 2 + 3 + 3


def test_motion_of_another_codec_is_refused(folder, tmp_path, capsys):
    pose = np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0, 0]), (2, 1))
    save_motion(tmp_path / "volume.npz", DrivingMotion(pose, np.zeros((2, 128), np.float32), 25, "volume"))
    arguments = {"checkpoint": folder, "image": folder / "me.png", "video": tmp_path / "volume.npz",
                 "output": tmp_path / "a.mp4"}  # fmt: skip
    assert main(["main", "--config=configs/reenact.py", *(f"--config.{k}={v}" for k, v in arguments.items())]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a volume codec with 128 numbers a face, not of a keypoint codec with 15; give the video" in error


def test_framing_without_landmarks():
    image = picture(240, 200, (120, 90, 34))
    square, face = PortraitFraming()(image, "a.png"), find_face(image)
    assert square.size == pytest.approx(BOX_SCALE * face.size) and square.angle == 0.0
    middle = face.x + face.size / 2, face.y + face.size / 2
    np.testing.assert_allclose(square.centre, (middle[0], middle[1] - BOX_RISE * face.size))
    wide = PortraitFraming(scale=4.6, shift=0.0)(image, "a.png")
    assert wide.size == pytest.approx(2 * square.size)
    np.testing.assert_allclose(wide.centre, (square.centre[0], square.centre[1] + 0.125 * square.size))
    with pytest.raises(InputError, match=r"a\.png: no face was found"):
        PortraitFraming()(np.zeros((64, 64, 3), np.uint8), "a.png")


def test_a_driving_video_is_framed_as_live_portrait_does(tmp_path, monkeypatch):
    """By the boxes, or by the mean of the landmarks' squares where they are found; another than the volume codec's."""
    frames = np.stack([picture(240, 200, (120, 90, 34))] * 3)
    path = write_video(tmp_path / "driving.mp4", frames, fps=2)  # each frame is looked at
    plain, square = open_driving(path).crop, open_driving(path, framing=VideoFraming()).crop
    portrait, face = PortraitFraming(scale=2.2, shift=-0.1)(frames[0], "a.png").upright, find_face(frames[0])
    np.testing.assert_allclose(square, portrait, atol=2)
    np.testing.assert_allclose(plain, crop_within(face, 200, 240), atol=2)  # what is read was compressed
    assert square.size > plain.size and square.y < plain.y
    Image.fromarray(frames[0]).save(tmp_path / "still.png")
    assert open_driving(tmp_path / "still.png", framing=VideoFraming()).crop == portrait

    class Found:
        """Finds no landmarks in the first frame, then a face of drawn points that grows and moves."""

        def __init__(self, folder):
            self.sizes = [0, 120, 160]

        def landmarks(self, image, previous=None):
            size = self.sizes.pop(0)
            return FaceLandmarks(drawn_points(size) + (20, 30, 0), 1.0) if size else None

    monkeypatch.setattr("vasa_jax.generation.framing.LitertAnalyzer", Found)
    found = open_driving(path, framing=VideoFraming(Landmarks("graphs"))).crop
    each = [square_of(drawn_points(size) + (20, 30, 0), 2.2, -0.1) for size in (120, 160)]
    np.testing.assert_allclose(found.size, np.mean([s.size for s in each]), atol=1)
    middle = np.mean([s.centre for s in each], 0)
    np.testing.assert_allclose((found.x + found.size / 2, found.y + found.size / 2), middle, atol=1)


def test_a_moving_head_stays_in_the_square(tmp_path):
    frames = np.stack([picture(400, 200, (70 + 30 * i, 90, 34)) for i in range(6)])
    path = write_video(tmp_path / "driving.mp4", frames, fps=2)
    square = open_driving(path, framing=VideoFraming()).crop
    assert square.x < 70 - 34 and square.x + square.size > 220 + 34


def test_a_source_video_is_dubbed(folder, animator, tmp_path):
    """Unmoved it is the video that it was."""
    frames = np.stack([picture(160, 160, (80 + i, 70, 40)) for i in range(3)])
    source = write_video(tmp_path / "source.mp4", frames)
    still, _ = reenact(animator, source, folder / "motion.npz", Driving(dub=True, driving_multiplier=0.0))
    with contextlib.closing(read_video(source).frames) as stored:
        stored = np.stack(list(stored)).astype(int)
    apart = np.abs(np.stack(list(still.frames())) - stored)
    assert np.mean(apart > 2) < 1e-3 and still.edited == "video" and len(still.motion) == 3
    moved, _ = reenact(animator, source, folder / "motion.npz", Driving(dub=True, driving_multiplier=5.0))
    found = np.stack(list(moved.frames())).astype(int)
    assert np.abs(found - stored).max() > 10

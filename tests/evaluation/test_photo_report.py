"""The report on photographs: its figures by closed forms, and a whole run with a codec that only shifts pixels."""

import dataclasses
import json
import types

import numpy as np
import pytest
from drawn_portrait import drawn_mesh, drawn_person, drawn_points
from PIL import Image

from vasa_jax.config import PhotosEvaluationConfig, VASAConfig
from vasa_jax.conventions import CORPUS, DYNAMICS_DIM, IDENTITY_POSE, POSE_DIM, rotation_columns, rotation_matrices
from vasa_jax.errors import InputError
from vasa_jax.evaluation import photo_figures as F
from vasa_jax.evaluation import photo_motion, photo_people, photos
from vasa_jax.evaluation.photo_motion import FixedMotion, from_file, performance
from vasa_jax.evaluation.recognition import MISSING, Recogniser
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.generation.driving_motion import DrivingMotion, save_motion
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.main import run
from vasa_jax.preparation.face_backends.base import FaceLandmarks

SIDE = 256


def placed(points):
    return np.concatenate([points[:, :2] / (SIDE / 2) - 1.0, points[:, 2:] / (SIDE / 2)], 1).astype(np.float32)


class Analyzer:
    """Finds the drawn person wherever it stands, by the colour of its left column of pixels: 10 times the shift."""

    name, landmark_set, framing = "drawn", "mediapipe_478", (0.5, 0.48)

    def __init__(self):
        self.points = drawn_points(SIDE)
        self.own_matte = drawn_person(self.points, SIDE)[1] / 255.0

    def detect(self, image):
        raise AssertionError("the report looks at squares")

    def landmarks(self, image, previous=None):
        if image.max() == 0:
            return None
        points = self.points * image.shape[0] / SIDE
        return FaceLandmarks(points.astype(np.float32), 1.0)

    def matte(self, image):
        import cv2

        return cv2.resize(self.own_matte, image.shape[1::-1]).astype(np.float32)


class Codec:
    """Shows the portrait whatever is asked, `dark` frames of it black."""

    image_size, framing, codec, model, dynamics = SIDE, CORPUS, "volume", "drawn", DYNAMICS_DIM

    def __init__(self, dark=0):
        self._dark = dark

    def prepare(self, portrait):
        motion = np.concatenate([IDENTITY_POSE, np.zeros(DYNAMICS_DIM)]).astype(np.float32)
        return dataclasses.make_dataclass("Avatar", ["portrait", "motion"])(portrait, motion)

    def encode_motion(self, frames):
        return np.zeros((len(frames), POSE_DIM + DYNAMICS_DIM), np.float32)

    def render(self, avatar, motion):
        frames = np.repeat(avatar.portrait[None], len(motion), 0)
        frames[: self._dark] = 0
        yield frames


def asked(frames=20):
    pose = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0, 0], np.float32), (frames, 1))
    wave = np.sin(np.arange(frames))
    return FixedMotion(performance(frames), np.zeros((frames, SIDE, SIDE, 3), np.uint8), pose, None, wave, wave)


def person(name="a.png", groups=None):
    analyzer = Analyzer()
    image, matte = drawn_person(analyzer.points, SIDE)
    head = {"pose": np.array([1, 0, 0, 0, 1, 0, 0, 0, 0], np.float32)}
    groups = groups or {"turn": "yaw under 15"}
    return photo_people.Person(name, image, placed(analyzer.points), matte / 255.0, head, groups)


def test_the_built_in_performance_turns_blinks_twice_and_speaks():
    curves = performance(40)
    assert np.degrees(curves["yaw"].std()) >= 3
    shut = curves["blink_l"] == 1.0
    assert (np.diff(shut.astype(int)) == 1).sum() == 2 and curves["blink_l"].min() == 0
    assert curves["jaw"].min() == pytest.approx(0, abs=1e-6) and curves["jaw"].max() > 0.7


def test_tracks_are_compared_by_spread_and_r():
    t = np.arange(9.0)
    assert F.followed(0.5 * t + 3, t) == pytest.approx({"size": 0.5, "r": 1.0})
    still = F.followed(np.ones(9), t)
    assert still["size"] == 0 and np.isnan(still["r"])
    assert F.deepest_blink(np.array([0.4, 0.4, 0.4, 0.1])) == pytest.approx(0.25)


def test_sharpness_falls_with_a_blur_and_detail_with_noise():
    import cv2

    image, points = person().portrait, person().points
    soft = cv2.GaussianBlur(image, (0, 0), 2)
    assert F.sharpness(soft, points) < 0.5 * F.sharpness(image, points)
    mask = F.part_masks(points, SIDE)["face"]
    assert F.fine_r(image, image, mask) == pytest.approx(1.0)
    assert F.fine_r(255 - image, image, mask) == pytest.approx(-1.0, abs=1e-6)
    masks = F.part_masks(points, SIDE)
    assert masks["eyes"].sum() < masks["face"].sum() and masks["face"][masks["mouth"]].mean() > 0.95


def test_even_motion_does_not_flicker():
    ramp = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((1, 4, 4, 3), 10, np.uint8)
    assert F.flicker(ramp) == 0 and F.flicker(np.stack([ramp[0], ramp[2], ramp[0]])) == 40


def test_background_counts_outside_both_mattes_only():
    portrait, matte = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.float32)
    matte[8:24, 8:24] = 1
    frame = portrait.copy()
    frame[8:24, 8:24] = 200
    assert F.background_change(frame[None], portrait, matte[None], matte) == 0
    assert F.background_change(frame[None] + 7, portrait, matte[None], matte) == 7
    assert np.isnan(F.background_change(frame[None], portrait, np.ones((1, 32, 32)), matte))


def test_reconstruction_of_the_truth_is_perfect_and_of_another_is_not():
    image, points = person().portrait, person().points
    same = F.reconstruction(image, image, points)
    assert same["psnr_face"] == 100 and same["ssim"] == pytest.approx(1) and same["fine_r"] == pytest.approx(1)
    off = image.copy()
    off[F.part_masks(points, SIDE)["mouth"]] //= 2
    worse = F.reconstruction(off, image, points)
    assert worse["psnr_mouth"] < worse["psnr_face"] < 100 == worse["psnr_eyes"]


def test_columns_of_numbers_are_binned_and_names_with_too_many_values_left_out():
    skin = ("dark", "light")
    found = [person(str(i), {"age": str(20 + i), "skin": skin[i % 2], "id": f"p{i}"}) for i in range(9)]
    groups = [p.groups for p in photo_people._binned(found)]
    assert len({g["age"] for g in groups}) == 3 and [g["age"] for g in groups[:3]] == ["under 22.7"] * 3
    assert "id" not in groups[0] and groups[0]["skin"] == "dark"


class Who(Recogniser):
    """Describes a picture by its mean brightness; black ones have no face."""

    def __init__(self):  # without dlib
        pass

    def __call__(self, picture):
        return np.full(128, picture.mean() / np.sqrt(128)) if picture.max() else None


def test_who_is_seen_and_who_of_those_that_trained_is_near(tmp_path):
    stage = photos.PhotoStage(PhotosEvaluationConfig(), {}, Analyzer(), Who())
    own = person().portrait
    frames = np.stack([own, own, np.zeros_like(own)])  # the last one has no face and does not count
    assert stage._recognised(person(), frames) == {"identity": 0.0}
    stage.known = np.stack([Who()(np.full((2, 2, 3), level, np.uint8)) for level in (10, 250)])
    found = stage._recognised(person(), frames)
    assert found["nearest_training"] == pytest.approx(min(abs(own.mean() - 10), abs(own.mean() - 250)), rel=1e-6)
    assert stage._recognised(person(), frames[2:]) == {}
    with pytest.raises(InputError, match=r"photos_evaluation.training: .* no photograph"):
        photo_people.known_faces(Who(), str(tmp_path), SIDE)


@pytest.mark.slow
def test_a_run_writes_the_report(tmp_path):
    stage = photos.PhotoStage(PhotosEvaluationConfig(), {"model": Codec(), "against": Codec(5)}, Analyzer(), None)
    stage.draw = lambda head, curves, poses: np.repeat(person().portrait[None], len(poses), 0)
    people = [{CORPUS: person("a.png")}, {CORPUS: person("b.png", {"turn": "yaw 15 to 30"})}]
    spoken = dict.fromkeys(("model", "against"), lambda avatar: np.zeros((10, POSE_DIM + DYNAMICS_DIM), np.float32))
    report = stage.run(people, {"c.png": "no face"}, asked(), spoken, tmp_path)
    fixed = report["fixed"]
    assert fixed["model"]["faces"]["mean"] == 1 and fixed["against"]["faces"]["mean"] == 0.75
    assert fixed["model"]["sharpness"]["mean"] == pytest.approx(1) and fixed["model"]["truth_psnr"]["mean"] == 100
    assert fixed["model"]["background"]["mean"] == 0 and fixed["model"]["flicker_over_truth"]["mean"] == 0
    assert report["groups"]["turn"]["yaw 15 to 30"]["photographs"] == 1
    text = (tmp_path / "report.md").read_text()
    assert "frames with a face | 1.000 +- 0.000 | 0.750 +- 0.000" in text
    assert "* c.png: no face" in text and "dlib is not installed" in text
    assert json.loads((tmp_path / "report.json").read_text())["photographs"] == 2
    assert Image.open(tmp_path / "sheet.png").size[1] == 2 * 128


def test_motion_is_asked_about_the_portraits_turn_and_place():
    codec, motion = Codec(), asked()
    avatar = codec.prepare(person().portrait)
    plain = motion.of(codec, avatar)
    avatar.motion[:6], avatar.motion[6:9] = rotation_columns(np.array([[30.0, 5.0, 0.0]]))[0], (0.1, 0.2, 0.3)
    turned = motion.of(codec, avatar)
    np.testing.assert_allclose(turned[:, 6:9].mean(0), [0.1, 0.2, 0.3], atol=1e-6)
    own = rotation_matrices(avatar.motion[:6])
    np.testing.assert_allclose(rotation_matrices(turned), own @ rotation_matrices(plain), atol=1e-6)


def test_a_codec_that_a_files_motion_is_not_of_is_left_out(tmp_path):
    own, other = Codec(), Codec()
    other.codec, other.dynamics = "keypoint", 63
    poses = np.tile(np.float32(IDENTITY_POSE), (4, 1))
    save_motion(tmp_path / "m.npz", DrivingMotion(poses, np.zeros((4, DYNAMICS_DIM), np.float32), 25.0, "volume"))
    motion = from_file(tmp_path / "m.npz", own)
    stage = photos.PhotoStage(PhotosEvaluationConfig(), {"model": own, "against": other}, Analyzer(), None)
    shown, figures = stage._fixed({CORPUS: person()}, motion, True)
    assert figures.keys() == {"model"} and [len(frames) for frames in shown] == [4, 4]
    *_, note = stage._notes(motion, {"model": None})
    assert note == (
        "The codec beside it is left out of the fixed motion: the file holds motion of a volume codec with 128 numbers "
        "a face, not of a keypoint codec with 63"
    )
    assert stage._notes(asked(), {"model": None}) == [MISSING]


def test_codecs_of_two_sizes_are_not_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "open_analyzer", lambda *a: Analyzer())
    monkeypatch.setattr(photos, "face_mesh", lambda folder: drawn_mesh())
    sizes = {"small": 64, "": 256}

    def opened(folder, *given, **more):
        return types.SimpleNamespace(image_size=sizes[folder])

    monkeypatch.setattr(PortraitAnimator, "from_checkpoint", opened)
    with pytest.raises(InputError, match=r"against: that codec has 256 pixels per side, config\.checkpoint's 64"):
        run(VASAConfig(job="evaluate_photos", checkpoint="small"), tmp_path)


def test_what_makes_the_speech_of_each_codec(tmp_path, monkeypatch):
    """A folder's own parts, the shipped ones for a volume codec alone, nothing for a keypoint codec alone."""
    for folder in ("whole", "open", "alone"):
        (tmp_path / folder).mkdir()
    (tmp_path / "whole" / "motion.safetensors").touch()
    (tmp_path / "open" / "joyvasa_motion.safetensors").touch()
    opened = []

    def generator(folder, *given, **more):
        opened.append(folder)
        said = np.tile(np.float32([*IDENTITY_POSE, 1.0]), (3, 1))
        whole = types.SimpleNamespace(makes_hops=not folder.endswith("open"))
        whole.motion = lambda samples, avatar, *rest: said if avatar is None else said + 1.0
        return whole

    monkeypatch.setattr(VideoGenerator, "from_pretrained", generator)
    volume = types.SimpleNamespace(codec="volume", dynamics=128)
    keypoint = types.SimpleNamespace(codec="keypoint", dynamics=63)
    avatar = types.SimpleNamespace(motion=np.float32([*IDENTITY_POSE, 0.0]))

    def speech(model, of_model, against="", of_against=volume):
        opened.clear()
        folders = {"model": str(tmp_path / model) if model else "", "against": against}
        return photos.speech_of(VASAConfig(), folders, {"model": of_model, "against": of_against})

    assert speech("", volume).keys() == {"model", "against"} and opened == [""]
    assert speech("whole", volume)["against"](avatar)[0, -1] == 1.0 and opened == [str(tmp_path / "whole")]
    assert speech("alone", volume).keys() == {"model", "against"} and opened == [""]
    assert speech("alone", keypoint).keys() == {"against"} and opened == [""]
    found = speech("open", keypoint)
    assert found["model"](avatar)[0, -1] == 2.0 and opened == [str(tmp_path / "open"), ""]


def test_faults_are_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "open_analyzer", lambda *a: Analyzer())
    monkeypatch.setattr(photos, "face_mesh", lambda folder: drawn_mesh())
    settings = PhotosEvaluationConfig(stills=str(tmp_path / "none"))
    config = VASAConfig(job="evaluate_photos", photos_evaluation=settings)
    with pytest.raises(InputError, match="no folder"):
        run(config, tmp_path)
    (tmp_path / "t.csv").write_text("name,age\nx,3\n")
    with pytest.raises(InputError, match="lacks columns"):
        photo_people._table(str(tmp_path / "t.csv"))
    assert photo_motion.BLINKS[0] < photo_motion.BLINKS[1]

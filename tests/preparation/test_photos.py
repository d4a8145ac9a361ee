"""Job fit_photos, with an analyzer that knows the drawn person."""

import cv2
import numpy as np
import pytest
from drawn_portrait import drawn_mesh, drawn_person, drawn_points

from vasa_jax.config import PhotosConfig, VASAConfig
from vasa_jax.corpus.photos.store import read_heads
from vasa_jax.errors import InputError
from vasa_jax.main import run
from vasa_jax.preparation import photos
from vasa_jax.preparation.face_backends.base import DetectedFace, FaceLandmarks

SIDE = 300


class DrawnAnalyzer:
    """Reads any picture as the drawn person; a uniform one has no face, a picture with two halves two."""

    name = "drawn"

    def __init__(self):
        self.points, self.people = drawn_points(SIDE), 1

    def detect(self, image):
        if image.std() < 1:
            return []
        low, high = self.points[:468, :2].min(0), self.points[:468, :2].max(0)
        return [DetectedFace(*low, *(high - low), 0.9)] * self.people

    def landmarks(self, image, previous=None):
        return FaceLandmarks(self.points.copy(), 0.99)

    def matte(self, image):
        return drawn_person(drawn_points(SIDE), SIDE)[1] / 255.0


@pytest.fixture
def analyzer(monkeypatch):
    analyzer = DrawnAnalyzer()
    monkeypatch.setattr(photos, "open_analyzer", lambda name, models: analyzer)
    monkeypatch.setattr(photos, "face_mesh", lambda folder: drawn_mesh())
    return analyzer


def portrait(analyzer):
    noise = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))  # a drawing is smooth, and so would count as blurred
    image = np.clip(drawn_person(analyzer.points, SIDE)[0] + noise, 0, 255).astype(np.uint8)
    return photos.portrait_of(image, analyzer)


def test_a_folder_becomes_heads_and_a_list_of_refusals(tmp_path, analyzer):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    picture = portrait(analyzer).image
    cv2.imwrite(str(folder / "sub" / "a.png"), picture[..., ::-1])
    cv2.imwrite(str(folder / "blank.png"), np.full((SIDE, SIDE, 3), 90, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    settings = PhotosConfig(folder=str(folder), relatives=1)
    config = VASAConfig(job="fit_photos", photos=settings, output=str(tmp_path / "out"))
    report = run(config, tmp_path / "work").read_text()
    heads = read_heads(tmp_path / "out")
    assert heads["photograph"].tolist() == ["sub/a.png"] * 2
    assert np.abs(heads["rest"][0] - heads["rest"][1]).max() > 0.005  # the relative is somebody else
    assert "3 photographs, 1 taken, 2 heads" in report
    assert "* blank.png: no face" in report and "* broken.jpg: " in report
    with pytest.raises(InputError, match="holds photo heads already"):
        run(config, tmp_path / "work")


@pytest.mark.parametrize(
    "change,reason",
    [
        (lambda a, p: None, None),
        (lambda a, p: p.image.__setitem__(slice(None), cv2.GaussianBlur(p.image, (0, 0), 12)), "blurred"),
        (lambda a, p: p.points.__setitem__((slice(None), 0), p.points[:, 0] + 60), "face not told"),
        (lambda a, p: p.matte.fill(255), "no background"),
        (lambda a, p: p.points.__setitem__((14, 1), p.points[14, 1] + 60), "mouth open"),
        (lambda a, p: p.points.__setitem__(([159, 158, 160], 1), p.points[[145, 153, 144], 1]), "eyes closed"),
        (lambda a, p: p.image.__setitem__((slice(90, 140), slice(60, 150)), 255), "glare"),
    ],
)
def test_portraits_are_refused_with_their_reason(analyzer, change, reason):
    seen = portrait(analyzer)
    change(analyzer, seen)
    refusal = photos.refusal(seen, PhotosConfig())
    assert refusal is None if reason is None else refusal.reason.startswith(reason)


def test_a_turned_head_is_refused(analyzer):
    seen = portrait(analyzer)
    turn = np.radians(30.0)
    x, z = seen.points[:, 0] - SIDE / 2, seen.points[:, 2]
    seen.points[:, 0] = SIDE / 2 + x * np.cos(turn) - z * np.sin(turn)
    seen.points[:, 2] = x * np.sin(turn) + z * np.cos(turn)
    assert photos.refusal(seen, PhotosConfig()).reason.startswith("turned: yaw 30")


def test_several_and_small_faces_are_refused(analyzer):
    image = drawn_person(analyzer.points, SIDE)[0]
    analyzer.people = 2
    assert photos.portrait_of(image, analyzer) == photos.Refusal("several faces")
    analyzer.people, analyzer.points = 1, analyzer.points * 0.3
    assert photos.portrait_of(image, analyzer).reason.startswith("face under")


@pytest.mark.parametrize("folder,message", [("", "is empty"), ("nowhere", "no such folder"), (".", "no photographs")])
def test_folders_that_cannot_work_are_named(tmp_path, analyzer, folder, message):
    settings = PhotosConfig(folder=folder and str(tmp_path / folder))
    with pytest.raises(InputError, match=message):
        run(VASAConfig(job="fit_photos", photos=settings), tmp_path / "work")

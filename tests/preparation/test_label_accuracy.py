"""Errors of labels: none for points that are exact, and those that were put in; with graph files the real ones.

FACE_MODELS=face_models pytest -m slow tests/test_label_accuracy.py -s
FACE_TASK=face_landmarker.task FACE_MODELS=face_models unshare -rn pytest -m slow tests/test_label_accuracy.py -s
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from landmark_faces import face_points, rotation

from vasa_jax.config import LabelAccuracyConfig, PrepareConfig, VASAConfig
from vasa_jax.conventions import LANDMARKS
from vasa_jax.errors import InputError
from vasa_jax.preparation import label_accuracy as accuracy
from vasa_jax.preparation import landmark_labels
from vasa_jax.preparation.face_backends.factory import open_analyzer

FOLDER, TASK = (os.environ.get(name, "") for name in ("FACE_MODELS", "FACE_TASK"))
COUNT = 12


@pytest.fixture(scope="module")
def exact():
    """Points of the mesh, and the truth that they are exact for."""
    rng = np.random.default_rng(0)
    angles, scales = rng.uniform(-20, 20, (COUNT, 3)), rng.uniform(0.7, 1.2, COUNT)
    shifts, gazes = rng.uniform(-0.2, 0.2, (COUNT, 2)), rng.uniform(-15, 15, (COUNT, 2))
    lids = rng.uniform(0.02, 0.3, COUNT)
    points = np.stack([
        face_points(rotation(*a), s, t, gaze=g, lids=n, mouth=m)
        for a, s, t, g, n, m in zip(angles, scales, shifts, gazes, lids, rng.uniform(0, 0.3, COUNT))
    ])
    pose = landmark_labels.fit_pose(points)
    landmarks = rng.uniform(-1, 1, (COUNT, len(LANDMARKS), 3))
    for same in accuracy.SAME_POINTS.values():
        for name, number in same.items():
            landmarks[:, LANDMARKS.index(name)] = points[:, number]
    truth = {"pose": pose, "gaze": gazes, "mouth": landmark_labels.mouth_opening(points), "landmarks": landmarks}
    return points, {**truth, "lids": np.stack([lids / 0.2] * 2, -1)}


def by_label(points, truth) -> dict[str, accuracy.LabelError]:
    return {row.label: row for row in accuracy.label_errors(points, truth)}


def test_exact_points_have_no_error(exact):
    rows = by_label(*exact)
    for name, row in rows.items():
        if name != "lids":
            assert row.error == pytest.approx(0, abs=0.02 if row.unit.startswith("degrees") else 1e-4), name
    assert all(rows[name].correlation > 0.999 for name in ("yaw", "pitch", "gaze yaw", "mouth", "lids"))


def test_errors_that_are_put_in_come_out(exact):
    points, truth = exact
    nearer = truth["pose"] + np.eye(9)[6] * np.log(1.1)  # the true heads are ten percent larger
    turned = truth["gaze"] - [3, 0] + np.array([[0, 2], [0, -2]] * (COUNT // 2))
    rows = by_label(points, {**truth, "pose": nearer, "gaze": turned, "mouth": truth["mouth"] - 0.05})
    assert rows["distance"].bias == pytest.approx(0.1, abs=1e-3)
    assert rows["distance"].spread == pytest.approx(0, abs=1e-4)
    assert (rows["gaze yaw"].bias, rows["gaze yaw"].spread) == pytest.approx((3, 0), abs=0.02)
    assert rows["gaze pitch"].error == pytest.approx(2, abs=0.02)
    assert rows["mouth"].bias == pytest.approx(0.05, abs=1e-4)
    landmarks, eyes = truth["landmarks"].copy(), []
    for side in ("left", "right"):
        eyes.append(landmarks[:, [LANDMARKS.index(f"eye_{side}_{i}") for i in (0, 4)]].mean(1))
    width = np.linalg.norm((eyes[0] - eyes[1])[:, :2], axis=-1)
    landmarks[:, LANDMARKS.index("jaw_8"), 1] -= 0.25 * width
    rows = by_label(points, {**truth, "landmarks": landmarks})
    assert (rows["chin"].error, rows["chin"].spread) == pytest.approx((0.25, 0), abs=1e-5)
    assert rows["nose tip"].error == pytest.approx(0, abs=1e-6)


def test_a_label_that_no_head_has_is_left_empty(exact):
    points, truth = exact
    rows = accuracy.label_errors(points, {**truth, "lids": np.zeros_like(truth["lids"])})
    gaze = [row for row in rows if row.label.startswith("gaze")]
    assert len(gaze) == 2 and all(np.isnan([row.bias, row.error, row.spread, row.correlation]).all() for row in gaze)
    assert "| gaze yaw | degrees, open eyes |" in accuracy.markdown(rows, "Labels")


def test_an_analyzer_without_landmarks_is_refused(tmp_path):
    with pytest.raises(InputError, match="choose litert"):
        accuracy.label_accuracy(LabelAccuracyConfig(), PrepareConfig(analyzer="haar"), 0, tmp_path)
    with pytest.raises(InputError, match="label_accuracy"):
        VASAConfig(label_accuracy=LabelAccuracyConfig(size=100)).validate()


@pytest.mark.slow
@pytest.mark.parametrize(("analyzer", "models"), [("litert", FOLDER), ("mediapipe", TASK)])
def test_labels_of_drawn_heads(tmp_path, analyzer, models):
    if not models:
        pytest.skip(f"no files for {analyzer}: FACE_MODELS, FACE_TASK")
    settings = LabelAccuracyConfig(heads=16, size=128)
    prepare = dataclasses.replace(PrepareConfig(), analyzer=analyzer, models=models)
    rows = {row.label: row for row in accuracy.label_accuracy(settings, prepare, 0, tmp_path)}
    assert ("matte" in rows) == (analyzer == "litert")
    content = json.loads((tmp_path / "label_accuracy.json").read_text())
    assert content["found"] > 12 and len(content["rows"]) == len(rows)
    # Drawn heads read as looking down by some degrees (preparation/landmark_labels.py says why): figures beside a bias.
    limits = {"yaw": 5, "pitch": 6, "roll": 3, "distance": 0.06, "shift x": 0.04, "gaze yaw": 9, "gaze pitch": 9}
    limits |= {"irises": 0.12, "eye corners": 0.15, "matte": 0.05}
    for name, limit in limits.items():
        if name in rows:  # mediapipe has no matte
            assert rows[name].spread < limit, name
    for name, limit in {"yaw": 0.95, "pitch": 0.8, "gaze yaw": 0.6, "lids": 0.7, "matte": 0.85}.items():
        if name in rows:
            assert rows[name].correlation > limit, name


@pytest.mark.slow
def test_both_back_ends_name_the_same_points(tmp_path):
    if not (FOLDER and TASK):
        pytest.skip("FACE_MODELS and FACE_TASK are not both set")
    from vasa_jax.data.image_files import read_image

    portrait = read_image(Path(accuracy.__file__).parents[1] / "pretrained" / "demo" / "portrait.png")
    first, second = (open_analyzer(*tool).landmarks(portrait) for tool in (("litert", FOLDER), ("mediapipe", TASK)))
    offset = np.linalg.norm((first.points - second.points)[:, :2], axis=-1)
    eyes = np.linalg.norm((first.points[468] - first.points[473])[:2])
    assert offset.mean() < 0.06 * eyes and offset[468:].max() < 0.1 * eyes

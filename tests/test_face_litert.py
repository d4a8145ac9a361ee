"""The litert labels against the exact truth of the built-in corpus; needs FACE_MODELS=folder of the graph files.

FACE_MODELS=face_models pytest -m slow tests/test_face_litert.py -s
"""

import os

import jax
import numpy as np
import pytest

from vasa_jax.data import labels
from vasa_jax.data.face_analysis import open_analyzer
from vasa_jax.data.synthetic.identity import sample_identity
from vasa_jax.data.synthetic.labels import labels as exact_labels
from vasa_jax.data.synthetic.motion import sample_motion
from vasa_jax.data.synthetic.render import LANDMARKS, render

HEADS, SIZE = 16, 128
TILT = 9.0  # degrees by which drawn heads read as looking down (see data/labels.py)
FOLDER = os.environ.get("FACE_MODELS", "")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FOLDER, reason="FACE_MODELS is not set")]


@pytest.fixture(scope="module")
def measured():
    """Found and exact pose, gaze, lids and irises of random heads."""
    keys = jax.random.split(jax.random.key(99), HEADS)
    people = jax.vmap(sample_identity)(keys)
    motion = jax.vmap(lambda key: sample_motion(jax.random.fold_in(key, 7)))(keys)
    draw = jax.jit(lambda i, m: (render(i, m, SIZE, 2), exact_labels(i, m)))
    parts = [draw(*jax.tree.map(lambda x: x[at : at + 4], (people, motion))) for at in range(0, HEADS, 4)]  # noqa: B023
    pictures, truth = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    analyzer = open_analyzer("litert", FOLDER)
    points = []
    for image in (pictures["rgb"] * 255 + 0.5).astype(np.uint8):
        found = analyzer.landmarks(image)
        assert found is not None
        points.append(found.points * (2 / SIZE) - np.array([1, 1, 0], np.float32))
        assert np.corrcoef(analyzer.matte(image).ravel(), pictures["matte"][len(points) - 1].ravel())[0, 1] > 0.85
    return np.stack(points), truth, pictures["landmarks"]


def test_pose_and_distance(measured):
    points, truth, _ = measured
    pose = labels.fit_pose(points)
    error = labels.head_angles(pose) - labels.head_angles(truth["pose"]) - np.array([0, TILT, 0])
    print("degrees off in yaw, pitch, roll", np.abs(error).mean(0))
    assert (np.abs(error).mean(0) < (5, 6, 3)).all()
    scale = np.abs(pose[:, 6] - truth["pose"][:, 6])
    print("scale off by", scale.mean(), "translation", np.abs(pose[:, 7:] - truth["pose"][:, 7:]).mean(0))
    assert scale.mean() < 0.06
    assert np.abs(pose[:, 7:] - truth["pose"][:, 7:]).mean() < 0.04


def test_gaze_lids_and_irises(measured):
    points, truth, exact = measured
    pose = labels.fit_pose(points)
    open_eyes = truth["lids"].min(1) > 0.5
    error = (labels.gaze_angles(points, pose) - truth["gaze"])[open_eyes]
    error -= error.mean(0)
    print("gaze degrees off beside a constant", np.abs(error).mean(0), "frames", open_eyes.sum())
    assert (np.abs(error).mean(0) < 9).all()
    openings = labels.lid_openings(points, pose)
    assert np.corrcoef(openings.ravel(), truth["lids"].ravel())[0, 1] > 0.7
    for name, index in (("iris_left", 468), ("iris_right", 473)):
        distance = np.linalg.norm(points[:, index, :2] - exact[:, LANDMARKS.index(name), :2], axis=-1)[open_eyes]
        print(name, "off by", distance.mean(), "of half the picture")
        assert distance.mean() < 0.04

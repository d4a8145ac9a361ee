"""Labels from a user's ONNX files: emotion, gaze and distance, from models whose answer is known."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_videos import SETTINGS, DrawnAnalyzer, speaking_face, video
from landmark_faces import face_points, rotation, talk
from onnx_models import onnx_model

from vasa_jax.data.records import encode_jpeg
from vasa_jax.errors import InputError
from vasa_jax.preparation import landmark_labels
from vasa_jax.preparation.clips import clips_of_video
from vasa_jax.preparation.face_backends.factory import open_analyzer
from vasa_jax.preparation.onnx_labels.deep3d import ALIGNED, EYE_DISTANCE, _aligned, load_distance_model
from vasa_jax.preparation.onnx_labels.hsemotion import load_emotion_model
from vasa_jax.preparation.onnx_labels.l2cs import load_gaze_model
from vasa_jax.preparation.onnx_labels.onnx_file import OnnxModel
from vasa_jax.preparation.onnx_labels.user_models import UserModels

PICTURE = (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("load", "network"),
    [(load_emotion_model, "HSEmotion"), (load_gaze_model, "L2CS-Net"), (load_distance_model, "Deep3DFaceRecon")],
)
def test_a_file_that_is_missing_or_no_model(load, network, tmp_path):
    path = tmp_path / "x.onnx"
    with pytest.raises(InputError, match=rf"x\.onnx: does not exist; give the path of an? {network}"):
        load(path)
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match=rf"no ONNX model that OpenCV can run .* give an? {network}"):
        load(path)
    # A model of another kind of picture: five channels.
    path.write_bytes(onnx_model({"y": np.ones((8, 5), np.float32)}, (1, 5, 224, 224)))
    with pytest.raises(InputError, match=f"OpenCV can run on .* {network}"):
        load(path)


def test_a_model_is_run_in_the_shape_that_it_takes(tmp_path):
    weights = np.random.default_rng(0).standard_normal((3, 2 * 4)).astype(np.float32)
    path = tmp_path / "x.onnx"
    path.write_bytes(onnx_model({"a": weights, "b": weights[:2]}, (1, 2, 2, 2), pooled=False))
    model = OnnxModel(path, "a test's", [(1, 3, 2, 2), (1, 2, 2, 2)])
    assert model.input_shape == (1, 2, 2, 2) and model.sizes == [3, 2]
    assert [name[-1] for name in model.layers] == ["a", "b"]
    values = np.arange(8.0).reshape(1, 2, 2, 2)
    for output, expected in zip(model(values), (weights, weights[:2])):
        np.testing.assert_allclose(output, expected @ np.arange(8), rtol=1e-5)


def test_emotion_coefficients_of_a_users_model(tmp_path):
    weight = np.zeros((10, 3), np.float32)
    weight[4, 0], weight[6, 2], weight[8:] = 2.0, 2.0, 50.0  # valence and arousal do not count
    path = tmp_path / "mtl.onnx"
    path.write_bytes(onnx_model({"emotion": weight}, PICTURE))
    coefficients = load_emotion_model(path)
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    happy, sad = coefficients([encode_jpeg(red)] * 3), coefficients([encode_jpeg(blue)] * 3)
    assert happy.shape == (8,) and happy.dtype == np.float32
    assert happy.argmax() == 4 and sad.argmax() == 6
    assert happy.sum() == pytest.approx(1.0, abs=1e-5)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    logits = weight[:8] @ ((np.array([254, 0, 0]) / 255 - mean) / deviation)
    np.testing.assert_allclose(happy, np.exp(logits) / np.exp(logits).sum(), atol=0.02)
    path.write_bytes(onnx_model({"emotion": weight[:5]}, PICTURE))
    with pytest.raises(InputError, match="gives 5 values"):
        load_emotion_model(path)


def gaze_file(path: Path, names: tuple[str, str], bins: int = 90) -> Path:
    """A model whose first output follows red, the second blue: one bin for a bright, another for a dark picture."""
    weights = np.zeros((2, bins, 3), np.float32)
    weights[0, 50, 0], weights[0, 42, 0] = 100.0, -100.0  # degrees 20 and -12 of 90 bins
    weights[1, 47, 2], weights[1, 44, 2] = 100.0, -100.0  # degrees 8 and -4
    path.write_bytes(onnx_model(dict(zip(names, weights)), (1, 3, 448, 448)))
    return path


def test_gaze_of_a_users_model(tmp_path):
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[20:44, 20:44, 0], blue[..., 2] = 255, 255  # the face is red, what is around it is not
    landmarks = np.zeros((1, 3, 3), np.float32)
    landmarks[0, 1:, :2] = [[-0.3, -0.3], [0.3, 0.3]]
    pictures = [encode_jpeg(red, 100)]
    gaze = load_gaze_model(gaze_file(tmp_path / "a.onnx", ("first", "second")))
    found = gaze(pictures, landmarks)
    assert found.shape == (1, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], [-20, 4], atol=1e-3)  # 20 to image left by the model, 4 up: ours is down
    np.testing.assert_allclose(gaze([encode_jpeg(blue, 100)], None)[0], [12, -8], atol=1e-3)
    # Exported the other way round, the layer's name tells.
    turned = load_gaze_model(gaze_file(tmp_path / "b.onnx", ("fc_pitch_gaze", "fc_yaw_gaze")))
    np.testing.assert_allclose(turned(pictures, landmarks)[0], [4, -20], atol=1e-3)
    with pytest.raises(InputError, match="two lists of 90 or of 28"):
        load_gaze_model(gaze_file(tmp_path / "c.onnx", ("first", "second"), bins=60))


def test_gaze_of_a_model_replaces_that_of_the_irises(tmp_path):
    mouth, sound = talk(2.0)
    path = video(tmp_path / "a.mp4", 2.0, sound)
    settings = dataclasses.replace(SETTINGS, zoom_spread=0.0, min_sharpness=0.0)

    def looking_right(pictures, landmarks):
        assert landmarks is None or landmarks.shape == (len(pictures), 478, 3)
        return np.full((len(pictures), 2), [15, 3], np.float32)

    for analyzer in (DrawnAnalyzer(mouth), open_analyzer("haar")):
        if analyzer.name == "haar":
            speaking_face(path, 2.0, 0)
        models = UserModels(gaze=looking_right)
        clips = clips_of_video(path, "clip", "person", "train", settings, analyzer, models).clips
        np.testing.assert_allclose(clips[0].record.gaze, [[15, 3]] * 50)
        np.testing.assert_allclose(clips[0].record.main_gaze, [15, 3])
        assert clips[0].metrics["gaze yaw"] == 15


def test_distance_of_a_users_model(tmp_path):
    weight = np.zeros((257, 3), np.float32)
    weight[256, 0] = 2.0  # tz is twice the redness
    path = tmp_path / "deep3d.onnx"
    path.write_bytes(onnx_model({"coefficients": weight}, PICTURE))
    distance = load_distance_model(path)
    points = np.stack([face_points(scale=scale) for scale in (0.5, 1.0)])
    pose = landmark_labels.fit_pose(points)
    black, red = np.zeros((2, 100, 100, 3), np.uint8)
    red[..., 0] = 255
    far, near = (distance([encode_jpeg(black)], points[i : i + 1], pose[i : i + 1]) for i in (0, 1))
    assert far == pytest.approx(2 * near, rel=1e-5)  # half as large
    larger = distance([encode_jpeg(np.zeros((200, 200, 3), np.uint8))], points[1:], pose[1:])
    assert larger == pytest.approx(near, rel=1e-5)  # pixels do not count
    eyes = np.linalg.norm(points[1, [33, 133]].mean(0) - points[1, [362, 263]].mean(0))  # half pictures
    assert near == pytest.approx(100 / 224 * ALIGNED * EYE_DISTANCE / (eyes * 50) * 10, rel=1e-4)
    small = distance([encode_jpeg(red)] * 6, points[[1] * 6], pose[[1] * 6])  # a head that is nearer than it looks
    assert 0.79 < small / near < 0.9  # tz = 2, less where the aligned face leaves the picture
    path.write_bytes(onnx_model({"coefficients": weight[:62]}, PICTURE))
    with pytest.raises(InputError, match="gives 62 values"):
        load_distance_model(path)


def test_the_face_is_aligned_by_its_eyes():
    points = face_points(rotation(0, 0, 0), 0.6, (0.1, -0.05))
    image = np.zeros((200, 200, 3), np.uint8)
    eyes = [(points[list(pair), :2].mean(0) + 1) * 100 for pair in landmark_labels.EYES]
    for x, y in eyes:
        cv2.circle(image, (round(x * 16 - 8), round(y * 16 - 8)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    picture, scale = _aligned(image, points, landmark_labels.fit_pose(points[None])[0])
    seen = picture[..., 0].astype(float)
    x, y = np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5)
    halves = seen * (x < 112), seen * (x > 112)
    centres = [((x * eye).sum() / eye.sum(), (y * eye).sum() / eye.sum()) for eye in halves]
    half, up = ALIGNED * EYE_DISTANCE / 2, ALIGNED * 0.09
    np.testing.assert_allclose(centres, [(112 - half, 112 - up), (112 + half, 112 - up)], atol=0.3)
    assert scale == pytest.approx(2 * half / (eyes[1][0] - eyes[0][0]), rel=1e-3)

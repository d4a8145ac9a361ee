"""The sync score of a user's SyncNet: streams whose answer is known, and what preparation makes of it."""

import dataclasses

import numpy as np
import pytest
from drawn_videos import SETTINGS, DrawnAnalyzer, reasons, video
from landmark_faces import face_points, talk
from official_state import random_state
from onnx_models import message, onnx_model
from torch_files import tensors, write_legacy

from vasa_jax.data.records import decode_jpeg, encode_jpeg
from vasa_jax.errors import InputError
from vasa_jax.models.syncnet import SyncNet
from vasa_jax.preparation import av_sync
from vasa_jax.preparation.clips import clips_of_video
from vasa_jax.preparation.mfcc import mfcc
from vasa_jax.preparation.onnx_labels.user_models import UserModels
from vasa_jax.preparation.syncnet import OUTSIDE, SIDE, SyncCurve, _face, _squares, load_sync_model
from vasa_jax.weights.published_networks import load_published
from vasa_jax.weights.published_tables import syncnet_table

LIPS_SHAPE, SOUND_SHAPE = (1, 3, 5, SIDE, SIDE), (1, 1, 13, 20)
QUIET, LOUD = -8.0, -2.0  # natural logarithm of the amplitude
# Log energy of 400 samples of random sign at the level QUIET, after pre-emphasis, in half of the spectrum.
ENERGY = 2 * (QUIET + np.log(32768)) + np.log(200 * (1 + 0.97**2))


def lips_model(weight: np.ndarray) -> bytes:
    """ONNX of the layers that SyncNet's lips have: a convolution over five frames, planar pooling, a row of values.

    weight (values, 3) of the channels' means over time and 7 x 7 pixels; the largest of them is given.
    """
    kernel = np.broadcast_to(weight[:, :, None, None, None] / (5 * 7 * 7), (*weight.shape, 5, 7, 7)).astype(np.float32)

    def sizes(name, *values):
        return message((1, name), *((8, value) for value in values), (20, 7))

    def value(name, *dims):
        shape = message(*((1, message((1, n))) for n in dims))
        return message((1, name), (2, message((1, message((1, 1), (2, shape))))))

    dims = ((1, n) for n in kernel.shape)
    strides = (5, sizes("kernel_shape", 5, 7, 7)), (5, sizes("strides", 1, 7, 7))
    pooling = (5, sizes("kernel_shape", 1, 32, 32)), (5, sizes("strides", 1, 32, 32))
    graph = message(
        (1, message((1, "x"), (1, "w"), (2, "c"), (3, "convolution"), (4, "Conv"), *strides)),
        (1, message((1, "c"), (2, "p"), (3, "pooling"), (4, "MaxPool"), *pooling)),
        (1, message((1, "p"), (2, "y"), (3, "lips"), (4, "Flatten"))),
        (2, "g"), (5, message(*dims, (2, 1), (8, "w"), (9, kernel.tobytes()))),
        (11, value("x", *LIPS_SHAPE)), (12, value("y", 1, len(weight))),
    )  # fmt: skip
    return message((1, 8), (7, graph), (8, message((1, ""), (2, 13))))


def streams(folder, lips: np.ndarray, sound: np.ndarray) -> None:
    (folder / "lips.onnx").write_bytes(lips_model(lips))
    (folder / "sound.onnx").write_bytes(onnx_model({"sound": sound}, SOUND_SHAPE, pooled=False))


@pytest.fixture
def loudness_model(tmp_path):
    """Lips: the mean of blue and a constant from green; sound: the mean log energy; so that a frame which is as bright
    as its sound is loud gives nearly the same number."""
    energy = np.zeros((1, 13, 20), np.float32)
    energy[0, 0] = 1 / 20 / (2 * (LOUD - QUIET))
    lips = np.array([[1, ENERGY / (2 * (LOUD - QUIET)), 0]], np.float32) / 255
    streams(tmp_path, lips, energy.reshape(1, -1))
    return load_sync_model(tmp_path)


def bright_when_loud(frames: int):
    """Sound whose level is drawn anew for every frame, and pictures as blue as it is loud; red says nothing."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0, 1, frames)
    amplitude = np.exp(QUIET + (LOUD - QUIET) * level).repeat(640)
    sound = (amplitude * rng.choice([-1.0, 1.0], len(amplitude))).astype(np.float32)
    pictures = np.zeros((frames, 16, 16, 3), np.uint8)
    pictures[..., 1] = 255
    pictures[..., 0] = rng.integers(0, 255, (frames, 1, 1))
    pictures[..., 2] = np.round(255 * level)[:, None, None]
    return [encode_jpeg(picture, 100) for picture in pictures], sound


def landmarks(frames: int) -> np.ndarray:
    return np.stack([0.5 * face_points()] * frames)


@pytest.mark.parametrize("late", [-7, 0, 4])
def test_the_offset_is_the_shift_of_least_distance(late, loudness_model):
    pictures, sound = bright_when_loud(90)
    curve = loudness_model(pictures[20:70], landmarks(50), av_sync.shifted(sound, -late / 25), 20)
    assert curve.best_shift() == late
    np.testing.assert_array_equal(curve.count[5:-5], 10)  # 50 frames in tens of five, each seen once
    mean = curve.total / curve.count
    assert curve.confidence(late) == pytest.approx(np.median(mean) - mean[late + 15], abs=1e-12)
    assert curve.certain(0.5 * curve.confidence(late)) and not curve.certain(1.01 * curve.confidence(late))


def test_distances_are_those_of_the_two_vectors(tmp_path):
    """By hand: the lips' vector of constant pictures is (2 blue, 3/4 red), the sound's of its energies alone."""
    energy = np.zeros((2, 13, 20), np.float32)
    energy[0, 0, 0], energy[1, 0, 19] = 1, 1
    streams(tmp_path, np.array([[2, 0, 0], [0, 0, 0.75]], np.float32), energy.reshape(2, -1))
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:] = (200, 100, 50)  # red, green, blue
    sound = 0.1 * np.random.default_rng(1).standard_normal(12 * 640)
    curve = load_sync_model(tmp_path)([encode_jpeg(picture, 100)] * 7, landmarks(7) * 0.5, sound, 2)
    # Windows of sound begin with frames 0 to 6, 120 ms after the last of them there is no more.
    np.testing.assert_array_equal(np.flatnonzero(curve.count), np.arange(13, 20))
    emphasised = 32768 * (sound[1:] - 0.97 * sound[:-1])

    def log_energy(sample: int) -> float:
        frame = np.fft.rfft(emphasised[sample - 1 : sample + 399], 512)
        return float(np.log((np.abs(frame) ** 2).sum() / 512))

    def distance(begin: int) -> float:
        heard = [log_energy(640 * begin), log_energy(640 * begin + 19 * 160)]
        return float(np.linalg.norm(np.array([100, 150]) - heard))

    known = [distance(begin) for begin in range(1, 7)]
    # Frame 0 has no sample before it, which the emphasis wants: left out of the comparison.
    np.testing.assert_allclose(curve.total[14:20] - curve.total[14], np.array(known) - known[0], atol=0.02)
    assert curve.total[13:20].sum() == pytest.approx(0, abs=1e-4)


@pytest.mark.long
def test_the_published_file_is_read_as_it_is(tmp_path):
    """At random weights: five frames, blue first, beside the sound that begins with the first of them or is shifted."""
    write_legacy(tmp_path / "syncnet_v2.model", tensors(random_state(syncnet_table())))
    rng = np.random.default_rng(0)
    pictures = [encode_jpeg(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8), 100) for _ in range(5)]
    sound = (0.1 * rng.standard_normal(30 * 640)).astype(np.float32)
    points = landmarks(5) * 0.5
    curve = load_sync_model(tmp_path)(pictures, points, sound, 4)

    params = load_published(tmp_path / "syncnet_v2.model", "syncnet")
    squares = _squares(points)
    faces = np.stack([_face(decode_jpeg(p), s).transpose(1, 2, 0) for p, s in zip(pictures, squares)])[None]
    seen = SyncNet().apply({"params": params}, faces.astype(np.float32), method="lip")[0]
    coefficients = mfcc(sound)
    windows = np.stack([coefficients[4 * begin : 4 * begin + 20] for begin in (4, 9)])
    apart = np.linalg.norm(SyncNet().apply({"params": params}, windows, method="aud") - seen, axis=1)
    assert curve.total[20] - curve.total[15] == pytest.approx(float(apart[1] - apart[0]), rel=1e-3, abs=1e-3)
    assert curve.count[11:].tolist() == [1] * 20 and not curve.count[:11].any()


def test_windows_that_are_far_from_any_sound_do_not_pull_at_the_ends(tmp_path):
    """Pictures come nearer to all sounds in time: without sound beyond the clip, early shifts miss the far ones."""
    energy = np.zeros((2, 13, 20), np.float32)
    energy[0, 0] = 1 / 20
    lips = np.array([[2 * (LOUD - QUIET) / 255, ENERGY / 255, 0], [0, 0, 30 / 255]], np.float32)
    streams(tmp_path, lips, energy.reshape(2, -1))
    pictures, sound = bright_when_loud(90)
    faded = []
    for number, picture in enumerate(pictures):
        image = decode_jpeg(picture)
        image[..., 0] = 250 - 2 * number
        faded.append(encode_jpeg(image, 100))
    curve = load_sync_model(tmp_path)(faded, landmarks(90), av_sync.shifted(sound, -3 / 25), 0)
    assert curve.best_shift() == 3


def test_a_clip_without_sound_beside_it_has_no_offset(loudness_model):
    pictures, sound = bright_when_loud(5)
    curve = loudness_model(pictures, landmarks(5), sound, 0)
    assert curve.best_shift() is None and not curve.certain(0.0)


def test_the_face_is_cut_as_the_published_tracker_cuts_it():
    points = np.zeros((20, 4, 3), np.float32)
    points[:, :, 0], points[:, :, 1] = [-0.2, 0.2, -0.2, 0.2], [-0.3, -0.3, 0.5, 0.5]
    points[7] += 0.4  # one frame that jumps is smoothed away
    squares = _squares(points)
    side = 1.4 * 0.8  # of the longer side
    np.testing.assert_allclose(squares, [[-side / 2, -0.3, side]] * 20, atol=1e-6)  # upper sides are level
    image = np.zeros((100, 100, 3), np.uint8)
    image[..., 0], image[60:70, 40:55, 2] = 10, 200
    face = _face(image, squares[0])
    assert face.shape == (3, SIDE, SIDE)
    blue = face[0].astype(float)
    scale = SIDE / (side * 50)
    left, top, right, bottom = ((40 - 22) * scale, (60 - 35) * scale, (55 - 22) * scale, (70 - 35) * scale)
    x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    assert (blue * x).sum() / blue.sum() == pytest.approx((left + right) / 2, abs=0.1)
    assert (blue * y).sum() / blue.sum() == pytest.approx((top + bottom) / 2, abs=0.1)
    assert blue.sum() / 200 == pytest.approx((right - left) * (bottom - top), rel=0.01)
    beyond = _face(image, np.array([0.5, 0.5, 1.0]))
    np.testing.assert_array_equal(beyond[:, 0, 0], [0, 0, 10])
    np.testing.assert_array_equal(beyond[:, -1, -1], [OUTSIDE] * 3)


def test_streams_that_do_not_fit_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"lips\.onnx: does not exist; give the path of a SyncNet's"):
        load_sync_model(tmp_path)
    streams(tmp_path, np.ones((4, 3), np.float32), np.ones((5, 260), np.float32))
    with pytest.raises(InputError, match=r"lips\.onnx gives \[4\] values, sound\.onnx \[5\]"):
        load_sync_model(tmp_path)
    (tmp_path / "sound.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"sound\.onnx: is no ONNX model .* 1 x 1 x 13 x 20"):
        load_sync_model(tmp_path)


def dip(shift: int, depth: float, at: int = 10) -> SyncCurve:
    """Distance 10 everywhere, but `depth` less at one shift."""
    total = np.full(31, 10.0 * at)
    total[shift + 15] -= depth * at
    return SyncCurve(total, np.full(31, at))


def prepared(tmp_path, curve_of, seconds=8.0, **changes):
    mouth, sound = talk(seconds)
    path = video(tmp_path / "a.mp4", seconds, av_sync.shifted(sound, -0.2))
    settings = dataclasses.replace(SETTINGS, zoom_spread=0.0, min_sharpness=0.0, **changes)

    def model(pictures, points, samples, start):
        assert points.shape == (len(pictures), 478, 3) and len(samples) == int(seconds * 25) * 640
        return curve_of(start)

    result = clips_of_video(path, "a", "b", "train", settings, DrawnAnalyzer(mouth), UserModels(sync=model))
    return result, sound


def test_sound_is_moved_by_the_offset_of_the_parts_that_are_in_step(tmp_path):
    curves = {0: dip(5, 7.0), 100: dip(-9, 2.0, at=100)}  # the second part has another's voice, louder than the first
    result, sound = prepared(tmp_path, curves.get)
    assert [(clip.start, clip.stop) for clip in result.clips] == [(0, 4)]
    assert result.sync == av_sync.SyncMeasure(0.2, 7.0, True)
    assert result.notes == ["the sound was +200 ms late; corrected"]
    assert result.clips[0].metrics["sync confidence"] == 7.0
    assert [(d.reason, d.start, d.stop, d.detail) for d in result.discards] == [
        ("sound out of step with the mouth", 4.0, 8.0, "confidence 0.0 by the sync model at +200 ms")
    ]
    heard = result.clips[0].record.audio[:48000] / 32767
    level = np.correlate(np.abs(sound[:50000]), np.abs(heard), "valid")
    assert level.argmax() < 0.01 * 16000  # AAC's own delay is less


def test_sound_that_no_part_is_in_step_with(tmp_path):
    result, _ = prepared(tmp_path, lambda start: dip(5, 2.0))
    assert result.clips == [] and not result.sync.certain and result.notes == []
    assert {reason for reason, *_ in reasons(result)} == {"sound out of step with the mouth"}
    kept, _ = prepared(tmp_path, lambda start: dip(5, 2.0), min_sync=1.5)
    assert len(kept.clips) == 2 and kept.sync.certain
    # Best at the last shift tried: certainly out of step, and by how much is not known.
    at_the_end, _ = prepared(tmp_path, lambda start: dip(15, 7.0))
    assert not at_the_end.sync.certain and at_the_end.notes == [] and at_the_end.clips == []
    assert at_the_end.discards[0].detail == "confidence 7.0 by the sync model at +600 ms"


def test_silent_parts_are_no_matter_of_sync(tmp_path):
    mouth, sound = talk(8.0)
    sound[64000:] *= 1e-4
    path = video(tmp_path / "a.mp4", 8.0, sound)
    settings = dataclasses.replace(SETTINGS, zoom_spread=0.0, min_sharpness=0.0)
    seen = []

    def model(pictures, points, samples, start):
        seen.append(start)
        return dip(0, 7.0)

    result = clips_of_video(path, "a", "b", "train", settings, DrawnAnalyzer(mouth), UserModels(sync=model))
    assert seen == [0] and reasons(result) == [("no speech", 4.0, 8.0)]



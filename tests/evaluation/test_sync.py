"""SyncNet's figures: known shifts, the window rule and the crops of the published evaluation."""

import numpy as np
import pytest

from vasa_jax.evaluation import sync
from vasa_jax.evaluation.sync import MAX_SHIFT, SIDE, SyncMeter, distances, face_crops, figures
from vasa_jax.preparation.mfcc import mfcc

EMBEDDINGS = np.eye(64)[:60]


@pytest.mark.parametrize("late", [0, 3, -7, 15, -15])
def test_the_offset_of_a_known_shift(late):
    """Images that go with the sound `late` frames after them: the published offset is minus that."""
    inside = slice(MAX_SHIFT, 60 - MAX_SHIFT)
    seen = np.roll(EMBEDDINGS, -late, 0)
    curve = distances(seen[inside], EMBEDDINGS[inside])
    found = figures(curve)
    assert found.offset == -late
    # The share of windows that has its partner, and nothing at zero but epsilon; zeros beyond the ends are 1 away.
    count, beyond = 30, abs(late)
    assert found.distance == pytest.approx((beyond * 1.0 + (count - beyond) * 8e-6) / count, abs=1e-4)


def test_confidence_is_the_median_less_the_least():
    curve = np.linspace(3.0, 6.0, 31)
    curve[20] = 1.0
    assert figures(curve) == (pytest.approx(np.median(curve) - 1.0), 1.0, MAX_SHIFT - 20)


def test_epsilon_is_added_to_every_difference():
    same = np.zeros((40, 1024))
    assert distances(same, same)[MAX_SHIFT] == pytest.approx(1e-6 * np.sqrt(1024))


def test_windows_are_five_frames_and_twenty_columns(monkeypatch):
    """Window i has frames i to i + 4, blue first, and columns 4 i to 4 i + 19; the last window is left out."""
    seen, heard = [], []
    monkeypatch.setattr(sync, "_lip", lambda params, frames: seen.extend(frames) or np.zeros((len(frames), 4)))
    monkeypatch.setattr(sync, "_aud", lambda params, sound: heard.extend(sound) or np.zeros((len(sound), 4)))
    faces = [np.full((SIDE, SIDE, 3), [i, 100, 200], np.uint8) for i in range(14)]
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 640 * 13 + 100).astype(np.float32)
    assert SyncMeter({}).measure(faces, samples) is not None
    seen, heard = seen[:8], heard[:8]  # 13 frames of sound: 8 windows, one batch
    assert [window[:, 0, 0, 2].tolist() for window in seen] == [list(range(i, i + 5)) for i in range(8)]
    assert (seen[0][0, 0, 0] == [200, 100, 0]).all()
    coefficients = mfcc(np.rint(samples * 32768) / 32768)
    for i, window in enumerate(heard):
        np.testing.assert_array_equal(window, coefficients[4 * i : 4 * i + 20])


def test_too_short_a_video_has_no_figures():
    assert SyncMeter({}).measure([np.zeros((SIDE, SIDE, 3), np.uint8)] * 5, np.zeros(640 * 30, np.float32)) is None
    assert SyncMeter({}).measure([np.zeros((SIDE, SIDE, 3), np.uint8)] * 30, np.zeros(100, np.float32)) is None


def test_crops_reach_as_far_as_the_published_ones():
    """1 above, 1.8 below, 1.4 to either side of the middle, in halves of the box; beyond the picture is grey 110."""
    frame = np.zeros((200, 240, 3), np.uint8)
    frame[..., 0] = np.arange(240)
    frame[..., 1] = np.arange(200)[:, None]
    count = 31  # so that the middle frame's median sees no zero from beyond the ends
    boxes = np.tile([100.0, 60.0, 140.0, 100.0], (count, 1))
    middle = list(face_crops([frame] * count, boxes))[count // 2]
    assert middle.shape == (SIDE, SIDE, 3)
    left, top, right, bottom = 120 - 28, 80 - 20, 120 + 28, 80 + 36
    edges = (middle[:, 0, 0].mean(), middle[:, -1, 0].mean(), middle[0, :, 1].mean(), middle[-1, :, 1].mean())
    assert edges == pytest.approx((left, right - 1, top, bottom - 1), abs=1)
    beside = list(face_crops([frame] * count, boxes - [100.0, 0.0, 100.0, 0.0]))[count // 2]
    assert (beside[:, 0] == 110).all()


def test_a_jump_of_one_frame_is_smoothed_away():
    frame = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.uint8)
    boxes = np.tile([30.0, 30.0, 70.0, 70.0], (31, 1))
    steady = list(face_crops([frame] * 31, boxes))[15]
    boxes[15] += 20
    np.testing.assert_array_equal(list(face_crops([frame] * 31, boxes))[15], steady)

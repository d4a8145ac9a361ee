"""Labels from landmarks, sync, scenes and tracks: against what was put in."""

import itertools

import numpy as np
import pytest
from landmark_faces import face_points, rotation, talk

from vasa_jax.conventions import head_angles, rotation_matrices
from vasa_jax.data.face_crop import Crop
from vasa_jax.data.scenes import find_cuts
from vasa_jax.preparation import av_sync, landmark_labels
from vasa_jax.preparation.face_backends.base import DetectedFace
from vasa_jax.preparation.tracking import NO_FACE, SEVERAL, SMALL, Track, find_tracks, fixed_crop


@pytest.mark.parametrize(
    ("angles", "scale", "shift"),
    [((0, 0, 0), 1.0, (0, 0)), ((35, -12, 8), 0.8, (0.1, -0.2)), ((-50, 20, -25), 1.3, (-0.3, 0.05))],
)
def test_pose_is_recovered(angles, scale, shift):
    turn = rotation(*angles)
    pose = landmark_labels.fit_pose(np.stack([face_points(turn, scale, shift), face_points()]))
    assert pose.shape == (2, 9) and pose.dtype == np.float32
    np.testing.assert_allclose(rotation_matrices(pose)[0], turn, atol=1e-5)
    np.testing.assert_allclose(pose[0, 6:], [np.log(scale), *shift], atol=1e-5)
    np.testing.assert_allclose(head_angles(pose)[0], angles, atol=1e-3)
    np.testing.assert_allclose(pose[1], [1, 0, 0, 0, 1, 0, 0, 0, 0], atol=1e-5)


def test_pose_is_that_of_the_corpus_conventions():
    """A nose (the most forward point) turned to image right has yaw > 0, turned down pitch > 0."""
    for angles, axis in (((20, 0, 0), 0), ((0, 20, 0), 1)):
        points = face_points(rotation(*angles))
        moved = points[4] - face_points()[4]
        assert moved[axis] > 0.1
    assert head_angles(landmark_labels.fit_pose(face_points(rotation(0, 0, 15))[None]))[
        0, 2
    ] == pytest.approx(15, abs=0.01)


@pytest.mark.parametrize("gaze", [(0, 0), (20, 0), (-15, 10), (5, -20)])
def test_gaze_does_not_depend_on_the_head(gaze):
    points = np.stack([face_points(gaze=gaze), face_points(rotation(25, -8, 5), 0.9, (0.1, 0.1), gaze=gaze)])
    found = landmark_labels.gaze_angles(points, landmark_labels.fit_pose(points))
    np.testing.assert_allclose(found, [gaze, gaze], atol=0.01)


def test_lids_and_mouth_are_ratios():
    points = np.stack([face_points(lids=0.3, mouth=0.2), face_points(rotation(0, 0, 30), 0.7, lids=0.3, mouth=0.2)])
    pose = landmark_labels.fit_pose(points)
    np.testing.assert_allclose(landmark_labels.lid_openings(points, pose), 0.3, atol=0.01)
    np.testing.assert_allclose(landmark_labels.mouth_opening(points), 0.2, atol=1e-4)
    openings = np.array([[0.3, 0.2]] * 9 + [[0.0, 0.1]], np.float32)
    np.testing.assert_allclose(landmark_labels.relative_lids(openings)[[0, 9]], [[1, 1], [0, 0.5]], atol=1e-5)


def test_main_gaze_is_the_largest_cluster():
    rng = np.random.default_rng(0)
    gaze = np.concatenate([rng.normal((12, -6), 2, (60, 2)), rng.normal((-20, 5), 2, (40, 2))])
    lids = np.ones((100, 2))
    main, share = landmark_labels.main_gaze(gaze, lids)
    np.testing.assert_allclose(main, (12, -6), atol=1.0)
    assert 0.55 < share < 0.65
    lids[:60] = 0.1  # closed eyes do not count
    np.testing.assert_allclose(landmark_labels.main_gaze(gaze, lids)[0], (-20, 5), atol=1.0)
    assert landmark_labels.main_gaze(rng.uniform(-40, 40, (300, 2)), np.ones((300, 2)))[0] is None
    assert landmark_labels.main_gaze(gaze, np.zeros((100, 2))) == (None, 0.0)


@pytest.mark.parametrize("late", [-0.2, 0.0, 0.12, 0.4])
def test_offset_of_the_sound_is_measured(late):
    mouth, sound = talk(8.0)
    moved = av_sync.shifted(sound, -late)
    measure = av_sync.measure_offset(mouth, moved)
    assert measure.certain
    assert measure.offset == pytest.approx(late, abs=0.02)
    corrected = av_sync.shifted(moved, measure.offset)
    assert abs(av_sync.measure_offset(mouth, corrected).offset) <= 0.02


def test_unrelated_sound_is_not_certain():
    certain = [av_sync.measure_offset(talk(8.0, seed)[0], talk(8.0, seed + 50)[1]).certain for seed in range(8)]
    assert sum(certain) == 0
    assert av_sync.measure_offset(np.zeros(100), talk(4.0)[1]) is None
    assert av_sync.measure_offset(np.full(100, np.nan), talk(4.0)[1]) is None


def test_shift_moves_by_samples_and_keeps_the_length():
    sound = np.arange(1, 32001, dtype=np.float32)
    np.testing.assert_array_equal(av_sync.shifted(sound, 0.5)[:3], [8001, 8002, 8003])
    np.testing.assert_array_equal(av_sync.shifted(sound, -0.5)[7999:8002], [0, 1, 2])
    assert not av_sync.shifted(sound, 3.0).any() and len(av_sync.shifted(sound, 3.0)) == 32000


def test_speech_share_and_loudness():
    t = np.arange(32000) / 16000
    tone = (0.5 * np.sin(2 * np.pi * 200 * t)).astype(np.float32)
    assert av_sync.loudness(tone)[50] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)
    tone[16000:] = 0
    assert av_sync.speech_share(tone) == pytest.approx(0.5, abs=0.03)
    assert av_sync.speech_share(np.zeros(16000, np.float32)) == 0.0


def test_cuts_are_found_and_motion_is_not_one():
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 255, (3, 27, 48, 3))
    shots = [scenes[i // 20] + rng.integers(-4, 4) for i in range(60)]
    assert find_cuts(np.clip(shots, 0, 255).astype(np.uint8)) == [20, 40]
    fading = np.linspace(0, 255, 50)[:, None, None, None] * np.ones((1, 27, 48, 3))
    assert find_cuts(fading.astype(np.uint8)) == []
    assert find_cuts(np.zeros((1, 27, 48, 3), np.uint8)) == []


def face(x: float, size: float = 100.0, y: float = 200.0) -> DetectedFace:
    return DetectedFace(x - size / 2, y - size / 2, size, size, 1.0)


def test_tracks_and_what_is_discarded_between_them():
    looks = [(i, [face(200 + i)]) for i in range(0, 50, 5)]
    looks += [(i, []) for i in range(50, 80, 5)]
    looks += [(i, [face(300), face(600, 80)]) for i in range(80, 110, 5)]
    looks += [(i, [face(300, 30)]) for i in range(110, 140, 5)]
    looks += [(i, [face(500)]) for i in range(140, 200, 5)]
    tracks, spans = find_tracks(looks, 200, [150], min_face=64)
    assert [(t.start, t.stop) for t in tracks] == [(0, 50), (140, 150), (150, 200)]
    assert [(s.reason, s.start, s.stop) for s in spans] == [(NO_FACE, 50, 80), (SEVERAL, 80, 110), (SMALL, 110, 140)]
    np.testing.assert_allclose(tracks[0].boxes[7], (207, 200, 100))  # between two looks
    covered = sorted((p.start, p.stop) for p in [*tracks, *spans])
    assert covered[0][0] == 0 and covered[-1][1] == 200
    assert all(a[1] == b[0] for a, b in itertools.pairwise(covered))


def test_one_missed_look_does_not_end_a_track_but_another_face_does():
    looks = [(i, [] if i == 25 else [face(200)]) for i in range(0, 60, 5)]
    assert [(t.start, t.stop) for t in find_tracks(looks, 60, [], 64)[0]] == [(0, 60)]
    looks = [(i, [face(200 if i < 30 else 500)]) for i in range(0, 60, 5)]
    assert [(t.start, t.stop) for t in find_tracks(looks, 60, [], 64)[0]] == [(0, 30), (30, 60)]
    far = [(i, [face(200), face(600, 30)]) for i in range(0, 60, 5)]  # a small face in the background is none
    assert len(find_tracks(far, 60, [], 64)[0]) == 1


def test_the_crop_is_fixed_and_holds_the_motion():
    still = Track(0, 10, np.tile([400.0, 300.0, 100.0], (10, 1)))
    crop = fixed_crop(still, 600, 800, (0.5, 0.48))
    assert crop == Crop(300, 204, 200)
    assert fixed_crop(still, 600, 800, (0.5, 0.48), zoom=2.0).size == 125  # never tighter than the face's room
    moving = Track(0, 10, np.stack([np.linspace(300, 500, 10), np.full(10, 300.0), np.full(10, 100.0)], -1))
    wide = fixed_crop(moving, 600, 800, (0.5, 0.48))
    assert wide.x <= 300 - 50 and wide.x + wide.size >= 500 + 50
    corner = Track(0, 10, np.tile([30.0, 30.0, 100.0], (10, 1)))
    assert fixed_crop(corner, 600, 800, (0.5, 0.48)) is None
    tight = Track(0, 10, np.tile([110.0, 105.0, 105.0], (10, 1)))
    assert fixed_crop(tight, 220, 220, (0.5, 0.48)) is not None

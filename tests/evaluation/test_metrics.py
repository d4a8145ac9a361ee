"""Metrics of tracks and images in closed form."""

import math

import numpy as np
import pytest
from fake_heads import pose

from vasa_jax.conventions import head_angles
from vasa_jax.evaluation import metrics
from vasa_jax.evaluation.image_metrics import psnr, psnr_per_image


def test_pearson_closed_forms():
    assert metrics.pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert metrics.pearson([1, 2, 3], [6, 4, 2]) == pytest.approx(-1.0)
    assert metrics.pearson([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)


def test_pearson_of_a_still_track_is_zero():
    moving = np.sin(np.arange(50))
    still = np.full(50, 0.1, np.float32) + np.float32(1e-8) * np.arange(50, dtype=np.float32)
    assert metrics.pearson(still, moving) == 0.0
    assert metrics.pearson(moving, still) == 0.0
    with pytest.raises(ValueError, match="one length"):
        metrics.pearson([1, 2], [1, 2, 3])


def test_pooled_pearson_counts_differences_between_clips():
    flat = [(np.array([0.0, 0.0]), np.array([0.0, 0.0])), (np.array([1.0, 1.0]), np.array([1.0, 1.0]))]
    assert [metrics.pearson(x, y) for x, y in flat] == [0.0, 0.0]
    assert metrics.pooled_pearson(flat) == pytest.approx(1.0)


@pytest.mark.parametrize("delay", [3, -4, 0])
def test_best_offset_finds_the_delay(delay):
    source = np.random.default_rng(0).standard_normal(120)
    reference, track = source[20:100], source[20 - delay : 100 - delay]
    offset, r = metrics.best_offset(track, reference)
    assert offset == delay
    assert r == pytest.approx(1.0)


def test_best_offset_of_a_still_track():
    assert metrics.best_offset(np.ones(30), np.sin(np.arange(30))) == (0, 0.0)


def test_euler_angles_round_trip():
    angles = np.array([[20.0, -10.0, 5.0], [-40.0, 15.0, -30.0]])
    poses = np.stack([pose(*row) for row in angles])
    np.testing.assert_allclose(head_angles(poses), angles, atol=1e-9)


def test_offset_curve_and_its_peak():
    source = np.random.default_rng(0).standard_normal(60)
    curve = metrics.offset_correlations(source[3:43], source[5:45], limit=4)
    assert curve.shape == (9,)
    assert curve[4 + 2] == pytest.approx(1.0)
    assert curve[4] == pytest.approx(metrics.pearson(source[3:43], source[5:45]))
    assert metrics.peak_offset(curve) == (2, pytest.approx(1.0))
    assert metrics.peak_offset(np.array([1.0, 0.2, 0.5, 1.0, 1.0])) == (1, 1.0)  # the nearest to 0
    assert metrics.offset_correlations(source[:4], source[:4]).shape == (3,)


def test_diversity_of_independent_and_equal_takes():
    wave = np.sin(np.arange(100) * 2 * np.pi / 25)
    first, second = (np.stack([pose(yaw=sign * 10 * v + 20) for v in wave]) for sign in (1, -1))
    moved = np.stack([pose(yaw=10 * v - 20) for v in wave])  # the same about another direction
    assert metrics.head_diversity(np.stack([first, first])) == pytest.approx(0.0, abs=1e-9)
    assert metrics.head_diversity(np.stack([first, moved])) == pytest.approx(0.0, abs=1e-9)
    # 20 sin between the two: 2 (10 sin)^2 is the variance of two values, on one of the three angles.
    smooth = metrics.smooth(10 * wave)
    expected = np.sqrt(2 * np.mean((smooth - smooth.mean()) ** 2) / 3)
    assert metrics.head_diversity(np.stack([first, second])) == pytest.approx(expected, rel=1e-6)
    assert metrics.mutual_correlation(np.stack([wave, -wave, 2 * wave])) == pytest.approx(-1 / 3)


def test_pose_audio_correlation():
    rng = np.random.default_rng(0)
    level = metrics.smooth(rng.standard_normal(300), 25)
    speed = 1.0 + level - level.min()
    turning = np.stack([pose(yaw=angle) for angle in 0.2 * (np.cumsum(speed) - speed.sum() / 2)])
    assert metrics.pose_audio_correlation(turning, level) > 0.95
    assert metrics.pose_audio_correlation(turning, -level) < -0.95
    assert abs(metrics.pose_audio_correlation(turning, metrics.smooth(rng.standard_normal(300), 25))) < 0.5
    assert metrics.pose_audio_correlation(turning[:1], level[:1]) == 0.0


def test_lip_shape_is_that_of_the_frontal_face_in_any_pose():
    # Eyes at (+-0.3, -0.2), a mouth 0.24 wide and 0.12 high, all in one plane.
    face = np.array([[-0.12, 0.3], [0.12, 0.3], [0.0, 0.24], [0.0, 0.36], [-0.3, -0.2], [0.3, -0.2]])
    turned = np.stack([pose(yaw=25.0, pitch=-15.0, roll=20.0), pose()])
    turned[:, 6:] = [[np.log(1.3), 0.1, -0.2], [0.0, 0.0, 0.0]]
    plane = turned[:, [0, 1, 3, 4]].reshape(-1, 2, 2).transpose(0, 2, 1) * np.exp(turned[:, 6])[:, None, None]
    seen = np.einsum("tij,lj->tli", plane, face) + turned[:, None, 7:]
    shape = metrics.lip_shape(seen, turned, (0, 1, 2, 3), (4,), (5,))
    np.testing.assert_allclose(shape, [[0.4, 0.2]] * 2, atol=1e-9)


def test_head_motion_is_the_mean_over_the_three_angles():
    turning = np.stack([pose(yaw=2.0 * i, roll=1.0 * i) for i in range(10)])
    assert metrics.head_motion(turning) == pytest.approx((2.0 + 0.0 + 1.0) / 3.0)
    assert metrics.head_motion(turning[:1]) == 0.0


def test_head_correlation_is_the_mean_over_the_three_angles():
    turning = np.stack([pose(yaw=0.1 * k) for k in range(5)])
    nodding = np.stack([pose(pitch=0.1 * k) for k in range(5)])
    assert metrics.head_correlation(turning, turning) == pytest.approx(1 / 3)
    assert metrics.head_correlation(turning[::-1], turning) == pytest.approx(-1 / 3)
    assert metrics.head_correlation(turning, nodding) == 0.0


def test_rotation_error():
    assert metrics.rotation_error_degrees(pose(roll=30.0), pose()) == pytest.approx(30.0)
    assert metrics.rotation_error_degrees(pose(yaw=25.0), pose(yaw=25.0)) == pytest.approx(0.0, abs=1e-5)


def test_smooth():
    impulse = np.zeros(9)
    impulse[4] = 1.0
    np.testing.assert_allclose(metrics.smooth(impulse)[2:7], np.array([1, 2, 3, 2, 1]) / 9.0)
    np.testing.assert_allclose(metrics.smooth(np.full((7, 2), 3.0)), 3.0)
    with pytest.raises(ValueError, match="odd"):
        metrics.smooth(impulse, 4)


def test_blinks_with_noise_at_the_threshold():
    opening = np.ones((50, 2))
    opening[10:13] = 0.1
    opening[30:36, :] = np.array([0.3, 0.4, 0.3, 0.38, 0.2, 0.5])[:, None]  # one slow blink that trembles
    assert metrics.blinks(opening) == [(10, 12), (30, 34)]
    assert metrics.blinks_per_minute(opening) == pytest.approx(60.0)  # 2 in 2 s
    assert metrics.blinks_per_minute(np.zeros((0, 2))) == 0.0


def test_closure():
    closed, open_ = metrics.closure([0.01, 0.03, 0.2, 0.4], [0.0, 0.0, 0.3, 0.3])
    assert (closed, open_) == (pytest.approx(0.02), pytest.approx(0.3))
    assert math.isnan(metrics.closure([0.1], [0.3])[0])


def test_cosine_and_verification():
    assert metrics.cosine([1.0, 0.0], [1.0, 1.0]) == pytest.approx(math.sqrt(0.5))
    assert metrics.verification_auc([0.9, 0.8], [0.1, 0.2]) == 1.0
    assert metrics.verification_auc([0.5], [0.5]) == 0.5
    assert metrics.verification_auc([0.3], [0.1, 0.2, 0.4, 0.5]) == 0.5


def test_psnr():
    image = np.zeros((4, 4, 3))
    assert psnr(image + 0.1, image) == pytest.approx(20.0)
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    assert psnr(image + 0.1 * mask[..., None], image, ~mask) == pytest.approx(100.0)


def test_both_psnr_agree():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 8, 8, 3), np.float32), rng.random((2, 8, 8, 3), np.float32)
    np.testing.assert_allclose(psnr_per_image(x, y), [psnr(a, b) for a, b in zip(x, y)], rtol=1e-5)


def test_head_motion_of_a_known_rotation():
    """One degree of yaw a frame: a third of a degree as VASA-1 averages axes, one degree as a rotation."""
    turning = np.stack([pose(yaw=float(i)) for i in range(10)])
    assert metrics.head_motion(turning) == pytest.approx(1 / 3)
    assert metrics.head_motion_geodesic(turning) == pytest.approx(1.0, rel=1e-4)
    # About two axes at once the angles add, rotations do not.
    both = np.stack([pose(pitch=0.0, roll=0.0), pose(pitch=3.0, roll=4.0)])
    nod, tilt = np.cos(np.radians([3.0, 4.0]))
    expected = np.degrees(np.arccos((nod + tilt + nod * tilt - 1) / 2))
    assert metrics.head_motion_geodesic(both) == pytest.approx(expected, rel=1e-4)
    assert metrics.head_motion_geodesic(both[:1]) == 0.0


def test_an_interval_is_students():
    found = metrics.interval([1.0, 3.0, None, float("nan")])
    # Two values: t of one degree of freedom is 12.706, the error is 1.
    assert found == {"mean": 2.0, "error": 1.0, "count": 2, "low": pytest.approx(-10.706, abs=1e-3),
                     "high": pytest.approx(14.706, abs=1e-3)}  # fmt: skip
    assert metrics.interval([5.0]) == {"mean": 5.0, "count": 1} and metrics.interval([None]) is None


def test_main_gaze_is_seen_with_open_lids():
    gaze = np.array([[0.0, 0.0], [10.0, 4.0], [10.0, 4.0], [90.0, 90.0]])
    lids = np.array([[0.1, 0.1], [1.0, 1.0], [1.0, 1.0], [0.0, 0.1]])
    np.testing.assert_array_equal(metrics.main_gaze(gaze, lids), [10.0, 4.0])
    np.testing.assert_array_equal(metrics.main_gaze(gaze, np.zeros((4, 2))), [10.0, 4.0])


def test_shapes_are_compared_wherever_however_large_and_rolled_they_are():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(5, 20, 2))
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    np.testing.assert_allclose(metrics.shape_distance(0.3 * shape @ turn + [2.0, -1.0], shape), 0.0, atol=1e-12)
    mirrored = metrics.shape_distance(shape * [1.0, -1.0], shape)
    assert mirrored.min() > 0.3
    # Four corners of a square, one pair pulled out along its own axis: the fit is by hand.
    square = np.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]])
    wide = square * [2.0, 1.0]  # best size 3 / 5: points at 1.2 and 0.6 for 1 and 1
    assert metrics.shape_distance(wide, square)[0] == pytest.approx((0.2 + 0.4) / 2)

"""The square of a keypoint codec from mesh points: its formula, turned and moved faces, and the cut itself."""

import numpy as np
import pytest
from drawn_portrait import drawn_points

from vasa_jax.errors import InputError
from vasa_jax.generation.landmark_crop import CALIBRATION, EXTENT, TurnedSquare, cut_square, openness_of, square_of

FACE = drawn_points(256)[:, :2].astype(np.float64)


def test_an_upright_face_by_the_formula():
    square = square_of(FACE)
    low, high = FACE[list(EXTENT)].min(0), FACE[list(EXTENT)].max(0)
    size = CALIBRATION * 2.3 * (high - low).max()
    assert abs(square.angle) < np.radians(2)
    np.testing.assert_allclose(square.size, size, rtol=0.02)
    np.testing.assert_allclose(square.centre, (low + high) / 2 - (0, 0.125 * size), atol=3)


def test_the_square_turns_moves_and_grows_with_the_face():
    plain, turn = square_of(FACE), np.radians(25)
    rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    moved = square_of(3 * FACE @ rotation.T + (40, -7))
    np.testing.assert_allclose(moved.angle - plain.angle, turn, atol=1e-9)
    np.testing.assert_allclose(moved.size, 3 * plain.size)
    np.testing.assert_allclose(moved.centre, 3 * rotation @ plain.centre + (40, -7), atol=1e-6)
    assert square_of(FACE @ rotation.T, turn=False).angle == 0.0


def test_the_cut_shows_the_square():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (120, 150, 3)).astype(np.uint8)
    np.testing.assert_array_equal(cut_square(picture, TurnedSquare((50, 40), 32, 0.0), 32), picture[24:56, 34:66])
    quarter = cut_square(picture, TurnedSquare((50, 40), 32, np.pi / 2), 32)
    np.testing.assert_array_equal(quarter, np.rot90(picture[24:56, 34:66]))
    large = np.kron(picture, np.ones((4, 4, 1))).astype(np.uint8)
    small = cut_square(large, TurnedSquare((200, 160), 128, 0.0), 32)
    np.testing.assert_allclose(small.astype(int), picture[24:56, 34:66], atol=1)
    assert not cut_square(picture, TurnedSquare((0, 0), 32, 0.0), 32)[:16].any()


def test_openness_is_height_over_width():
    points = np.zeros((478, 3))
    points[[33, 133, 362, 263, 78, 308], 0] = 0, 30, 50, 90, 20, 60
    points[[145, 374, 14], 1] = 9, 8, 2
    np.testing.assert_allclose(openness_of(points), (0.3, 0.2, 0.05), rtol=1e-5)


def test_other_points_are_refused():
    with pytest.raises(InputError, match="no points of MediaPipe"):
        square_of(np.zeros((68, 2)))

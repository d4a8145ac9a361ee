"""Pictures as networks see them: faces are aligned as Deep3DFaceRecon's, differences are means, damage is felt."""

import cv2
import numpy as np
import pytest

from vasa_jax.data.image_files import read_image
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.evaluation.frechet import frechet_distance, gaussian
from vasa_jax.evaluation.picture_features import (
    ALIGNED,
    ANGLES,
    EXPRESSIONS,
    STANDARD_POINTS,
    aligned_face,
    coefficient_distances,
    five_points,
    weak_perspective,
)
from vasa_jax.models.face_model import SIDE
from vasa_jax.weights.parts import SHIPPED


def seen(scale, middle, roll=0.0):
    """STANDARD_POINTS in pixels, y up."""
    turned = STANDARD_POINTS[:, :2] @ np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return scale * turned + middle


@pytest.mark.parametrize("roll", [0.0, 0.4])
def test_size_and_place_of_a_known_face(roll):
    middle, scale = weak_perspective(seen(83.0, (120.0, 90.0), roll))
    np.testing.assert_allclose(middle, (120.0, 90.0), atol=1e-9)
    assert scale == pytest.approx(83.0)


@pytest.mark.parametrize(("scale", "middle"), [(60.0, (128.0, 128.0)), (40.0, (100.0, 150.0)), (150.0, (128.0, 110.0))])
def test_an_aligned_face_has_its_points_where_the_standard_face_has_them(scale, middle):
    size = 256
    pixels = seen(scale, middle)
    pixels[:, 1] = size - 1 - pixels[:, 1]
    picture = np.zeros((size, size, 3), np.uint8)
    for x, y in pixels:
        cv2.circle(picture, (round(x), round(y)), max(round(scale / 20), 2), (255, 255, 255), -1)
    aligned = aligned_face(picture, (pixels + 0.5) / size * 2.0 - 1.0)
    assert aligned.shape == (SIDE, SIDE, 3)
    for x, y in ALIGNED * STANDARD_POINTS[:, :2]:
        row, column = round(SIDE / 2 - y), round(SIDE / 2 + x)
        rows, columns = np.nonzero(aligned[row - 8 : row + 9, column - 8 : column + 9, 0] > 128)
        # The published rule rounds sizes and corners down, and takes pixels' corners for their middles.
        assert abs(rows.mean() - 8) < 3 and abs(columns.mean() - 8) < 3


def test_five_points_are_found_by_name():
    lips = ("outer_lip_0", "outer_lip_3", "outer_lip_6")
    points = ("jaw_0", "eye_left_0", "eye_left_4", "nose_tip", "eye_right_0", *lips)
    places = np.arange(16.0).reshape(1, 8, 2)
    assert five_points(places, points)[0, :, 0].tolist() == [3.0, 8.0, 6.0, 10.0, 14.0]


def test_differences_of_coefficients_are_means_over_what_both_have():
    truth = np.zeros((4, EXPRESSIONS + ANGLES))
    own = np.concatenate([np.full((3, EXPRESSIONS), -0.2), np.full((3, ANGLES), 0.1)], axis=1)
    assert coefficient_distances(own, truth) == {"aed": pytest.approx(0.2), "apd": pytest.approx(0.1)}


def test_fpd_grows_with_damage():
    """Blur, noise, smaller sizes and bent shapes: the stronger, the further from what is whole."""
    reader, rng, views = FaceReader.from_pretrained(), np.random.default_rng(0), []
    portrait = cv2.resize(read_image(SHIPPED / "demo" / "portrait.png"), (256, 256))
    for _ in range(64):
        matrix = cv2.getRotationMatrix2D((128, 128), rng.uniform(-8, 8), rng.uniform(0.9, 1.2))
        matrix[:, 2] += rng.uniform(-12, 12, 2)
        views.append(cv2.warpAffine(portrait, matrix, (256, 256), borderMode=cv2.BORDER_REFLECT))
    whole, others = views[::2], views[1::2]
    grid = np.mgrid[0:256, 0:256].astype(np.float32)

    def distance(change):
        features = [reader.picture_features(np.stack(part)) for part in (whole, [change(view) for view in others])]
        return frechet_distance(*map(gaussian, features))

    damages = (
        [lambda view, s=s: cv2.GaussianBlur(view, (0, 0), s) for s in (2, 4, 8)],
        [lambda view, s=s: np.clip(view + rng.normal(0, s, view.shape), 0, 255).astype(np.uint8) for s in (15, 30, 60)],
        [lambda view, n=n: cv2.resize(cv2.resize(view, (n, n), interpolation=cv2.INTER_AREA), (256, 256))
         for n in (48, 24, 12)],
        [lambda view, k=k: cv2.remap(view, grid[1] + np.float32(k) * np.sin(grid[0] / 12), grid[0], cv2.INTER_LINEAR)
         for k in (4, 8, 16)],
    )  # fmt: skip
    floor = distance(lambda view: view)
    for damage in damages:
        found = [floor, *map(distance, damage)]
        assert found == sorted(found) and found[-1] > 4 * floor, found

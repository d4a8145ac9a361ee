"""Finding a face and cutting the square around it, on drawn faces."""

import concurrent.futures

import cv2
import numpy as np
import pytest
from drawn_faces import picture

from vasa_jax.data import face_crop
from vasa_jax.data.face_crop import Crop, FaceBox, crop_square, find_face, parse_crop, portrait_crop
from vasa_jax.errors import InputError


@pytest.mark.parametrize(
    ("width", "height", "cx", "cy", "r"),
    [(400, 500, 200, 220, 80), (600, 400, 150, 200, 60), (1600, 900, 700, 400, 150), (100, 100, 50, 50, 23)],
)
def test_finds_the_face_at_any_size(width, height, cx, cy, r):
    box = find_face(picture(width, height, (cx, cy, r)))
    assert abs(box.x + box.size / 2 - cx) < 0.15 * r
    assert abs(box.y + box.size / 2 - cy) < 0.15 * r
    assert 2.2 * r < box.size < 2.8 * r
    assert box.view == "frontal"


def test_frames_the_face_as_the_corpus_does():
    image = picture(400, 500, (200, 220, 60))
    box = find_face(image)
    pixels, crop = crop_square(image, box, 256)
    assert pixels.shape == (256, 256, 3)
    assert pixels.dtype == np.uint8
    again = find_face(pixels)
    assert again.size / 256 == pytest.approx(face_crop.FRONTAL_FRACTION, abs=0.03)
    assert (again.x + again.size / 2) / 256 == pytest.approx(0.5, abs=0.02)
    assert (again.y + again.size / 2) / 256 == pytest.approx(face_crop.CENTRE_HEIGHT, abs=0.02)
    assert crop == portrait_crop(box)
    assert parse_crop(str(crop), 500, 400) == crop


def test_of_several_faces_the_largest_and_says_so():
    image = picture(900, 500, (200, 220, 50), (620, 240, 100))
    box = find_face(image, "group.png")
    assert abs(box.x + box.size / 2 - 620) < 20
    assert "\n" not in box.note
    assert box.note.startswith("group.png: 2 faces")
    other = parse_crop(box.note.split("--config.crop=")[1], 500, 900)
    assert abs(other.x + other.size / 2 - 200) < 15
    assert find_face(picture(400, 400, (200, 200, 70))).note is None


def test_tells_of_a_small_and_of_a_cut_face():
    small = picture(100, 100, (50, 50, 20))
    assert "pixels wide" in find_face(small).note
    whole = picture(600, 500, (200, 230, 100))
    assert "cuts the face" in find_face(whole[:, 140:].copy()).note


def test_tilted_face_is_found():
    image = picture(500, 500, (250, 240, 80))
    turn = cv2.getRotationMatrix2D((250, 240), 30, 1.0)
    image = cv2.warpAffine(image, turn, (500, 500), borderMode=cv2.BORDER_REPLICATE)
    box = find_face(image)
    assert np.hypot(box.x + box.size / 2 - 250, box.y + box.size / 2 - 240) < 20


def test_threads_find_what_one_finds():
    """A server looks at several portraits at once; a cascade that two threads share fails or finds others."""
    pictures = [picture(300 + 60 * i, 300 + 40 * i, (150, 150, 50 + 6 * i)) for i in range(4)] * 3
    alone = [find_face(image) for image in pictures]
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        for _ in range(3):
            assert list(threads.map(find_face, pictures)) == alone


@pytest.mark.parametrize("kind", ["flat", "noise", "stripes"])
def test_no_face_names_both_remedies(kind):
    rng = np.random.default_rng(0)
    image = {
        "flat": np.full((200, 300, 3), 128, np.uint8),
        "noise": cv2.GaussianBlur(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8), (0, 0), 3.0),
        "stripes": np.tile((np.arange(300) // 20 % 2 * 255).astype(np.uint8)[None, :, None], (200, 1, 3)),
    }[kind]
    with pytest.raises(InputError) as error:
        find_face(image, "sky.png")
    text = str(error.value)
    assert text.startswith("sky.png: no face")
    assert "--config.crop=x,y,size" in text
    assert "--config.crop=center" in text
    assert "\n" not in text


def test_a_very_flat_strip_is_no_crash():
    with pytest.raises(InputError):
        find_face(np.zeros((32, 4000, 3), np.uint8))


def test_crop_inside_is_exact():
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    pixels, crop = crop_square(image, "7,5,16", 16)
    assert crop == Crop(7, 5, 16)
    np.testing.assert_array_equal(pixels, image[5:21, 7:23])


def test_shrinking_averages_areas():
    image = np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels, _ = crop_square(image, "0,0,32", 8)
    means = image.reshape(8, 4, 8, 4, 3).mean((1, 3))
    assert np.abs(pixels - means).max() <= 0.51


def test_beyond_the_picture_its_colour_is_blurred_and_never_a_streak():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    image[:, 100:] //= 4  # darker to the right
    pixels, _ = crop_square(image, "-60,-40,320", 320)
    np.testing.assert_array_equal(pixels[40:240, 60:260], image)
    above = pixels[:25, 60:260].astype(float)  # away from the soft seam
    edge = image[0].astype(float)
    assert np.abs(np.diff(above, axis=1)).max() <= 2 < np.abs(np.diff(edge, axis=0)).mean()
    assert above[:, :40].mean() > above[:, -40:].mean() + 10  # the colour is that of the edge there
    flat, _ = crop_square(np.full((50, 70, 3), (9, 100, 250), np.uint8), "-30,-30,140", 96)
    np.testing.assert_array_equal(flat, np.broadcast_to(np.uint8((9, 100, 250)), flat.shape))


@pytest.mark.parametrize(
    ("box", "height", "width", "expected"),
    [
        (FaceBox(100, 100, 111), 400, 400, Crop(56, 60, 200)),  # the corpus's frame lies inside: it is taken
        (FaceBox(40, 100, 111), 400, 400, Crop(0, 60, 200)),  # shifted by 4 of 200
        (FaceBox(84, 75, 222), 390, 390, Crop(0, 0, 390)),  # the frame of 400 does not fit, 390 does
        (FaceBox(0, 100, 111), 400, 400, Crop(-44, 60, 200)),  # the face would stand at the edge
        (FaceBox(20, 20, 222), 262, 262, Crop(-69, -60, 400)),  # the face would fill the square
    ],
)
def test_the_square_stays_within_the_picture_where_it_shows_the_head(box, height, width, expected):
    assert face_crop.crop_within(box, height, width) == expected


@pytest.mark.parametrize(("width", "height", "side"), [(4032, 3024, 130), (6000, 4000, 200)])
def test_a_small_face_in_a_large_picture_is_found(width, height, side):
    r = round(side / 2.5)
    image = np.full((height, width, 3), 150, np.uint8)
    image[1000 : 1000 + 4 * r, 2000 : 2000 + 4 * r] = picture(4 * r, 4 * r, (2 * r, 2 * r, r))
    box = find_face(image)
    assert abs(box.x + box.size / 2 - 2000 - 2 * r) < 0.2 * r
    assert abs(box.y + box.size / 2 - 1000 - 2 * r) < 0.2 * r
    assert box.note is None


def test_what_is_a_face_at_one_size_only_is_neither_taken_nor_told(monkeypatch):
    image = picture(400, 500, (200, 220, 60))
    phantom = face_crop._Candidate(300.0, 400.0, 60.0, 1, 54.8, 2, "frontal")
    attempts = face_crop._attempts
    monkeypatch.setattr(face_crop, "_attempts", lambda image: [[phantom, *next(attempts(image))]])
    assert find_face(image).note is None
    monkeypatch.setattr(face_crop, "_attempts", lambda image: [[phantom]])
    with pytest.raises(InputError, match="no face"):
        find_face(image)


@pytest.mark.parametrize("where", ["-2000,-2000,2001", "1999,1999,3000", "0,-3999,4000"])
def test_a_sliver_of_picture_still_gives_a_frame(where):
    image = np.full((2000, 2000, 3), 77, np.uint8)
    pixels, _ = crop_square(image, where, 64)
    np.testing.assert_array_equal(pixels, np.full((64, 64, 3), 77, np.uint8))


def test_center_is_the_largest_central_square():
    assert parse_crop("center", 100, 160) == Crop(30, 0, 100)
    assert parse_crop(" Center ", 161, 100) == Crop(0, 30, 100)


@pytest.mark.parametrize(
    "text",
    ["", "1,2", "1,2,3,4", "a,b,c", "9,9,0", "9,9,-5", "nan,0,10", "inf,0,10", "0,0,1000000", "160,0,10", "0,-10,10"],
)
def test_bad_crops_are_told_apart_in_one_line(text):
    with pytest.raises(InputError) as error:
        parse_crop(text, 100, 160, "me.png")
    assert str(error.value).startswith(f"me.png: --config.crop={text} ")
    assert ";" in str(error.value)
    assert "\n" not in str(error.value)


def test_profile_is_framed_by_its_own_fraction():
    box = FaceBox(100, 100, 124, "profile")
    assert portrait_crop(box).size == 200

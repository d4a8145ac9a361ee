"""The whole picture: what has not moved is the photograph, what has is moved without a seam, any size, marked."""

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from sounds import write_wav
from tiny_model import save_tiny_model

from vasa_jax.data.face_crop import Crop, crop_square
from vasa_jax.errors import InputError
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.mark_search import search, small_luma
from vasa_jax.generation.paste import LONGEST, Paste, Place, writable
from vasa_jax.generation.picture_mark import picture_mark
from vasa_jax.generation.portraits import Portrait
from vasa_jax.generation.provenance import read_manifest
from vasa_jax.generation.watermark import Payload
from vasa_jax.main import main

SIDE = 64


def photograph(height, width, seed=0):
    """Soft random shapes, with fine grain over them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (height // 24 + 2, width // 24 + 2, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(picture + rng.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)


def pasted(picture, crop, rest=None, mark=None):
    """(portrait, rest, paste) of a crop of a picture; the codec errs by a tint unless told otherwise."""
    portrait, crop = crop_square(picture, crop, SIDE)
    rest = np.clip(portrait.astype(int) + (9, -7, 4), 0, 255).astype(np.uint8) if rest is None else rest
    return portrait, rest, Paste(*writable(picture, Place.of_crop(crop, SIDE)), portrait, rest, mark)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((180, 240), Crop(40, 30, 150)), ((180, 240), Crop(-20, -10, 150)), ((180, 240), Crop(120, 90, 100)),
        ((180, 240), Crop(90, 60, 41)), ((LONGEST, 2304), Crop(300, 700, 1900)),
    ],
)  # fmt: skip
def test_an_unmoved_portrait_is_the_photograph(checkpoint, size, crop):
    """Through a real codec, which makes the portrait anew with errors of its own."""
    generator = VideoGenerator.from_pretrained(checkpoint, decode_batch=4, mark=False)
    picture = photograph(*size)
    pixels, _ = crop_square(picture, crop, SIDE)
    portrait, avatar = Portrait(pixels, (), crop, picture), generator.prepare(pixels)
    still = np.repeat(avatar.motion[None], 5, 0)
    assert np.abs(next(iter(generator.render(avatar, still)))[0].astype(int) - pixels).mean() > 5
    frames = list(generator.render_whole(generator.paste(portrait, avatar), avatar, still))
    assert len(frames) == 5
    assert max(np.abs(frame.astype(int) - picture).max() for frame in frames) <= 2


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 12, 33])
@pytest.mark.parametrize("place", [(20, 20), (0, 0), (79, 59)])
def test_squares_of_a_few_pixels_are_pasted_too(size, place):
    picture = photograph(60, 80)
    _, rest, paste = pasted(picture, Crop(*place, size))
    np.testing.assert_array_equal(paste(rest), picture)
    made = paste(np.roll(rest, 5, 0)).astype(int)
    far = np.hypot(*(np.indices((60, 80)) - np.array(place[::-1])[:, None, None] - size / 2)) > 2 * size + 3
    np.testing.assert_array_equal(made[far], picture[far])


def test_a_moved_portrait_keeps_grain_and_colours():
    picture, crop = photograph(256, 256), Crop(32, 32, 192)
    _, rest, paste = pasted(picture, crop)
    out = paste(np.roll(rest, 2, 1))  # 6 pixels of the picture to the right
    inside = np.s_[90:166, 90:166]
    difference = np.abs(out[inside].astype(int) - np.roll(picture, 6, 1)[inside])
    assert difference.mean() < 4 < np.abs(out[inside].astype(int) - picture[inside]).mean()
    assert np.abs((out[inside].astype(float) - np.roll(picture, 6, 1)[inside]).mean((0, 1))).max() < 1


def test_what_is_new_is_painted_in_the_photographs_colours():
    picture, crop = photograph(256, 256), Crop(32, 32, 192)
    _, rest, paste = pasted(picture, crop)
    frame = rest.copy()
    frame[24:40, 24:40] = (250, 10, 200)  # an opened mouth
    out = paste(frame)
    seen = out[32 + 3 * 28 : 32 + 3 * 36, 32 + 3 * 28 : 32 + 3 * 36].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(seen, (250 - 9, 10 + 7, 200 - 4), atol=6)  # the codec's tint is taken back
    assert np.abs(out[:60].astype(int) - picture[:60]).max() <= 1  # and nothing else changes


def test_no_seam_and_nothing_beyond_reach():
    picture, crop = np.full((300, 300, 3), 120, np.uint8), Crop(100, 100, 100)
    rest = crop_square(picture, crop, SIDE)[0]
    _, _, paste = pasted(picture, crop, rest)
    out = paste(np.full_like(rest, 250)).astype(int)  # everything is new: the hardest frame
    assert out[150, 150].min() > 240
    steps = [np.abs(np.diff(out, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 25, "130 levels fade over ten pixels"
    np.testing.assert_array_equal(out[:100], picture[:100])
    np.testing.assert_array_equal(out[:, 200:], picture[:, 200:])
    edge = Paste(picture[100:200], Place.of_crop(Crop(100, 0, 100), SIDE), rest, rest)
    assert edge(np.full_like(rest, 250))[0, 150].min() > 240, "no fade where the picture itself ends"


def test_what_comes_in_over_an_edge_is_the_photographs():
    """Hair that the square cuts, in a nod: the codec invents what comes in from above, the photograph has it."""
    picture, crop = photograph(300, 300), Crop(60, 100, 160)
    _, rest, paste = pasted(picture, crop)
    frame = np.roll(rest, 4, 0)  # 10 pixels of the picture down
    frame[:4] = (250, 10, 200)
    out = paste(frame).astype(int)
    middle = np.s_[104:124, 110:170]
    assert np.abs(out[middle] - np.roll(picture, 10, 0)[middle]).mean() < 8, "the photograph's own, moved"
    above = np.abs(np.diff(out[60:110, 110:170].mean((1, 2))) - np.diff(picture[60:110, 110:170].mean((1, 2))))
    assert above.max() < 12, "no seam above"


def test_movement_does_not_pull_in_what_is_beyond_the_picture():
    picture = photograph(128, 128)
    _, rest, paste = pasted(picture, Crop(0, 0, 128))
    out = paste(np.concatenate([rest[:, :1]] * 3 + [rest[:, :-3]], 1)).astype(int)
    assert np.abs(out[:, 60:68] - np.roll(picture, 6, 1)[:, 60:68]).mean() < 8, "it moves"
    assert np.abs(np.diff(out[:, :6], axis=1)).mean() > 3, "no streaks: the grain goes on to the edge"


@pytest.mark.parametrize(("shape", "expected"), [((101, 75), (100, 74)), ((64, 2 * LONGEST), (32, LONGEST))])
def test_sizes_that_a_video_can_hold(shape, expected):
    picture = np.zeros((*shape, 3), np.uint8)
    crop = Crop(10, 4, 50)
    reduced, place = writable(picture, Place.of_crop(crop, SIDE))
    assert reduced.shape[:2] == expected
    factor = min(1, LONGEST / max(shape))
    corners = place.points(np.array([(-0.5, -0.5), (SIDE - 0.5, SIDE - 0.5)]))
    np.testing.assert_allclose(corners + 0.5, np.array([(10, 4), (60, 54)]) * factor)


def test_a_turned_square():
    """A square that stands at 30 degrees in the picture, as keypoint codecs cut it."""
    picture, turn = photograph(240, 240), np.radians(30)
    linear = 1.5 * np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    place = Place(linear, np.array([120, 120]) - linear @ (SIDE / 2 - 0.5, SIDE / 2 - 0.5), SIDE)
    whole = np.concatenate([linear, place.offset[:, None]], 1)
    portrait = cv2.warpAffine(picture, whole, (SIDE, SIDE), flags=cv2.INTER_AREA | cv2.WARP_INVERSE_MAP)
    paste = Paste(picture, place, portrait, portrait)
    np.testing.assert_array_equal(paste(portrait), picture)
    frame = portrait.copy()
    frame[28:36, 40:48] = (0, 255, 0)
    where = np.argwhere((paste(frame).astype(int) - picture)[..., 1] > 60).mean(0)[::-1]
    np.testing.assert_allclose(where, place.points(np.array([(43.5, 31.5)]))[0], atol=2)


@pytest.mark.parametrize("shape", [(420, 300), (300, 520)])
def test_the_mark_of_a_whole_picture_is_found(shape):
    picture, payload = photograph(*shape), Payload(0x0ABCDEF)
    added = picture_mark(picture, payload)
    assert added.shape == shape and 0.3 < added.std() < 2.5
    marked = np.clip(picture + added[..., None] + 0.5, 0, 255).astype(np.uint8)
    found = search(small_luma(marked))
    assert found.marked and found.payload == payload


def test_a_picture_too_small_for_the_mark_is_named():
    with pytest.raises(InputError, match="50 x 70 pixels are too small for the mark"):
        picture_mark(photograph(70, 50), Payload(1))


def test_the_command_writes_the_whole_turned_picture(tmp_path, checkpoint, capsys):
    with Image.open(DEMO["image"]) as image:
        stored = Image.new("RGB", (301, 401), (90, 120, 60))
        stored.paste(image.resize((200, 200)), (50, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # is to be turned clockwise
    stored.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    arguments = {"image": tmp_path / "turned.png", "audio": write_wav(tmp_path / "a.wav"), "output": tmp_path / "a.mp4",
                 "checkpoint": checkpoint, "paste": True, "steps": 1, "decode_batch": 4,
                 "crop": "50,100,200"}  # fmt: skip
    assert main(["main", "--config=configs/generate.py", *(f"--config.{k}={v}" for k, v in arguments.items())]) == 0
    assert "300 x 400, 25 fps" in capsys.readouterr().out
    with av.open(str(tmp_path / "a.mp4")) as file:
        frame = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.shape == (400, 300, 3)
    np.testing.assert_allclose(frame[:90, :40].mean((0, 1)), (90, 120, 60), atol=4)
    assert search(small_luma(frame)).marked
    state = read_manifest(tmp_path / "a.mp4")
    assert state.state == "valid" and state.edited

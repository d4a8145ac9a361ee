"""The search for the mark: exact chances without one, and every kind of copy of a marked picture."""

import cv2
import numpy as np
import pytest
from marked_pictures import smooth_pictures
from scipy.special import ndtr

from vasa_jax.generation import mark_search
from vasa_jax.generation.mark_search import SIDE, search, small_luma, tail
from vasa_jax.generation.watermark import Payload, marked

PAYLOAD = Payload(0x5A3C96F)


@pytest.fixture(scope="module", params=[256, 512])
def picture(request):
    return marked(smooth_pictures(1, request.param, seed=1), PAYLOAD)[0]


def found(picture):
    return search(small_luma(picture))


def test_tail_is_that_of_its_parts():
    """P(normal + four maxima of 256 normals) against random draws of it, and the union bound far out."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=20_000)
    for _ in range(4):
        draws += np.max(rng.normal(size=(20_000, 256)), 1)
    for level in (0.5, 0.1, 0.01, 0.002):
        total = np.quantile(draws, 1 - level)
        assert level * 0.8 < tail(total) < level * 2.5  # an upper bound, and a tight one
    assert tail(-1e3) == pytest.approx(1) and tail(1e3) == 0
    far = 10 * np.sqrt(5)  # all five in step: 256^4 payloads times one normal tail
    assert 0.01 < tail(far) / (256**4 * ndtr(-10)) < 1.5


def test_chances_hold_for_random_phases():
    """The real code on noise of any colour: p-values of one hypothesis are no smaller than they say."""
    rng = np.random.default_rng(0)
    p_values = []
    for number in range(400):
        noise = rng.normal(size=(SIDE, SIDE)).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), 0.5 + number % 4) if number % 5 else noise
        p_values.append(mark_search.as_made(mark_search.whitened(100 * noise)).p_value)
    for level in (0.3, 0.1, 0.02):
        assert np.mean(np.array(p_values) <= 2 * level) <= level + 3 * np.sqrt(level / 400)
    assert np.mean(np.array(p_values) <= 0.9) > 0.02  # not simply always one


@pytest.mark.parametrize("shape", [(240, 240), (240, 413), (51, 816)])
def test_bands_share_every_wave(shape):
    """Together they are 1 from the first size on, and fade below it: no wave counts twice, and a plane not at all."""
    bands = mark_search._bands(*shape)
    assert len(bands) == len(mark_search.BANDS) * mark_search.DIRECTIONS and bands.min() == 0
    waves = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])) * SIDE
    whole = bands.sum(0)
    np.testing.assert_allclose(whole[waves >= mark_search.BANDS[0]], 1, atol=1e-5)
    assert whole.max() < 1.00001 and not whole[waves <= mark_search.BANDS[0] / 4].any()


def test_edges_hide_no_waves_of_other_directions():
    """Whitening keeps a faint wave along loud stripes, and drops one across them."""
    place = (np.arange(SIDE) + 0.5) / SIDE
    stripes = np.where(np.random.default_rng(0).random(SIDE // 6) < 0.5, 40.0, 200.0).repeat(6)[None]
    along, across = (np.cos(2 * np.pi * 22 * axis) for axis in (place[:, None], place[None]))

    def left(wave, ground):
        """The wave's share of the whitened picture beside its share without that ground."""
        wave = np.broadcast_to(wave, (SIDE, SIDE))
        parts = [mark_search.whitened((ground + sign * wave).astype(np.float32)) for sign in (1, -1)]
        return ((parts[0] - parts[1]) * wave).mean()

    assert left(along, stripes) > 0.9 * left(along, 120.0) > 0
    assert left(across, stripes) < 0.1 * left(across, 120.0)


@pytest.mark.parametrize("seed", range(4))
def test_unmarked_pictures_stay_unmarked(seed):
    assert found(smooth_pictures(1, 256, seed)[0]).p_value > 1e-3


def test_picture_as_made(picture):
    evidence = found(picture)
    assert evidence.marked and evidence.p_value < 1e-30
    assert evidence.payload == PAYLOAD and evidence.certainty > 0.99
    assert evidence.scale == 1 and not evidence.mirrored


def changes(picture):
    side = len(picture)
    small, large = (2 * round(side * factor / 2) for factor in (0.5, 2.0))
    edge = side // 10
    yield "half", cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
    yield "double", cv2.resize(picture, (large, large), interpolation=cv2.INTER_CUBIC)
    yield "mirrored", np.ascontiguousarray(picture[:, ::-1])
    yield "cut left and top", picture[edge:, edge:]
    yield "cut right, not square", picture[:, : side - edge]
    yield "cut to two thirds", picture[side // 6 : -(side // 6), side // 6 : -(side // 6)]
    yield "bars at the sides", np.pad(picture, ((0, 0), (side // 3, side // 3), (0, 0)))
    yield "frame around", np.pad(picture, ((edge, edge), (edge, edge), (0, 0)), constant_values=200)
    yield "brighter", np.clip(picture.astype(float) * 1.1 + 5, 0, 255).astype(np.uint8)
    yield "cut and doubled", cv2.resize(picture[edge:, :-edge], (large, large), interpolation=cv2.INTER_LINEAR)
    _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 70])
    yield "JPEG", cv2.imdecode(code, cv2.IMREAD_COLOR)


def test_copies_are_found_and_read(picture):
    for name, copy in changes(picture):
        evidence = found(copy)
        assert evidence.marked and evidence.payload == PAYLOAD, (name, evidence)
        assert evidence.mirrored == (name == "mirrored"), name


@pytest.mark.parametrize("shape", [(256, 456), (400, 256)])
def test_whole_pictures_of_any_shape(shape):
    """What a face was pasted into and marked after that: found as it was made, half as large, cut, and in part."""
    ground = cv2.resize(smooth_pictures(1, 256, seed=4)[0], shape[::-1])
    shown = marked(ground[None], PAYLOAD)[0]
    copies = {
        "whole": shown,
        "half": cv2.resize(shown, (shape[1] // 2, shape[0] // 2), interpolation=cv2.INTER_AREA),
        "the face": shown[20:220, 30:230],
        "mirrored": np.ascontiguousarray(shown[:, ::-1]),
    }
    for name, copy in copies.items():
        evidence = found(copy)
        assert evidence.marked and evidence.payload == PAYLOAD, (name, evidence)
    assert found(shown).scale == 1


def test_scale_is_told(picture):
    edge = len(picture) // 10
    assert found(picture[edge:, edge:]).scale == pytest.approx(1 / 0.9, rel=0.02)


def test_payloads_and_versions_are_told_apart():
    ground = smooth_pictures(1, 256, seed=2)
    for payload in (Payload(0), Payload(1), Payload(1, 2), Payload(2**28 - 1, 15)):
        assert found(marked(ground, payload)[0]).payload == payload


def test_flat_and_tiny_pictures_are_no_error():
    for shape in ((256, 256, 3), (300, 64, 3), (1, 1, 3), (2, 900, 3)):
        picture = np.full(shape, 255)
        evidence = found(picture.astype(np.uint8))
        assert not evidence.marked and 0 < evidence.p_value <= 1

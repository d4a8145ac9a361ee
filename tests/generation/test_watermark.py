"""The invisible mark: what it is made of, what it costs in decibels, what it leaves alone."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from marked_pictures import smooth_pictures

from vasa_jax.generation import watermark
from vasa_jax.generation.watermark import Payload, embed, flat_ground, marked, pattern, shifts, waves

GOLDEN_NUMBERS = [[0, 9], [17, 21], [34, 0]]
GOLDEN_PHASES = [2.6602045, 1.278263, 5.6629727]
GOLDEN_GROUPS = [4, 3, 3, 4, 4, 0, 0, 1, 1, 4, 2, 1]


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


def test_waves_are_the_same_for_ever():
    table = waves()
    assert len(table.numbers) == 1688 and len(np.unique(table.numbers, axis=0)) == 1688
    # Half of the plane: no wave is the mirror of another.
    assert not {tuple(number) for number in table.numbers} & {tuple(-number) for number in table.numbers}
    # A change of these changes every mark ever made: raise VERSION then, and keep reading the old one.
    np.testing.assert_array_equal(table.numbers[[0, 1000, -1]], GOLDEN_NUMBERS)
    np.testing.assert_allclose(table.phases[[0, 1000, -1]], GOLDEN_PHASES, atol=1e-6)
    np.testing.assert_array_equal(table.groups[:12], GOLDEN_GROUPS)


def test_payload_goes_through_its_bits():
    for payload in (Payload(0), Payload(2**28 - 1, 15), Payload(0x1234567, 2)):
        assert Payload.from_bits(payload.bits) == payload
        assert 0 <= payload.bits < 2**32
    assert shifts(0xFA000001).tolist() == [[0, 0], [0, 1], [0, 0], [0, 0], [15, 10]]


def test_no_seed_decides_a_random_payload():
    """Whatever random state a program sets, 200 draws agree in pairs with a chance of 200^2 / 2^29, below 1e-4."""
    drawn = []
    for _ in range(200):
        random.seed(0)
        np.random.seed(0)
        drawn.append(Payload.random())
    assert len(set(drawn)) == 200 and {payload.version for payload in drawn} == {watermark.VERSION}
    identifiers = np.array([payload.identifier for payload in drawn])
    assert identifiers.min() >= 0 and identifiers.max() < 2**28
    # All 28 bits are drawn: each is set in 50 to 150 of 200 (7 standard deviations).
    ones = (identifiers[:, None] >> np.arange(28) & 1).sum(0)
    assert ones.min() >= 50 and ones.max() <= 150


@pytest.mark.parametrize("size", [64, 256, 512])
def test_pattern_is_a_sum_of_shifted_cosines(size):
    payload = Payload(0xABCDE12)
    table, move = waves(), shifts(payload.bits) / 16
    place = (np.arange(size) + 0.5) / size
    shown = np.zeros((3, size))
    for (y, x), phase, group in zip(table.numbers, table.phases, table.groups):
        if max(abs(y), abs(x)) < size // 2:
            for row, number in enumerate((0, 1, size - 1)):
                turns = y * (place[number] - move[group][0]) + x * (place - move[group][1])
                shown[row] += np.cos(2 * np.pi * turns + phase)
    found = pattern(payload, size)
    assert found.dtype == np.float32 and abs(found.mean()) < 1e-6 and abs(found.std() - 1) < 1e-5
    scale = (found[[0, 1, -1]] * shown).sum() / (shown**2).sum()
    np.testing.assert_allclose(found[[0, 1, -1]], scale * shown, atol=1e-4)


def test_pattern_refuses_pictures_that_cannot_carry_it():
    with pytest.raises(ValueError, match="63 pixels"):
        pattern(Payload(1), 63)


@pytest.mark.parametrize("size", [64, 256, 512])
def test_marked_pictures_are_44_decibels_away(size):
    rng = np.random.default_rng(0)
    hardest = rng.integers(0, 256, (1, size, size, 3), np.uint8)  # texture everywhere
    for pictures in (smooth_pictures(1, size), np.full((1, size, size, 3), 128, np.uint8), hardest):
        assert 44 < psnr(pictures, marked(pictures, Payload(7))) < 60


def test_flat_ground_changes_by_little():
    flat = np.full((1, 256, 256, 3), 90, np.uint8)
    change = marked(flat, Payload(7)).astype(int) - flat
    assert np.abs(change).max() <= 3 and (np.abs(change) > 2).mean() < 1e-3
    assert np.sqrt((change**2).mean()) < watermark.EVEN + 0.1
    assert (change[..., 0] == change[..., 1]).all() and (change[..., 0] == change[..., 2]).all()  # luma alone


@pytest.mark.parametrize("size", [256, 512])
def test_slow_gradients_change_as_little_as_flat_ground(size):
    """8-bit gradients are rounded, which is no texture; nor is the weak noise of a wall."""
    y, x = np.indices((size, size))[..., None] / size
    exact = 120 + 60 * x + 30 * y + np.array([0.0, 8.0, 25.0])
    wall = np.random.default_rng(0).normal(0, 0.3, (size, size, 1))
    for picture in (exact, exact + wall):
        picture = np.round(picture).astype(np.uint8)[None]
        change = marked(picture, Payload(7)).astype(int) - picture
        assert np.abs(change).max() <= 3 and change.std() < watermark.EVEN + 0.1


@pytest.mark.parametrize("shape", [(256, 256), (130, 201)])
def test_flat_ground_is_where_the_mark_is_faintest(shape):
    """A gradient on the left and texture on the right: the first is flat ground, but for what is near the second."""
    row, column = np.indices(shape)
    picture = np.round(100 + 0.2 * row + 0.1 * column)
    texture = np.random.default_rng(0).integers(-20, 20, shape)
    picture = np.where(column < shape[1] // 2, picture, picture + texture)
    picture = np.repeat(picture[..., None], 3, 2).astype(np.uint8)[None]
    flat = np.asarray(flat_ground(picture))[0]
    assert flat.shape == shape and flat[:, : shape[1] // 3].all() and not flat[:, shape[1] // 2 :].any()
    change = np.asarray(embed(jnp.asarray(picture, jnp.float32), np.ones(shape, np.float32)) - picture)[0, ..., 0]
    assert change[flat].max() < watermark.EVEN + 0.01 < 1.2 < change[:, shape[1] // 2 :].mean()


def test_smooth_skin_among_features_carries_more_than_a_wall():
    """A smooth patch of 16 pixels within texture, and the same patch within more of itself."""
    rng = np.random.default_rng(0)
    texture = rng.normal(128, 5, (1, 256, 256, 1)).repeat(3, 3)
    patch = texture.copy()
    patch[:, 120:136, 120:136] = 128
    wall = np.full_like(patch, 128.0)
    ones = np.ones((256, 256), np.float32)
    inside, outside = (np.asarray(embed(jnp.asarray(p), ones) - p)[0, 126:130, 126:130, 0] for p in (patch, wall))
    np.testing.assert_allclose(outside, watermark.EVEN, atol=1e-4)
    assert inside.min() > 1.01 * watermark.EVEN * watermark.LOUDEST / watermark.STEEPEST


def test_same_picture_gets_the_same_mark_in_any_batch():
    pictures = jnp.asarray(smooth_pictures(5, 64), jnp.float32)
    waves, together = pattern(Payload(3), 64), jax.jit(embed)
    every = together(pictures, waves)
    for number in range(5):
        np.testing.assert_allclose(together(pictures[number : number + 1], waves)[0], every[number], atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 64), (96, 70), (130, 131), (256, 256)])
def test_the_amplitude_is_that_of_its_definition(shape):
    """Planes fitted cell by cell, and linear interpolation between the middles of cells, in float64."""
    noise = np.random.default_rng(1).uniform(-15, 15, shape) * np.linspace(0, 1, shape[0])[:, None] ** 2
    picture = 115 + noise + 40 * np.sin(np.indices(shape)[1] / 9)
    side = min(shape) // min(watermark.CELLS, min(shape) // 4)
    whole = np.pad(picture, [(0, -length % side) for length in shape], "edge")
    whole[: 12 * side, : 12 * side] = 120  # a flat corner, larger than what is around a cell
    picture = whole[: shape[0], : shape[1]]
    rows, columns = (length // side for length in whole.shape)
    y, x = np.indices((side, side)).reshape(2, -1)
    plane = np.stack([y, x, np.ones_like(x)], 1)
    cells = whole.reshape(rows, side, columns, side).transpose(1, 3, 0, 2).reshape(side * side, -1)
    rest = cells - plane @ np.linalg.lstsq(plane, cells)[0]
    contrast = np.sqrt((rest**2).mean(0)).reshape(rows, columns)
    around = scipy.ndimage.uniform_filter(contrast**2, watermark.AROUND, mode="nearest") ** 0.5
    assert np.any(around < watermark.CALM)
    lively = np.clip((around - watermark.CALM) / (watermark.LIVELY - watermark.CALM), 0, 1)
    textured = np.minimum(watermark.SMOOTH + watermark.SLOPE * contrast, watermark.STEEPEST)
    amplitude = watermark.EVEN + lively * (textured - watermark.EVEN)
    amplitude *= min(1, watermark.LOUDEST / np.sqrt((amplitude**2).mean()))
    grid = zip(shape, (rows, columns))
    places = [np.clip((np.arange(length) + 0.5) / side - 0.5, 0, count - 1) for length, count in grid]
    wanted = scipy.ndimage.map_coordinates(amplitude, np.meshgrid(*places, indexing="ij"), order=1)
    assert wanted.min() <= watermark.EVEN < 1.4 < wanted.max()
    found = embed(jnp.asarray(np.stack([picture] * 3, -1)[None], jnp.float32), np.ones(shape, np.float32))[0]
    np.testing.assert_allclose(found - picture[..., None], np.stack([wanted] * 3, -1), atol=1e-3)


def test_nothing_flickers_where_nothing_moves():
    still = np.repeat(smooth_pictures(1, 64), 3, 0)
    frames = marked(still, Payload(3))
    assert (frames == frames[:1]).all()


@pytest.mark.parametrize("shape", [(161, 67), (101, 101)])
def test_any_frame_carries_the_mark_of_its_shorter_side(shape):
    """The pattern goes on where the square ends, and no frame is nearer than 44 dB; a square in its corner is equal."""
    payload, side = Payload(0x77), min(shape)
    waves = pattern(payload, *shape)
    square = pattern(payload, side)
    row, column = np.indices(shape) % side
    np.testing.assert_array_equal(waves, square[row, column])
    picture = np.random.default_rng(0).integers(60, 200, (2, *shape, 3), np.uint8)
    assert 44 < psnr(picture, marked(picture, payload)) < 60
    # A slow gradient hides no more than a flat colour; cells at the rim that go on evenly are left out.
    row, column = np.indices(shape)
    slope = 0.4 * row + 0.3 * column + 50
    change = np.asarray(embed(jnp.stack([slope] * 3, -1)[None], waves)[0, ..., 0]) - slope
    np.testing.assert_allclose(change[:-16, :-16], (watermark.EVEN * waves)[:-16, :-16], atol=0.02)


def test_marked_gives_what_the_animator_gives_in_any_batch():
    pictures, payload = smooth_pictures(5, 64), Payload(3)
    every = marked(pictures, payload)
    exact = np.clip(embed(jnp.asarray(pictures, jnp.float32), pattern(payload, 64)), 0, 255)
    assert every.dtype == np.uint8 and np.abs(every - exact).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(every, marked(pictures, payload, batch=2))
    assert marked(pictures[:0], payload).shape == (0, 64, 64, 3)

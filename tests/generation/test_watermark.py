"""The invisible mark: what it is made of, what it costs in decibels, what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marked_pictures import marked, smooth_pictures

from vasa_jax.generation import watermark
from vasa_jax.generation.watermark import Payload, embed, pattern, shifts, waves

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


def test_payload_of_a_portrait_is_its_own():
    pictures = smooth_pictures(2, 64)
    first = Payload.of_portrait(pictures[0])
    assert first == Payload.of_portrait(pictures[0].copy()) != Payload.of_portrait(pictures[1])
    assert first.version == watermark.VERSION


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
    assert np.abs(change).max() <= 2
    assert np.sqrt((change**2).mean()) < watermark.EVEN + 0.1
    assert (change[..., 0] == change[..., 1]).all() and (change[..., 0] == change[..., 2]).all()  # luma alone


def test_same_picture_gets_the_same_mark_in_any_batch():
    pictures = jnp.asarray(smooth_pictures(5, 64), jnp.float32)
    waves, together = pattern(Payload(3), 64), jax.jit(embed)
    every = together(pictures, waves)
    for number in range(5):
        np.testing.assert_allclose(together(pictures[number : number + 1], waves)[0], every[number], atol=1e-4)


def test_nothing_flickers_where_nothing_moves():
    still = np.repeat(smooth_pictures(1, 64), 3, 0)
    frames = marked(still, Payload(3))
    assert (frames == frames[:1]).all()


def test_zeros_change_no_bit():
    pictures = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)), jnp.float32)
    np.testing.assert_array_equal(jax.jit(embed)(pictures, jnp.zeros((64, 64))), pictures)


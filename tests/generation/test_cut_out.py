"""A person before a busy wall: a matte that took parts of the wall for the person is corrected, a good one stays."""

import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.generation.animator import FADE, NEAR, _reached
from vasa_jax.generation.cut_out import cut_out, distance_from

SIDE = 128
Y, X = np.mgrid[:SIDE, :SIDE]
POSE = np.asarray([1, 0, 0, 0, 1, 0, np.log(0.75), 0, 50 / 64 - 1], np.float32)  # the disc within HAIR
PERSON = (np.hypot(X - 64, Y - 50) < 26) | ((np.abs(X - 64) < 44) & (Y > 84))


def picture():
    """A person of one range of colours before stripes of others."""
    rng = np.random.default_rng(0)
    wall = np.where((X // 6 % 2)[..., None] > 0, (40, 70, 160), (60, 130, 90))
    colours = np.where(PERSON[..., None], (205, 160, 130), wall) + rng.normal(0, 6, (SIDE, SIDE, 3))
    return np.clip(colours, 0, 255).astype(np.uint8)


def with_wall():
    """The matte of a codec that takes a window beside the head for the head."""
    matte = PERSON.astype(np.float32)
    matte[20:70, 90:112] = 1.0
    return matte


def test_what_is_of_the_walls_colours_is_no_person():
    found = cut_out(picture(), with_wall(), POSE)
    assert (found[24:66, 96:110] < 0.1).all()
    assert ((found > 0.5) == PERSON).mean() > 0.97
    assert (found <= with_wall() + 1e-6).all()
    np.testing.assert_array_equal(found, cut_out(picture(), with_wall(), POSE))


def test_holes_are_filled_and_a_larger_picture_is_cut_alike():
    small = picture()
    small[48:52, 60:64] = (50, 100, 120)  # a bead of the wall's colour
    found = cut_out(small, with_wall(), POSE)
    assert found[44:56, 56:68].min() > 0.9
    wide = np.kron(with_wall(), np.ones((4, 4), np.float32))
    large = cut_out(np.kron(small, np.ones((4, 4, 1), np.uint8)), wide, POSE)
    assert large.shape == (4 * SIDE, 4 * SIDE)
    assert ((large[2::4, 2::4] > 0.5) == (found > 0.5)).mean() > 0.97


@pytest.mark.parametrize("matte", [np.ones((SIDE, SIDE)), np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), 0.5)])
def test_a_matte_that_says_nothing_stays(matte):
    matte = matte.astype(np.float32)
    np.testing.assert_array_equal(cut_out(picture(), matte, POSE), matte)


def test_leaves_over_the_head_are_no_hair():
    """Nothing of their colour is outside the matte, so that colour alone would leave them to the person."""
    leafy, matte = picture(), PERSON.astype(np.float32)
    leafy[:24, :30] = (20, 40, 20)
    matte[:24, :30] = 1.0
    found = cut_out(leafy, matte, POSE)
    assert (found[:22, :28] < 0.1).all()
    assert ((found > 0.5) == PERSON).mean() > 0.97
    wide = cut_out(leafy, matte, POSE + np.float32([0, 0, 0, 0, 0, 0, np.log(2.0), 0, 0]))  # hair as wide as that
    assert (wide[:22, :28] > 0.9).all()


def test_distances_are_those_of_the_person():
    away = distance_from(PERSON.astype(np.float32))
    assert (away[PERSON] == 0).all()
    assert away[50, 5] == pytest.approx((64 - 26 - 5 + 0.5) * 2 / SIDE, abs=0.02)
    assert (distance_from(np.zeros((8, 8), np.float32)) == 0).all() and (distance_from(np.ones((8, 8))) == 0).all()


def test_a_head_is_seen_as_far_as_it_can_have_come():
    own = jnp.asarray([[1.0, 0, 0, 0, 1, 0, 0, 0, 0]])
    away = jnp.asarray([[0.0, NEAR - FADE, NEAR + FADE, 0.5]])
    still = _reached(away, own, own)[0, 0, :, 0]
    np.testing.assert_allclose(still, [1, 1, 0, 0])
    moved = _reached(away, own, own.at[0, 7].set(0.5))[0, 0, :, 0]
    np.testing.assert_allclose(moved, [1, 1, 1, 1])

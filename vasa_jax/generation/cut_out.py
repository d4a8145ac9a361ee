"""Where a portrait's person ends: a network's matte, corrected by the colours of this one picture.

GrabCut (Rother, Kolmogorov and Blake 2004) starts from the matte and divides by colour what it is not sure of. Where
person and background have one colour it errs, and there it does not show. Before busy backgrounds a codec takes parts
of a room for the head, and is sure of it; the portrait matte (models/portrait_matte.py) seldom does.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

SIDE = 256  # pixels at which the picture is divided
ROUNDS = 4
LEAST = 0.6  # of the matte's area: what is smaller is no person, and the matte stays
RIM = 1 / 128  # of the side: what the person's soft outline takes
HAIR = 0.85  # halves of the side, of a head of scale 1: above its middle nothing of it is further away, but wide hair


class Trust(NamedTuple):
    """When a pixel is taken for background and for the person without asking its colour."""

    low: float  # below this share
    high: float  # above this one
    core: float  # and so far inside, of the side


CODEC, PORTRAIT_MATTE = Trust(0.05, 0.97, 1 / 12), Trust(0.2, 0.8, 0.0)


def cut_out(
    portrait: UInt8[np.ndarray, "n n 3"],
    matte: Float[np.ndarray, "n n"],
    pose: Float[np.ndarray, "9"],
    trust: Trust = CODEC,
) -> Float[np.ndarray, "n n"]:
    """Returns the person's share of each pixel, at most the matte's.

    Beyond HAIR the matte is not believed: roofs and leaves over a head are taken for hair. Such pixels begin as
    background, and are the person's where their colours are. pose: the head's log scale and place are used. The matte
    itself where it leaves no background, and where the division finds less than LEAST of a person.
    """
    import cv2

    size, side = len(portrait), min(len(portrait), SIDE)
    picture = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    given = cv2.resize(matte.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    reach = round(side * trust.core)
    core = cv2.erode((given > trust.high).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    far = _far_above(pose, side)
    core &= ~far
    kinds = np.where((given < 0.5) | far, cv2.GC_PR_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    kinds[given < trust.low] = cv2.GC_BGD
    kinds[core] = cv2.GC_FGD
    if not (core.any() and (given < trust.low).any()):
        return matte
    cv2.setRNGSeed(0)  # the colours are grouped from a random start
    cv2.grabCut(picture[..., ::-1].copy(), kinds, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS,
                cv2.GC_INIT_WITH_MASK)  # fmt: skip
    person = _whole(np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8), core)
    if person.sum() < LEAST * (given > 0.5).sum():
        return matte
    rim = max(round(side * RIM), 1)
    soft = cv2.GaussianBlur(cv2.dilate(person, np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)).astype(np.float32),
                            (0, 0), rim)  # fmt: skip
    return np.minimum(matte, cv2.resize(soft, (size, size), interpolation=cv2.INTER_LINEAR))


def distance_from(person: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Returns how far each pixel is from the person, in halves of the side; 0 inside, and everywhere if nobody is."""
    import cv2

    if not (person > 0.5).any():
        return np.zeros_like(person)
    away = cv2.distanceTransform((person <= 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return away * np.float32(2.0 / len(person))


def _far_above(pose: Float[np.ndarray, "9"], side: int) -> Bool[np.ndarray, "n n"]:
    """Which pixels lie higher than the head's middle and further from it than its hair."""
    axis = (2.0 * np.arange(side) + 1.0) / side - 1.0
    x, y = np.meshgrid(axis - pose[7], axis - pose[8])
    return (y < 0.0) & (np.hypot(x, y) > HAIR * np.exp(pose[6]))


def _whole(person: UInt8[np.ndarray, "n n"], core: Bool[np.ndarray, "n n"]) -> UInt8[np.ndarray, "n n"]:
    """The pieces that hold a part of the core, without holes that do not reach the picture's edge."""
    import cv2

    _, pieces = cv2.connectedComponents(person, connectivity=4)
    kept = np.isin(pieces, np.unique(pieces[core & (person > 0)]))
    _, outside = cv2.connectedComponents((~kept).astype(np.uint8), connectivity=4)
    edge = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
    return (kept | ~np.isin(outside, np.setdiff1d(edge, 0))).astype(np.uint8)

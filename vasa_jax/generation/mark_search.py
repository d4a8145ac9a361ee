"""Finds the mark of `watermark.py` in a picture or in the mean of many frames, blindly, and says how sure it is.

The mean luma is whitened in bands of size and direction, so that flat ground and strong edges weigh alike: an edge is
loud in one direction, and hides nothing in the others. Under a hypothesis of scale, offset and mirroring its Fourier
phases at the waves of the mark are compared with the mark's own. Without a mark these differences are uniform whatever
the picture shows, because the mark's phases were drawn without looking at it. So each group's sum of cosines, over its
standard deviation, is a standard normal number, and the p-value needs no training. It is the tail of a sum of one such
number and of four maxima over 256 (one per byte). It is multiplied by the number of hypotheses tried (Bonferroni). Half
of the error is spent on the picture as it was made, the rest on cut, scaled or mirrored copies.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from vasa_jax.generation.watermark import GROUPS, HIGHEST, LUMA, STEPS, Payload, waves

SIDE = 192  # pixels of the shorter side at which pictures are searched
LONGEST = 4  # times SIDE, of the longer side
BANDS = (10, 36)  # cycles per SIDE, where bands of size are highest; the last goes on to the finest
DIRECTIONS = 4  # bands of direction
NEAR = 3.0  # pixels: standard deviation of the neighbourhoods in which a band's deviation is taken
WHITENING = 1.4  # power of the deviation that is divided by; over 1, since texture hides a mark more than flat ground
QUIET = 0.05  # squared levels added to a band's variance: below there are rounding and codes only
MARGIN = 24  # pixels beyond the rim, where the picture is mirrored, so that bands do not wrap around
GRID = 128  # offsets tried per axis of the marked square
SCALES = 1.02 ** np.arange(-14, 28)  # side of the marked square over the shorter side: 0.76 to 1.71
PLAIN = 1e-12  # p-value of the picture as it was made below which no other hypothesis is tried
SURE = 1e-6  # a p-value up to this says that a picture is marked
HEAVIEST = 1.5  # weight of a wave at most, in medians of the magnitudes around it


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the search of one picture found.

    p_value: chance of as much evidence in an unmarked picture, an upper bound; payload: the likeliest one; certainty:
    the probability that it is read right, given a mark; scale, mirrored: of the best hypothesis.
    """

    p_value: float
    payload: Payload
    certainty: float
    scale: float
    mirrored: bool

    @property
    def marked(self) -> bool:
        """Whether the picture is marked beyond reasonable doubt."""
        return self.p_value <= SURE


def small_luma(frame: np.ndarray) -> np.ndarray:
    """Returns the luma of a frame, uint8 (H, W, 3), float32, at SIDE pixels of its shorter side; of strips at fewer."""
    import cv2

    height, width = frame.shape[:2]
    luma = frame.astype(np.float32) @ np.array(LUMA, np.float32)
    factor = min(SIDE / min(height, width), LONGEST * SIDE / max(height, width))
    if factor == 1:
        return luma
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return cv2.resize(luma, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def whitened(luma: np.ndarray) -> np.ndarray:
    """Returns the luma (H, W) as a sum of bands, each divided by a power of its local deviation."""
    import cv2
    import scipy.fft

    padded = np.pad(luma.astype(np.float32, copy=False), MARGIN, "reflect")
    spectrum = scipy.fft.rfft2(padded)
    total = np.zeros_like(padded)
    for band in _bands(*padded.shape):
        part = scipy.fft.irfft2(spectrum * band, padded.shape)
        total += part / (cv2.GaussianBlur(part * part, (0, 0), NEAR) + QUIET) ** (WHITENING / 2)
    return total[MARGIN:-MARGIN, MARGIN:-MARGIN]


@functools.lru_cache(maxsize=4)
def _bands(height: int, width: int) -> np.ndarray:
    """Shares of every band in the half spectrum of a picture, float32 (bands, H, W // 2 + 1).

    They sum to 1 from the first size of BANDS on; slower waves fade, and at a third of it they are gone.
    """
    down, right = np.fft.fftfreq(height)[:, None] * SIDE, np.fft.rfftfreq(width)[None] * SIDE
    sizes, steps = np.log(np.maximum(np.hypot(down, right), 1e-3)), np.log(BANDS)
    turns = np.arctan2(down, right) / np.pi * DIRECTIONS
    bands = []
    for index, step in enumerate(steps):
        away = np.abs(sizes - step) / (steps[1] - steps[0])
        if index == len(steps) - 1:
            away = np.where(sizes > step, 0, away)
        for direction in range(DIRECTIONS):
            aside = np.abs((turns - direction + DIRECTIONS / 2) % DIRECTIONS - DIRECTIONS / 2)
            bands.append(_bump(away) * _bump(aside))
    return np.stack(bands).astype(np.float32)


def _bump(away: np.ndarray) -> np.ndarray:
    """1 at distance 0, 0 from 1 on; the bumps around whole numbers sum to 1."""
    return np.where(away < 1, np.cos(np.pi / 2 * away) ** 2, 0)


def search(luma: np.ndarray, watch: Callable[[np.ndarray], None] | None = None) -> Evidence:
    """Returns the best evidence for a mark in a luma (H, W) as `small_luma` or a mean of those gives it.

    watch: sees the sums (GRID, GRID) of every scale and mirroring that is tried, to test what `tail` says of them.
    """
    # The products are small: threads that wait for each other take eight times as long as one.
    with _algebra().limit(limits=1):
        return _search(whitened(luma), watch or (lambda sums: None))


@functools.cache
def _algebra():
    import threadpoolctl

    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _search(white: np.ndarray, watch: Callable[[np.ndarray], None]) -> Evidence:
    best = as_made(white)
    for scale in SCALES if best.p_value > PLAIN else ():
        spectrum = _spectrum(white, scale)
        rows, columns = (_places(length, scale * SIDE) for length in white.shape)
        for mirrored in (False, True):
            planes = _planes(_mirrored(spectrum, white.shape[1] / (scale * SIDE)) if mirrored else spectrum)
            sums = _sums(planes)
            watch(sums)
            sums = sums[np.ix_(columns, rows)]
            column, row = np.unravel_index(sums.argmax(), sums.shape)
            p_value = 2 * (2 * len(SCALES)) * sums.size * tail(sums[column, row])
            if p_value < best.p_value:
                best = _evidence(planes, (rows[row], columns[column]), p_value, scale, mirrored)
    return best


def as_made(white: np.ndarray) -> Evidence:
    """Returns the evidence that a whitened luma is the marked square as it was made: uncut, not mirrored."""
    planes = _planes(_spectrum(white, 1.0))
    return _evidence(planes, (0, 0), 2 * tail(_sums(planes)[0, 0]), 1.0, False)


def _evidence(planes: np.ndarray, place: tuple, p_value: float, scale: float, mirrored: bool) -> Evidence:
    """What the planes say with the square's first pixel at a place (y, x) of the grid."""
    stride = GRID // STEPS
    moved = np.roll(planes, (-place[1], -place[0]), (1, 2))[:, ::stride, ::stride]
    scores = moved.transpose(0, 2, 1).reshape(GROUPS, -1).astype(float)
    strength = (scores[0, 0] + scores[1:].max(1).sum()) / GROUPS
    bits, certainty = 0, 1.0
    for byte, score in enumerate(scores[1:]):
        bits |= int(score.argmax()) << 8 * byte
        # Bayes with equal priors: a byte's likelihood is exp(strength * score).
        certainty /= np.exp(strength * (score - score.max())).sum()
    return Evidence(min(float(p_value), 1.0), Payload.from_bits(bits), float(certainty), float(scale), mirrored)


def _places(length: int, side: float) -> np.ndarray:
    """Grid places, modulo GRID, of the square's first pixel along an axis: the picture is part of it, or holds it."""
    first, last = sorted((0.0, length / side - 1))
    return np.unique(np.arange(np.floor(first * GRID) - 1, np.ceil(last * GRID) + 2).astype(int) % GRID)


def _spectrum(white: np.ndarray, scale: float) -> np.ndarray:
    """Fourier coefficients, y from 0 and x from -HIGHEST, of a square whose side is `scale` shorter sides."""
    rows = _exponentials(0, white.shape[0], float(scale))
    columns = _exponentials(-HIGHEST, white.shape[1], float(scale))
    return (rows.real @ white + 1j * (rows.imag @ white)) @ columns.T


@functools.lru_cache(maxsize=512)
def _exponentials(first: int, length: int, scale: float) -> np.ndarray:
    numbers = np.arange(first, HIGHEST + 1)
    places = (np.arange(length) + 0.5) / (scale * SIDE)
    return np.exp(-2j * np.pi * numbers[:, None] * places).astype(np.complex64)


def _mirrored(spectrum: np.ndarray, width: float) -> np.ndarray:
    """The spectrum of the picture mirrored left to right; `width` of the picture in sides of the square."""
    numbers = np.arange(-HIGHEST, HIGHEST + 1)
    return spectrum[:, ::-1] * np.exp(-2j * np.pi * numbers * width).astype(np.complex64)


def _planes(spectrum: np.ndarray) -> np.ndarray:
    """Standard scores (5, GRID, GRID) of every group at every place (x, y); standard normal without a mark."""
    import scipy.fft

    rows, columns, groups, phases, by_size = _table()
    values = spectrum[rows, columns + HIGHEST]
    weights = _weights(np.abs(values), by_size)
    values = values * (weights / np.maximum(np.abs(values), 1e-12)) * phases
    energy = np.maximum(np.bincount(groups, weights * weights, GROUPS), 1e-12)  # 0: a picture without any texture
    planes = np.zeros((GROUPS, GRID, HIGHEST + 1), np.complex64)
    planes[groups, columns, rows] = values
    flat = rows == 0
    planes[groups[flat], -columns[flat], 0] = values[flat].conj()
    # y last: the half axis of a real transform, most of which is empty here.
    scores = scipy.fft.irfft(scipy.fft.ifft(planes, axis=1), GRID, axis=2)
    return scores * (GRID**2 / np.sqrt(2 * energy)[:, None, None]).astype(np.float32)


@functools.cache
def _table() -> tuple[np.ndarray, ...]:
    table = waves()
    rows, columns = table.numbers.T
    by_size = np.argsort((table.numbers**2).sum(1), kind="stable")
    return rows, columns, table.groups, np.exp(-1j * table.phases).astype(np.complex64), by_size


def _weights(magnitudes: np.ndarray, by_size: np.ndarray) -> np.ndarray:
    """Weights of the waves: magnitude over the median of waves of like number, up to HEAVIEST.

    Waves that compression has erased count little, those of strong content no more than others. Weights look at
    magnitudes alone, so that phases stay uniform.
    """
    import scipy.ndimage

    ordered = magnitudes[by_size]
    weights = np.empty_like(magnitudes)
    medians = scipy.ndimage.median_filter(ordered, 121, mode="nearest")
    weights[by_size] = np.minimum(ordered / np.maximum(medians, 1e-12), HEAVIEST)
    return weights


def _sums(planes: np.ndarray) -> np.ndarray:
    """The group in place plus the best shift of each other group, (GRID, GRID): what `tail` is the tail of."""
    stride = GRID // STEPS
    best = planes[1:].reshape(GROUPS - 1, STEPS, stride, GRID).max(1)
    best = best.reshape(GROUPS - 1, stride, STEPS, stride).max(2).sum(0)
    return planes[0] + np.tile(best, (STEPS, STEPS))


def tail(total: float) -> float:
    """Returns the probability, never too small, that `_sums` reaches `total` at one place of an unmarked picture."""
    first, step, survival = _survival()
    index = int(np.floor((total - first) / step))
    return float(survival[np.clip(index, 0, len(survival) - 1)])


def level_of(p_value: float) -> float:
    """Returns the least total whose `tail` is no more than a p-value."""
    first, step, survival = _survival()
    return first + step * int(np.argmax(survival <= p_value))


@functools.cache
def _survival() -> tuple[float, float, np.ndarray]:
    """(first total, step, P(total or more)) of a normal number plus one maximum of 256 for each byte.

    P(maximum > m) <= 256 P(normal > m), whatever the dependence. Masses are moved to the upper end of their cell, which
    can only raise the tail; sums of positive masses keep their relative precision far out.
    """
    from scipy.special import ndtr

    step, first, last = 0.01, -10.0, 38.0
    edges = first + step * np.arange(round((last - first) / step) + 1)
    normal = ndtr(-edges)
    maximum = np.minimum(1.0, STEPS**2 * normal)
    total = -np.diff(normal, append=0.0)
    for _ in range(GROUPS - 1):
        total = np.convolve(total, -np.diff(maximum, append=0.0))
    survival = np.minimum(1.0, np.cumsum(total[::-1])[::-1])
    return GROUPS * (first + step), step, survival

"""The invisible mark: a fixed pattern in the luma of every generated frame, which carries 32 bits.

The pattern is a sum of cosines whose wave numbers fill a ring of the frequency plane: fine enough to hide in a picture,
coarse enough to outlive H.264 and scaling. Their phases are drawn once, for ever, by a hash. The waves belong to five
groups. One group stays in place; each of the others is shifted over a grid of 16 x 16 places, which is a byte. This is
spread spectrum in Fourier space. A shift, a crop or a scale of the picture moves phases in a known way, and
`mark_search.py` reads them.

It is the same in every frame: nothing flickers, and the mean of many frames keeps it while the moving head blurs.
"""

import dataclasses
import functools
import hashlib
import secrets

import jax
import jax.numpy as jnp
import numpy as np

VERSION = 1  # of the mark's layout and of this list of waves; 4 bits
LOWEST, HIGHEST = 9, 34  # cycles per side of the picture
GROUPS = 5  # one in place, and one for each byte
STEPS = 16  # places per axis of a shifted group
SMALLEST = 64  # pixels per side; smaller pictures cannot carry the waves

# Amplitudes, in levels of 255, as standard deviations over the picture.
EVEN = 0.5  # on flat ground, slow gradients too: nothing hides the mark there
SMOOTH = 0.8  # of a cell that is even itself, such as skin, where the ground around it is not
SLOPE = 2.0  # gained per level of contrast of the cell
STEEPEST = 2.0  # of any cell: codecs drop what is faint everywhere, so an even mark is better than loud textures
LOUDEST = 1.55  # root mean square over a frame: at least 44 dB against the unmarked frame
# Levels of contrast around a cell. Up to the first its ground is flat: the rounding of a gradient is 0.3, its noise may
# be a little more. From the second on grain is not seen.
CALM, LIVELY = 0.45, 1.2
AROUND = 9  # cells per side of that neighbourhood
CELLS = 64  # per side, in which the texture is measured
LUMA = (0.299, 0.587, 0.114)  # BT.601


@dataclasses.dataclass(frozen=True)
class Waves:
    """The cosines of the mark, one per row; half of the plane, since the other half mirrors it.

    numbers: int (N, 2), cycles per side along y and x; phases: float (N,), radians; groups: int (N,), 0 to 4.
    """

    numbers: np.ndarray
    phases: np.ndarray
    groups: np.ndarray


@functools.cache
def waves() -> Waves:
    """Returns the waves of the mark; the same on every machine, because SHA-256 draws them."""
    span = range(-HIGHEST, HIGHEST + 1)
    numbers = np.array(
        [
            (y, x)
            for y in range(HIGHEST + 1)
            for x in span
            if (y > 0 or x > 0) and LOWEST**2 <= y * y + x * x <= HIGHEST**2
        ]
    )
    draws = np.array([_uniform(f"vasa_jax mark {y} {x}") for y, x in numbers])
    groups = np.empty(len(numbers), np.int64)
    groups[np.argsort(draws[:, 1])] = np.arange(len(numbers)) % GROUPS
    return Waves(numbers, 2 * np.pi * draws[:, 0], groups)


def _uniform(name: str) -> tuple[float, float]:
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48, int.from_bytes(digest[6:12], "big") / 2**48


@dataclasses.dataclass(frozen=True)
class Payload:
    """What a mark says: the version of the mark (1 to 15) and an identifier (28 bits)."""

    identifier: int
    version: int = VERSION

    @classmethod
    def random(cls) -> "Payload":
        """Returns the payload of a new output. The system draws it, not a seed: no two files have one by design."""
        return cls(secrets.randbits(28))

    @classmethod
    def from_bits(cls, bits: int) -> "Payload":
        """Returns the payload of a 32-bit number."""
        return cls(bits & 0xFFFFFFF, bits >> 28)

    @property
    def bits(self) -> int:
        """The payload as a 32-bit number."""
        return self.version << 28 | self.identifier

    def __str__(self) -> str:
        return f"{self.identifier:07x}"


def shifts(bits: int) -> np.ndarray:
    """Returns the shift of each group, int (5, 2) along y and x, in sixteenths of the picture's side."""
    values = [bits >> 8 * byte & 255 for byte in range(GROUPS - 1)]
    return np.array([(0, 0), *((value // STEPS, value % STEPS) for value in values)])


def pattern(payload: Payload, height: int, width: int | None = None) -> np.ndarray:
    """Returns the mark's pattern, float32 (height, width), by default a square, of mean 0 and variance 1 in its period.

    The marked square is as large as the shorter side. It repeats along the longer one, where its waves go on unbroken.
    """
    width = height if width is None else width
    size = min(height, width)
    if size < SMALLEST:
        raise ValueError(f"a picture of {size} pixels a side cannot carry a mark; {SMALLEST} is the least")
    square = _square(payload, size)
    return square if height == width else np.pad(square, ((0, height - size), (0, width - size)), "wrap")


def _square(payload: Payload, size: int) -> np.ndarray:
    table = waves()
    numbers = table.numbers
    carried = np.abs(numbers).max(1) < size // 2
    # Pixel centres are at (i + 1/2) / size, so that scaled pictures carry the same waves.
    moved = shifts(payload.bits)[table.groups] / STEPS - 0.5 / size
    phases = table.phases - 2 * np.pi * (numbers * moved).sum(1)
    spectrum = np.zeros((size, size), np.complex128)
    spectrum[numbers[carried, 0] % size, numbers[carried, 1] % size] = np.exp(1j * phases[carried])
    picture = np.fft.ifft2(spectrum).real
    return (picture / picture.std()).astype(np.float32)


def marked(pictures: np.ndarray, payload: Payload, batch: int = 8) -> np.ndarray:
    """Returns pictures of any size, uint8 (N, H, W, 3), with the mark of a payload; `batch` are computed at once.

    For frames that are made here and changed later, such as a face that is pasted into a whole picture: what is marked
    is what leaves. ValueError for a side below SMALLEST.
    """
    waves = _last_pattern(payload, *pictures.shape[1:3])
    parts = [np.asarray(finished(pictures[start : start + batch], waves)) for start in range(0, len(pictures), batch)]
    return np.concatenate(parts) if parts else pictures.copy()


@functools.lru_cache(maxsize=2)
def _last_pattern(payload: Payload, height: int, width: int) -> jax.Array:
    return jnp.asarray(pattern(payload, height, width))


# A program of its own, not a part of the decoder's: there a CPU's compiler computes the decoder's last layers anew for
# every sum over cells, which costs a fifth of decoding.
@jax.jit
def finished(pictures: jax.Array, pattern: jax.Array | None) -> jax.Array:
    """Returns uint8 frames of pictures (N, H, W, 3) in levels, marked with a pattern (H, W); None = unmarked."""
    pictures = pictures.astype(jnp.float32)
    # None is part of the compiled function: an unmarked frame pays for no mark.
    return rounded(pictures if pattern is None else embed(pictures, pattern))


def rounded(pictures: jax.Array) -> jax.Array:
    """Returns float32 pictures in levels as the uint8 that are written."""
    return jnp.clip(pictures + 0.5, 0.0, 255.0).astype(jnp.uint8)


def embed(pictures: jax.Array, pattern: jax.Array) -> jax.Array:
    """Returns marked pictures (N, H, W, 3), float32 in [0, 255], not rounded, of a pattern (H, W).

    The amplitude is EVEN on flat ground. Where there is texture it follows the contrast of each cell. It is never more
    than LOUDEST over a frame. A cell alone cannot tell a wall from skin, which is smooth as well but has features near
    it: the neighbourhood says where grain would be seen.
    """
    height, width = pictures.shape[1:3]
    cell, contrast, lively = _cells(pictures)
    amplitude = EVEN + lively * (jnp.minimum(SMOOTH + SLOPE * contrast, STEEPEST) - EVEN)
    loudness = jnp.sqrt((amplitude * amplitude).mean((1, 2), keepdims=True))
    amplitude = _enlarged(amplitude * jnp.minimum(1.0, LOUDEST / loudness), cell)
    return pictures + (amplitude[:, :height, :width] * pattern)[..., None]


@jax.jit
def flat_ground(pictures: jax.Array) -> jax.Array:
    """Returns where pictures (N, H, W, 3) in levels are flat or slow gradients, bool (N, H, W): EVEN is added there."""
    height, width = pictures.shape[1:3]
    cell, _, lively = _cells(pictures.astype(jnp.float32))
    # Amplitudes are interpolated: the cells around count as well.
    near = jax.lax.reduce_window(lively, 0.0, jax.lax.max, (1, 3, 3), (1, 1, 1), "SAME")
    return jnp.repeat(jnp.repeat(near == 0, cell, 1), cell, 2)[:, :height, :width]


def _cells(pictures: jax.Array) -> tuple[int, jax.Array, jax.Array]:
    """Returns the pixels per side of cells, the contrast of each (N, R, C), and how lively its ground is, 0 to 1."""
    height, width = pictures.shape[1:3]
    size = min(height, width)
    cell = size // min(CELLS, size // 4)
    red, green, blue = LUMA
    luma = red * pictures[..., 0] + green * pictures[..., 1] + blue * pictures[..., 2]
    contrast = _contrast(jnp.pad(luma, ((0, 0), (0, -height % cell), (0, -width % cell)), "edge"), cell)
    return cell, contrast, jnp.clip((jnp.sqrt(_around(contrast**2)) - CALM) / (LIVELY - CALM), 0.0, 1.0)


# Both are written as sums of whole rows: reductions and products over cells take a CPU six times as long.


def _contrast(luma: jax.Array, cell: int) -> jax.Array:
    """Returns the deviation (N, R, C) of cells of a luma (N, R c, C c) from planes: a slow gradient hides nothing."""
    rows = [luma[:, place::cell] for place in range(cell)]
    row_mean, inside, down = _mean(rows), _variance(rows), _slope(rows)
    columns = [row_mean[..., place::cell] for place in range(cell)]
    inside, down = (_mean([value[..., place::cell] for place in range(cell)]) for value in (inside, down))
    return jnp.sqrt(jnp.maximum(inside + _variance(columns) - down**2 - _slope(columns) ** 2, 0.0))


def _around(cells: jax.Array) -> jax.Array:
    """Returns the mean (N, R, C) of the AROUND x AROUND cells around each; the outermost go on beyond the rim."""
    reach, (rows, columns) = AROUND // 2, cells.shape[1:]
    padded = jnp.pad(cells, ((0, 0), (reach, reach), (reach, reach)), "edge")
    tall = _mean([padded[:, start : start + rows] for start in range(AROUND)])
    return _mean([tall[..., start : start + columns] for start in range(AROUND)])


def _mean(values: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, values) / len(values)


def _variance(values: list[jax.Array]) -> jax.Array:
    mean = _mean(values)
    return _mean([(value - mean) ** 2 for value in values])


def _slope(values: list[jax.Array]) -> jax.Array:
    """The deviation that a straight line through equidistant values has."""
    place = np.arange(len(values)) - (len(values) - 1) / 2
    place /= np.sqrt((place**2).mean())
    return _mean([float(weight) * value for weight, value in zip(place, values)])


def _enlarged(cells: jax.Array, cell: int) -> jax.Array:
    """Interpolates (N, R, C) linearly to pixels (N, R c, C c); the outermost cells continue to the rim."""
    count, rows, columns = cells.shape
    place = np.clip((np.arange(columns * cell) + 0.5) / cell - 0.5, 0, columns - 1)
    wide = cells @ np.maximum(0, 1 - np.abs(place - np.arange(columns)[:, None])).astype(np.float32)
    above = jnp.concatenate([wide[:, :1], wide[:, :-1]], 1)
    below = jnp.concatenate([wide[:, 1:], wide[:, -1:]], 1)
    place = ((np.arange(cell) + 0.5) / cell - 0.5).astype(np.float32)[:, None]
    upper, lower = np.maximum(-place, 0), np.maximum(place, 0)
    tall = (1 - upper - lower) * wide[:, :, None] + upper * above[:, :, None] + lower * below[:, :, None]
    return tall.reshape(count, rows * cell, columns * cell)

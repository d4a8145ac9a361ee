"""What the portrait matte learns from: photographs as they are, and their people before other backgrounds."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.corpus.photos.backdrops import dead_leaves
from vasa_jax.corpus.photos.draw import PhotoRenderer
from vasa_jax.corpus.photos.still_pairs import drawn_in_place
from vasa_jax.corpus.photos.store import read_heads
from vasa_jax.corpus.photos.topology import Mesh
from vasa_jax.data.image_files import read_image
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint
from vasa_jax.models.geometry import bilinear_sample, pixel_grid
from vasa_jax.models.portrait_matte import SIDE
from vasa_jax.rng import named_key
from vasa_jax.training.augmentation import apply_colour_transform, sample_colour_transform
from vasa_jax.training.degradation import degrade
from vasa_jax.training.processes import ProcessPart

SCENE = 320  # pixels of a picture of a place: room to choose a part from
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
ZOOM, SHIFT, TURN = (0.95, 1.3), 0.1, 0.2  # of the framing; halves of the side; radians
NEARER = (0.4, 1.0)  # share of a place that is seen
BLUR = (-1.5, 5.0)  # pixels, of a background behind the head's focus; below 0 it is sharp
COLOURS, DEGRADED = 0.7, 0.5  # shares of the pictures whose colours, whose quality change
CUT = 0.6  # of the person's share, up to which a new background may take it: a rim has colours of the old one


class Stills(NamedTuple):
    """Portraits (N, 256, 256, ...), uint8: the photograph, the person's share of it, and what is behind them."""

    square: np.ndarray
    matte: np.ndarray
    background: np.ndarray


def read_stills(folder: str, held_out: float, mesh: Mesh) -> dict[str, Stills]:
    """Returns the portraits of job fit_photos' folder, "train" and "heldout", apart by photograph.

    Which are held out follows from their names alone. InputError for a folder without heads.
    """
    heads = read_heads(folder)
    names = [Path(name).name for name in heads.pop("photograph").tolist()]
    apart = np.array([fingerprint(name) % 10_000 < held_out * 10_000 for name in names])
    drawn = drawn_in_place(heads, np.arange(len(names)), PhotoRenderer(mesh, SIDE, 1), SIDE)
    stills = Stills(*(drawn[name] for name in Stills._fields))
    return {split: Stills(*(x[on] for x in stills)) for split, on in (("train", ~apart), ("heldout", apart))}


def read_scenes(folder: str) -> np.ndarray:
    """Returns the middle squares of a folder's pictures, uint8 (N, 320, 320, 3); InputError where there is none."""
    import cv2

    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; give one of pictures of places without people")
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: holds no pictures; give pictures of places ({', '.join(SUFFIXES)})")
    scenes = []
    for path in paths:
        picture = read_image(path)
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = picture[top : top + side, left : left + side]
        scenes.append(cv2.resize(square, (SCENE, SCENE), interpolation=cv2.INTER_AREA))
    return np.stack(scenes)


class MatteBatches(StepIterator):
    """Iterates over portraits `image` (B, 256, 256, 3), in [0, 1], with their `matte` (B, 256, 256)."""

    def __init__(self, stills: Stills, scenes: np.ndarray, kinds: dict[str, float], batch: int, seed: int):
        """kinds: shares of "taken", "scene", "leaves" and "other", see `portraits`."""
        self._part = ProcessPart(batch, len(stills.square))
        self._data = jax.device_put((stills, scenes))
        self._key = self._part.key(named_key(seed, "portrait mattes"))
        self._kinds = tuple(kinds[name] for name in ("taken", "scene", "leaves", "other"))

    def batch(self, step: int) -> dict[str, Array]:
        return _drawn(self._data, self._key, step, self._part, self._kinds)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _drawn(data, key, step, part: ProcessPart, kinds: tuple[float, ...]):
    keys = jax.random.split(jax.random.fold_in(key, step), 2)
    return portraits(*data, part.draw_clips(keys[0]), keys[1], kinds)


def portraits(
    stills: Stills, scenes: Array, chosen: Array, key: Array, kinds: tuple[float, ...]
) -> dict[str, Float[Array, "B ..."]]:
    """Returns the chosen portraits in new framings, colours and backgrounds, traced under jit.

    kinds: how often a photograph stays as taken, or its person stands before a scene, before dead leaves
    (`corpus.photos.backdrops`), or before what is behind somebody else; they sum to 1.
    """
    k, count = iter(jax.random.split(key, 16)), len(chosen)
    square, matte = (jnp.asarray(x)[chosen].astype(jnp.float32) / 255.0 for x in (stills.square, stills.matte))
    framing = _framings(next(k), count)
    square, matte = (bilinear_sample(x, framing, "border") for x in (square, matte[..., None]))
    matte = matte * (jnp.abs(framing[..., :1]) < 1.0) * (framing[..., 1:] > -1.0)  # no streaks at the sides and above
    scene = jnp.asarray(scenes)[jax.random.randint(next(k), (count,), 0, len(scenes))].astype(jnp.float32) / 255.0
    scene = bilinear_sample(scene, _parts(next(k), count), "border")
    leaves = jax.vmap(lambda key: dead_leaves(key, SIDE))(jax.random.split(next(k), count)) / 255.0
    other = jnp.asarray(stills.background)[jax.random.permutation(next(k), chosen)].astype(jnp.float32) / 255.0
    kind = jax.random.choice(next(k), 4, (count,), p=jnp.array(kinds))[:, None, None, None]
    behind = jnp.select([kind == 1, kind == 2], [scene, leaves], other)
    behind = apply_colour_transform(_blurred(behind, next(k)), sample_colour_transform(next(k), count, COLOURS))
    person = apply_colour_transform(square, sample_colour_transform(next(k), count, COLOURS))
    least = jnp.where(kind == 0, 0.0, jax.random.uniform(next(k), kind.shape, maxval=CUT))
    matte = jnp.clip((matte - least) / (1.0 - least), 0.0, 1.0)
    image = jnp.where(kind == 0, person, matte * person + (1.0 - matte) * behind)
    image = jnp.clip(degrade(image, next(k), DEGRADED), 0.0, 1.0)
    return {"image": image, "matte": matte[..., 0]}


def _framings(key: Array, count: int) -> Float[Array, "B n n 2"]:
    """Where each pixel of a new framing lies in the old one; half of them are mirrored."""
    k = jax.random.split(key, 4)
    zoom = jnp.exp(jax.random.uniform(k[0], (count,), minval=jnp.log(ZOOM[0]), maxval=jnp.log(ZOOM[1])))
    shift = jax.random.uniform(k[1], (count, 1, 1, 2), minval=-SHIFT, maxval=SHIFT)
    turn = TURN * jnp.clip(jax.random.normal(k[2], (count,)) / 2.0, -1.0, 1.0)
    flip = jnp.where(jax.random.bernoulli(k[3], 0.5, (count,)), -1.0, 1.0)
    c, s = jnp.cos(turn) / zoom, jnp.sin(turn) / zoom
    matrix = jnp.stack([jnp.stack([flip * c, -flip * s], -1), jnp.stack([s, c], -1)], -2)
    return jnp.einsum("hwi,bji->bhwj", pixel_grid(SIDE, SIDE), matrix) + shift


def _parts(key: Array, count: int) -> Float[Array, "B n n 2"]:
    """Squares within a scene."""
    k = jax.random.split(key, 3)
    share = jax.random.uniform(k[0], (count, 1, 1, 1), minval=NEARER[0], maxval=NEARER[1])
    flip = jnp.where(jax.random.bernoulli(k[2], 0.5, (count, 1, 1, 1)), -1.0, 1.0) * jnp.array([1.0, 0.0])
    flip = flip + jnp.array([0.0, 1.0])
    centre = (1.0 - share) * jax.random.uniform(k[1], (count, 1, 1, 2), minval=-1.0, maxval=1.0)
    return share * flip * pixel_grid(SIDE, SIDE) + centre


def _blurred(image: Float[Array, "B n n 3"], key: Array) -> Float[Array, "B n n 3"]:
    """Blurs each picture as a lens does what lies behind its focus."""
    sigma = jnp.maximum(jax.random.uniform(key, (len(image), 1, 1), minval=BLUR[0], maxval=BLUR[1]), 0.05)
    axis = jnp.arange(image.shape[1], dtype=jnp.float32)
    kernel = jnp.exp(-0.5 * jnp.square((axis[:, None] - axis) / sigma))
    kernel = kernel / kernel.sum(-1, keepdims=True)
    return jnp.einsum("bij,bjwc,bvw->bivc", kernel, image, kernel)

"""Looks for rendered images: photographs, paintings, cartoons and drawings, so that models don't learn one renderer.

A style is a set of random strengths. All images of one person and scene share one style and its grain, the empty
background too. So a head fits the ground it is laid over. Labels are untouched: no filter moves anything.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

LOOKS = ("photograph", "painting", "cartoon", "drawing")
_LOOK_WEIGHTS = (0.40, 0.25, 0.20, 0.15)
_LUMA = (0.299, 0.587, 0.114)
_HATCH_PERIOD = 24  # strokes along a side and its diagonal


def sample_style(key: jax.Array) -> dict[str, jax.Array]:
    """Draws one style: a scalar per strength, `balance` (3,) and `paper` (3,). A pure function of the key."""
    keys = iter(jax.random.split(key, 48))

    def uniform(low=0.0, high=1.0, shape=()):
        return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

    def chance(probability):
        return (uniform() < probability).astype(jnp.float32)

    look = jax.random.choice(next(keys), len(LOOKS), p=np.array(_LOOK_WEIGHTS))
    photograph, painting, cartoon, drawing = ((look == i).astype(jnp.float32) for i in range(len(LOOKS)))
    gray = jnp.maximum(0.12 * photograph, 0.75 * drawing)  # chance of losing its colours
    return {
        "paint": painting * uniform(0.6, 1.7) + cartoon * uniform(0.0, 1.2) + drawing * uniform(0.0, 1.0),
        "lines": painting * chance(0.3) * uniform(0.0, 0.6) + cartoon * uniform(0.5, 1.0) + drawing * uniform(0.6, 1.0),
        "steps": cartoon * uniform(0.5, 1.0) + painting * chance(0.3) * uniform(0.2, 0.7),
        "levels": uniform(4.0, 9.0),
        "ink": drawing * uniform(0.55, 1.0),
        "hatch": drawing * uniform(0.1, 0.6),
        "hatch_angle": uniform(0.15, 0.85) * math.pi / 2 + chance(0.5) * math.pi / 2,
        "blur": photograph * chance(0.35) * uniform(0.2, 0.9),
        "sharpen": photograph * chance(0.4) * uniform(0.2, 0.8) + painting * uniform(0.0, 0.6),
        "chroma_blur": photograph * chance(0.5) * uniform(),
        "grain": 0.025 * uniform() ** 2 + painting * 0.015 * uniform() + drawing * 0.02 * uniform(),
        "coarse": jnp.maximum(painting, drawing) * uniform(0.3, 1.0) + photograph * uniform(0.0, 0.4),
        "gamma": jnp.exp(uniform(-0.30, 0.30)),
        "contrast": uniform(-0.35, 0.8) * (1.0 - 0.5 * drawing),
        "lift": chance(0.35) * uniform(0.0, 0.10),
        "balance": jnp.exp(uniform(-0.08, 0.08, (3,))),
        "saturation": (1.0 - (uniform() < gray)) * jnp.exp(uniform(-0.55, 0.2) + 0.15 * cartoon),
        "sepia": (1.0 - cartoon) * chance(0.12) * uniform(0.3, 1.0),
        "paper": 1.0 - uniform(0.0, 0.10, (3,)) * jnp.array([0.5, 0.8, 1.5]),
        "vignette": chance(0.3) * uniform(0.0, 0.35),
    }  # fmt: skip


def stylise(
    key: jax.Array, images: Float[Array, "images n n 3"], share: ArrayLike = 1.0
) -> Float[Array, "images n n 3"]:
    """Puts the images of one person, values in [0, 1], into one random style; with probability 1 - `share` none.

    A pure function of its arguments for jit and vmap; every image is computed alone.
    """
    key_style, key_grain, key_share = jax.random.split(key, 3)
    style = sample_style(key_style)
    grain = _grain(key_grain, images.shape[1], style["coarse"])
    styled = jax.vmap(apply_style, (None, 0, None))(style, images, grain)
    return jnp.where(jax.random.uniform(key_share) < share, styled, images)


def apply_style(
    style: dict[str, jax.Array], image: Float[Array, "n n 3"], grain: Float[Array, "n n"]
) -> Float[Array, "n n 3"]:
    """Puts one image into a style; `grain` has unit deviation and is the surface that the image is on."""
    size = image.shape[0]
    fine = 0.7 * size / 128  # pixels: the width of lines and of a sharp edge
    # Paint: none at 0, one pass of strokes at 1, two at 2.
    reach = max(1, round(size / 64))
    once = _strokes(image, reach)
    twice = _strokes(once, reach)
    x = _mix(_mix(image, once, jnp.minimum(style["paint"], 1.0)), twice, jnp.clip(style["paint"] - 1.0, 0.0, 1.0))
    soft = _gaussian(x, 1.3 * fine)
    x = _mix(x, soft, style["blur"] - style["sharpen"])
    luma = _luma(x)
    colour_difference = x - luma
    x = luma + _mix(colour_difference, _gaussian(colour_difference, 3.0 * fine), style["chroma_blur"])
    x = _posterise(jnp.clip(x, 0.0, 1.0), style["levels"], style["steps"])
    # Lines where the image is darker than its surroundings (difference of Gaussians).
    luma = _luma(image)
    thin = _gaussian(luma, fine)
    dark = jnp.clip((_gaussian(thin, 1.6 * fine) - thin - 0.006) * 16.0, 0.0, 1.0)
    x = _tone(style, _ink(style, x, dark))
    x = x * (1.0 - style["lines"] * dark)
    x = x + (style["grain"] * grain)[..., None] * (0.35 + 2.6 * x * (1.0 - x))
    u = (np.arange(size, dtype=np.float32) * 2 + 1) / size - 1
    corner = (0.5 * (np.square(u)[:, None] + np.square(u)[None, :]))[..., None]
    return jnp.clip(x * (1.0 - style["vignette"] * corner), 0.0, 1.0)


def _mix(a, b, share):
    return a + (b - a) * share


def _luma(x):
    """Brightness (n, n, 1)."""
    return x[..., :1] * _LUMA[0] + x[..., 1:2] * _LUMA[1] + x[..., 2:] * _LUMA[2]


def _tone(style, x):
    """Curve, white balance, saturation, sepia: one colour to one colour."""
    x = jnp.exp(jnp.log(jnp.clip(x, 1e-4, 1.0)) * style["gamma"])
    # A smooth S about middle gray; the identity at contrast 0.
    x = _mix(x, x * x * (3.0 - 2.0 * x), style["contrast"])
    x = style["lift"] + (1.0 - style["lift"]) * x * style["balance"]
    luma = _luma(x)
    x = luma + (x - luma) * style["saturation"]
    sepia = jnp.concatenate([luma * 1.07 + 0.02, luma * 0.96, luma * 0.80], -1)
    return jnp.clip(_mix(x, sepia, style["sepia"]), 0.0, 1.0)


def _posterise(x, levels, share):
    """Brightness in soft steps (Winnemoeller et al. 2006), colour kept."""
    luma = _luma(x)
    scaled = luma * levels
    nearest = jnp.round(scaled)
    stepped = (nearest + 0.5 * jnp.tanh(4.0 * (scaled - nearest)) / math.tanh(2.0)) / levels
    return x * _mix(1.0, stepped / jnp.maximum(luma, 0.02), share)


def _ink(style, x, dark):
    """Pale washes on paper, darkened by lines and, in the shadows, by strokes across."""
    size = x.shape[0]
    place = np.arange(size, dtype=np.float32) * (2.0 * math.pi * _HATCH_PERIOD / size)
    luma = _luma(x)
    across = place[:, None] * jnp.sin(style["hatch_angle"]) + place[None, :] * jnp.cos(style["hatch_angle"])
    stroke = (0.5 + 0.5 * jnp.sin(across))[..., None]
    shade = jnp.clip((0.62 - luma) * 3.0, 0.0, 1.0)
    wash = _mix(x, 0.30 + 0.72 * x, 0.75)
    drawn = style["paper"] * jnp.clip(wash * (1.0 - style["hatch"] * shade * stroke) - 0.25 * dark, 0.0, 1.0)
    return _mix(x, drawn, style["ink"])


def _grain(key, size: int, coarse):
    """White noise to paper-like noise, (n, n) of unit deviation."""
    white = jax.random.normal(key, (size, size, 1))
    rough = _gaussian(white, 1.0 * max(1.0, size / 128))
    rough = rough * _inverse_deviation(rough)
    mixed = _mix(white, rough, coarse)
    return (mixed * _inverse_deviation(mixed))[..., 0]


def _inverse_deviation(x):
    return jax.lax.rsqrt(jnp.mean(jnp.square(x)) + 1e-8)


def _gaussian(x, deviation: float):
    """Gaussian blur of (n, n, channels) over rows and columns; what lies beyond an edge is like the edge."""
    size = x.shape[0]
    place = np.arange(-2 * size, 3 * size)
    weights = np.exp(-0.5 * np.square((place[None, :] - np.arange(size)[:, None]) / deviation))
    band = _clamped(weights, place, size)
    return _along_columns(band, _along_rows(band, x))


def _strokes(x, reach: int):
    """Flat strokes with crisp edges: the means of the four quadrants round a pixel (Kuwahara et al. 1976), weighted
    smoothly by how calm they are (Papari et al. 2007)."""
    size = x.shape[0]
    place = np.arange(-reach, size + reach)
    ahead = place[None, :] - np.arange(size)[:, None]
    sides = [_clamped(((s * ahead >= 0) & (s * ahead <= reach)).astype(np.float64), place, size) for s in (-1, 1)]
    squared = jnp.square(_luma(x))
    colours = total = 0.0
    for vertical in sides:
        rows, squared_rows = _along_rows(vertical, x), _along_rows(vertical, squared)
        for horizontal in sides:
            mean = _along_columns(horizontal, rows)
            spread = _along_columns(horizontal, squared_rows) - jnp.square(_luma(mean))
            weight = jnp.square(jnp.square(1e-3 / (jnp.maximum(spread, 0.0) + 1e-3))) + 1e-12
            colours, total = colours + weight * mean, total + weight
    return colours / total


def _clamped(weights: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """Rows of weights over `place` as rows over 0..size - 1 of sum 1; places beyond an end count for the end."""
    band = np.zeros((size, size))
    np.add.at(band.T, np.clip(place, 0, size - 1), weights.T)
    return (band / band.sum(1, keepdims=True)).astype(np.float32)


# Filters are products with band matrices, in full precision: accelerators are good at them, and stencils written as
# shifted sums make XLA recompute one filter inside the next.
def _along_rows(band, x):
    return jnp.einsum("ij,jkc->ikc", band, x, precision="highest")


def _along_columns(band, x):
    return jnp.einsum("ij,kjc->kic", band, x, precision="highest")

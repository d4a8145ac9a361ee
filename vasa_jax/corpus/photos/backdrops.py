"""Made-up backgrounds for photo heads: a codec that has seen busy ones tells a head from what is behind it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.corpus.performance.muscles import neutral_motion
from vasa_jax.corpus.photos.draw import Head, PhotoRenderer

LEAVES = 96  # shapes one over the other: the first ones are covered
RADII = (0.04, 0.9)  # of half the side
SOFT = (0.4, 6.0)  # pixels of 256, width of the edges of one picture: in focus or far behind the head
STRIPES = (4.0, 40.0)  # waves across half the side


def dead_leaves(key: Array, size: int) -> Float[Array, "n n 3"]:
    """Draws overlapping discs and bars of plain and striped colours, 0 to 255.

    Their radii follow the power law of natural scenes, r^-3 (dead leaves; Lee, Mumford and Huang 2001).
    """
    k = jax.random.split(key, 9)
    low, high = RADII[0] ** -2, RADII[1] ** -2
    radius = (high + jax.random.uniform(k[0], (LEAVES,)) * (low - high)) ** -0.5
    centre = jax.random.uniform(k[1], (LEAVES, 2), minval=-1.3, maxval=1.3)
    angle = jax.random.uniform(k[2], (LEAVES,), maxval=jnp.pi)
    shape = jnp.where(jax.random.bernoulli(k[3], 0.5, (LEAVES,)), 1.0, jax.random.uniform(k[4], (LEAVES,), maxval=8.0))
    # Colours of one picture are alike: about a common one, mostly in brightness.
    tints = jax.random.split(k[5], 2)
    tone = jax.random.uniform(tints[0], (), minval=35.0, maxval=220.0) + 30.0 * jax.random.normal(tints[1], (3,))
    colour = tone + 55.0 * jax.random.normal(k[6], (LEAVES, 1)) + 25.0 * jax.random.normal(k[7], (LEAVES, 3))
    soft = jnp.exp(jax.random.uniform(k[8], (), minval=jnp.log(SOFT[0]), maxval=jnp.log(SOFT[1]))) / 128.0
    waves = jax.random.split(jax.random.fold_in(key, 1), 2)
    wave = jax.random.uniform(waves[0], (LEAVES,), minval=STRIPES[0], maxval=STRIPES[1])
    depth = 40.0 * jnp.maximum(jax.random.normal(waves[1], (LEAVES,)), 0.0)
    axis = (2.0 * jnp.arange(size) + 1.0) / size - 1.0
    x, y = jnp.meshgrid(axis, axis)

    def over(picture, leaf):
        radius, centre, angle, shape, colour, wave, depth = leaf
        dx, dy = x - centre[0], y - centre[1]
        along, across = jnp.cos(angle) * dx + jnp.sin(angle) * dy, jnp.cos(angle) * dy - jnp.sin(angle) * dx
        bar = jnp.maximum(jnp.abs(along) / shape, jnp.abs(across))
        distance = jnp.where(shape == 1.0, jnp.hypot(along, across), bar)
        share = jax.nn.sigmoid((radius - distance) / soft)[..., None]
        stripes = depth * jnp.exp(-jnp.square(soft * wave)) * jnp.sin(wave * along)
        return picture + share * (colour + stripes[..., None] - picture), None

    first = jnp.broadcast_to(tone, (size, size, 3))
    picture, _ = jax.lax.scan(over, first, (radius, centre, angle, shape, colour, wave, depth))
    return jnp.clip(picture, 0.0, 255.0)


def before_backdrops(heads: Head, key: Array, share: Float[Array, ""], renderer: PhotoRenderer) -> Head:
    """Puts a share of photo heads (P, ...), with `square` and `background`, before a made-up background each.

    The photograph is cut out by the matte that the head has in its own pose.
    """
    rest = {name: jnp.float32(value) for name, value in neutral_motion().items()}
    count, size = heads["square"].shape[:2]
    draws = jax.random.split(key, count + 1)
    behind = jax.vmap(lambda k: dead_leaves(k, size))(draws[1:])
    matte = jax.vmap(lambda head: renderer.draw(head, rest, head["pose"]).matte)(heads)[..., None]
    on = (jax.random.uniform(draws[0], (count,)) < share)[:, None, None, None]
    square = matte * heads["square"] + (1.0 - matte) * behind

    def either(new, old):
        return jnp.where(on, jnp.clip(new + 0.5, 0, 255).astype(jnp.uint8), old)

    return {**heads, "square": either(square, heads["square"]), "background": either(behind, heads["background"])}

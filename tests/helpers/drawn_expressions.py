"""Heads drawn in no time that do what tiny readers learn: discs with a mouth that opens and lids that close."""

import jax
import jax.numpy as jnp

from vasa_jax.conventions import LANDMARKS
from vasa_jax.corpus import render_cache
from vasa_jax.models.geometry import pixel_grid
from vasa_jax.models.keypoint_reader import GUIDES

# Where the first six guides lie in a face at rest; the lips are closed, the eyes open.
REST = ((0.0, 0.3), (0.0, 0.3), (-0.2, 0.3), (0.2, 0.3), (-0.25, -0.2), (0.25, -0.2))


def draw_expressions(monkeypatch):
    """`expressive_groups` in place of the renderer."""
    monkeypatch.setattr(render_cache, "render_groups", expressive_groups)
    render_cache._render_groups.clear_cache()


def expressive_groups(key, groups, identities, motions, size, supersample, poses=1):
    """As `render_groups`: every person has colours of its own, every motion a mouth, lids, a place and a size."""
    keys, shape = jax.random.split(key, 5), (groups, identities, motions)

    def each(key, *sizes, low=0.0, high=1.0, person=False):
        value = jax.random.uniform(key, (groups, *((identities, 1) if person else (1, motions)), *sizes), minval=low,
                                   maxval=high)  # fmt: skip
        return jnp.broadcast_to(value, (*shape, *sizes))

    face = jnp.arange(motions) - jnp.arange(motions) % poses
    mouth, lids = each(keys[0], high=0.2)[:, :, face], each(keys[1], 2, high=0.16)[:, :, face]
    place, log_scale = each(keys[2], 2, low=-0.05, high=0.05), each(keys[3], low=-0.05, high=0.05)
    colours = each(keys[4], 2, 3, low=0.3, person=True)
    rest = jnp.zeros((len(LANDMARKS), 3))
    moved = jnp.zeros((*shape, len(LANDMARKS), 3))
    changes = (-0.3 * mouth, 0.7 * mouth, None, None, lids[..., 0], lids[..., 1])
    for name, where, change in zip(GUIDES, REST, changes):
        index = LANDMARKS.index(name)
        rest = rest.at[index, :2].set(jnp.array(where))
        moved = moved if change is None else moved.at[..., index, 1].set(change)

    scale = jnp.exp(log_scale)[..., None]
    u, v = jnp.moveaxis((pixel_grid(size, size) - place[..., None, None, :]) / scale[..., None, None], -1, 0)

    def inside(distance):
        return jax.nn.sigmoid(-40.0 * distance)[..., None]

    def box(x, y, half_width, half_height):
        x, y, half_height = (jnp.asarray(value)[..., None, None] for value in (x, y, half_height))
        return inside(jnp.abs(u - x) - half_width) * inside(jnp.abs(v - y) - half_height)

    head = inside(jnp.sqrt(u**2 + (v / 1.2) ** 2) - 0.6)
    image = head * colours[..., None, None, 0, :] + (1.0 - head) * colours[..., None, None, 1, :]
    image = image * (1.0 - box(0.0, 0.3 + 0.2 * mouth, 0.15, 0.5 * mouth))
    for x, lid in ((-0.25, lids[..., 0]), (0.25, lids[..., 1])):
        image = jnp.maximum(image, box(x, -0.12 + 0.5 * lid, 0.1, 0.08 - 0.5 * lid))
    still = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), (*shape, 6))
    return {
        "rgb": render_cache.to_uint8(image),
        "segmentation": (head[..., 0] > 0.5).astype(jnp.uint8),
        "background": render_cache.to_uint8(jnp.broadcast_to(colours[:, :, 0, 1, None, None], image[:, :, 0].shape)),
        "pose": jnp.concatenate([still, log_scale[..., None], place], -1),
        "landmarks": scale[..., None] * (rest + moved)[..., :2] + place[..., None, :],
        "rest": jnp.broadcast_to(rest, (groups, identities, *rest.shape)),
        "expression": moved,
    }

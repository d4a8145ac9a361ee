"""The codec with as few operations as its networks allow, for tests that compile whole updates; and heads for it that
need no renderer."""

import jax
import jax.numpy as jnp

from vasa_jax.conventions import LANDMARKS
from vasa_jax.corpus import render_cache
from vasa_jax.models import variants

SIZE = 32
_NET = {"depths": (1,), "widths": (8,), "stem": 8, "strides": (2,), "stem_size": 3, "stem_pool": False}
LEAST = variants._variant(
    image_size=SIZE, volume=(8, 4, 8), stem=8, widths=(8, 8), pool_first=True, blocks_3d=0, canonical_widths=(8,),
    warp_widths=(8,), embedding_width=8, embedding_map_width=8, dynamics_width=128, dynamics_head_width=8,
    identity_resnet=_NET | {"stem_stride": 2}, identity_size=16, pose_resnet=_NET | {"stem_stride": 2}, pose_size=16,
    dynamics_resnet=_NET | {"stem_stride": 2}, crop_size=16, width=8, blocks=0, up_widths=(8,), shuffle=2, groups=4,
    correction_resnet=_NET | {"stem_stride": 2}, correction_size=16, portrait_pixels=True, pixel_blocks=1,
    cubic_pixels=True,
)  # fmt: skip


def add_variant(monkeypatch=None):
    """Makes `face_least` a variant, for one test or for the process."""
    if monkeypatch is None:
        variants.FACE_VARIANTS["face_least"] = LEAST
    else:
        monkeypatch.setitem(variants.FACE_VARIANTS, "face_least", LEAST)


def smooth_groups(key, groups, identities, motions, size, supersample, poses=1):
    """In place of the renderer: an identity is the colours of a soft disc and of its ground, a motion its place."""
    keys = jax.random.split(key, 3)
    colours = jax.random.uniform(keys[0], (groups, identities, 1, 1, 1, 2, 3), minval=0.1, maxval=0.9)
    place = jax.random.uniform(keys[1], (groups, 1, motions, 2), minval=-0.4, maxval=0.4)
    place = jnp.broadcast_to(place, (groups, identities, motions, 2))
    x = (2 * jnp.arange(size) + 1) / size - 1
    distance = jnp.hypot(x - place[..., None, :1], x[:, None] - place[..., None, 1:])
    inside = jax.nn.sigmoid((0.5 - distance) * 10)[..., None]
    disc, ground = colours[..., 0, :], colours[..., 1, :] * (0.75 + 0.25 * x[:, None, None])
    ground = jnp.broadcast_to(ground, (*inside.shape[:-1], 3))
    still = jnp.array([1.0, 0, 0, 0, 1.0, 0, 0.0])
    return {
        "rgb": render_cache.to_uint8(inside * disc + (1 - inside) * ground),
        "segmentation": (inside[..., 0] > 0.5).astype(jnp.uint8),
        "background": render_cache.to_uint8(ground[:, :, 0]),
        "pose": jnp.concatenate([jnp.broadcast_to(still, (*place.shape[:-1], 7)), place], -1),
        "landmarks": jnp.broadcast_to(place[..., None, :], (*place.shape[:-1], len(LANDMARKS), 2)),
        "rest": jnp.zeros((*place.shape[:2], len(LANDMARKS), 3)),
        "expression": jnp.zeros((*place.shape[:-1], len(LANDMARKS), 3)),
    }


def draw_heads(monkeypatch=None):
    """`smooth_groups` in place of the renderer, for one test or for the process."""
    if monkeypatch is None:
        render_cache.render_groups = smooth_groups
    else:
        monkeypatch.setattr(render_cache, "render_groups", smooth_groups)
        render_cache._render_groups.clear_cache()

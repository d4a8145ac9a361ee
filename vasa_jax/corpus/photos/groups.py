"""Groups of photo heads and rendered heads that show the same faces in the same head poses, and pairs of them (JAX).

In a group every face is known on every person. So any pair (source, driver) has its exact truth, a rendered driver for
a photographed source too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.config import PhotoHeadsConfig
from vasa_jax.conventions import LANDMARKS, SEGMENTS
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.muscles import POSE_FIELDS, sample_motion
from vasa_jax.corpus.photos.draw import LID, Head, PhotoRenderer, lid_zone

Arrays = dict[str, Any]  # arrays by name, or such dictionaries
NOD, TILT, SHIFT, LOG_DISTANCE, NEARER = 0.92, 1.33, 1.17, 1.0, 0.02  # of head motion, over `turn`
LESS_GAZE = 0.9  # share of the eyes' range that a fitted eye follows without gaps
OPEN_JAW, HALF_LIDS = (0.4, 1.1), (0.3, 0.95)  # ranges from which they are drawn
PHOTO_STYLE = 0.4  # share of the looks that photo heads get; a photograph has a look already
_EYES = tuple(tuple(LANDMARKS.index(f"eye_{side}_{i}") for i in (0, 4)) for side in ("left", "right"))


class Shape(NamedTuple):
    """What decides the arrays of a group."""

    photos: int
    heads: int
    faces: int
    poses: int
    size: int  # pixels
    supersample: int

    @classmethod
    def of(cls, settings: PhotoHeadsConfig, size: int, supersample: int) -> "Shape":
        """Returns the shape that the settings ask for."""
        return cls(settings.photos, settings.heads, settings.faces, settings.poses, size, supersample)

    @property
    def motions(self) -> int:
        """Frames of each person."""
        return self.faces * self.poses

    @property
    def people(self) -> int:
        """Photo heads, then rendered ones."""
        return self.photos + self.heads


class Shares(NamedTuple):
    """How often faces are what broad stills seldom are, and how far heads turn."""

    shut_lids: float
    half_shut_lids: float
    open_jaws: float
    turn: float

    @classmethod
    def of(cls, settings: PhotoHeadsConfig) -> "Shares":
        """Returns the shares that the settings ask for."""
        return cls(*(getattr(settings, name) for name in cls._fields))


def sample_face(key: Array, shares: Shares) -> Arrays:
    """Draws a broad still within what a photograph can follow: a float32 scalar for each of the 27 numbers."""
    k = jax.random.split(key, 7)
    motion = sample_motion(k[0])
    turn = shares.turn
    for name, share in (("yaw", 1.0), ("pitch", NOD), ("roll", TILT), ("tx", SHIFT), ("ty", SHIFT)):
        motion[name] = motion[name] * jnp.minimum(turn * share, 1.0)
    motion["dist"] = jnp.exp(turn * LOG_DISTANCE * jnp.log(motion["dist"]) - NEARER)
    motion["gaze_yaw"] = LESS_GAZE * motion["gaze_yaw"]
    drawn = jax.random.uniform(k[1])
    shut, moving = drawn < shares.shut_lids, drawn < shares.shut_lids + shares.half_shut_lids
    lids = jnp.where(shut, 1.0, jax.random.uniform(k[2], (), minval=HALF_LIDS[0], maxval=HALF_LIDS[1]))
    for name in ("blink_l", "blink_r"):
        motion[name] = jnp.where(moving, lids, motion[name])
    wide = jax.random.uniform(k[3]) < shares.open_jaws
    jaw = jax.random.uniform(k[4], (), minval=OPEN_JAW[0], maxval=OPEN_JAW[1])
    motion["jaw"] = jnp.where(wide, jaw, motion["jaw"])
    for name in ("press", "tuck"):  # lips that are pressed cannot be apart
        motion[name] = jnp.where(wide, 0.0, motion[name])
    for name, draw in (("up", k[5]), ("lo", k[6])):
        lifted = jnp.maximum(motion[name], jax.random.uniform(draw, (), maxval=0.5))
        motion[name] = jnp.where(wide, lifted, motion[name])
    return motion


def sample_faces(key: Array, shape: Shape, shares: Shares) -> Arrays:
    """Draws the motions (M,) of a group: `poses` in a row are one face in as many head poses."""
    motion = jax.vmap(sample_face, (0, None))(jax.random.split(key, shape.motions), shares)
    face = jnp.arange(shape.motions) // shape.poses * shape.poses
    return {name: value if name in POSE_FIELDS else value[face] for name, value in motion.items()}


def usual_poses(motion: Arrays) -> Float[Array, "M 9"]:
    """Returns the pose labels of motions (M,) as the usual lens sees them: those of photo heads."""
    count, anyone = len(motion["yaw"]), sample_identity(jax.random.key(0))
    identity = {name: jnp.broadcast_to(value, (count, *jnp.shape(value))) for name, value in anyone.items()}
    return labels({**identity, "lens": jnp.ones(count)}, motion)["pose"]


def rendered_heads(key: Array, motion: Arrays, shape: Shape) -> Arrays:
    """Returns rgb (H, M, n, n, 3), segmentation with LID (H, M, n, n), background (H, n, n, 3), pose (H, M, 9)."""
    identity = jax.vmap(sample_identity)(jax.random.split(key, shape.heads))
    each = {name: jnp.repeat(value, shape.motions, 0) for name, value in identity.items()}
    moved = {name: jnp.tile(value, shape.heads) for name, value in motion.items()}
    frames = render(each, moved, shape.size, shape.supersample)
    corners = frames["landmarks"][:, jnp.array(_EYES), :2]
    zone = jax.vmap(lambda c: lid_zone(c, shape.size))(corners)
    segment = frames["segmentation"]
    segment = jnp.where(zone & (segment == SEGMENTS.index("skin")), LID, segment)
    lead, n = (shape.heads, shape.motions), shape.size
    return {
        "rgb": to_uint8(frames["rgb"]).reshape(*lead, n, n, 3),
        "segmentation": segment.astype(jnp.uint8).reshape(*lead, n, n),
        "background": to_uint8(frames["background"]).reshape(*lead, n, n, 3)[:, 0],
        "pose": labels(each, moved)["pose"].reshape(*lead, 9),
    }


def drawn_photos(heads: Head, motion: Arrays, pose: Float[Array, "M 9"], renderer: PhotoRenderer) -> Arrays:
    """Returns photo heads (P, ...) in motions (M,) and poses: rgb, segmentation, moved, kind as `PhotoFrame` has them.

    rgb (P, M, n, n, 3) uint8 over the photograph's background; moved (P, M, n/2, n/2, 2) float16.
    """

    def of_head(head):
        return jax.vmap(lambda m, p: renderer.draw(head, m, p))(motion, pose)

    frames = jax.vmap(of_head)(heads)
    return {
        "rgb": jnp.clip(frames.rgb + 0.5, 0, 255).astype(jnp.uint8),
        "segmentation": frames.segmentation,
        "moved": frames.moved.astype(jnp.float16),
        "kind": frames.kind,
    }


def draw_photo_pairs(
    groups: Arrays, key: Array, count: int, drivers: int, shape: Shape, shares: Float[Array, "2"]
) -> Arrays:
    """Draws `count` pairs of photographed sources with `drivers` each, in the form of `render_cache.draw_pairs`.

    Beside that form, where groups have latents: `latent` (B, Z), what the driver's face is called on rendered heads,
    and `source_latent` (S, Z); `valid_latent` (B,) and `valid_source_latent` (S,) are false for a photograph as taken.
    `moved` (B, n/2, n/2, 2) and `kind` (B, n/2, n/2) are told where the source is as taken.

    shares: (`as_taken`, `rendered_drivers`).
    """
    sources, k = count // drivers, jax.random.split(key, 9)
    total, photos, people = groups["rgb"].shape[0], shape.photos, shape.people
    group = jax.random.randint(k[0], (sources,), 0, total)
    source = jax.random.randint(k[1], (sources,), 0, photos)
    first = jax.random.randint(k[2], (sources,), 0, shape.motions)
    others = jax.vmap(lambda q: jax.random.permutation(q, shape.faces - 1))(jax.random.split(k[3], sources))
    face = (first[:, None] // shape.poses + 1 + others[:, :drivers]) % shape.faces
    posed = jax.random.randint(k[4], (2, sources, drivers), 0, shape.poses)
    second, shown = (face * shape.poses + posed).reshape(2, -1)
    at, owner = jnp.repeat(group, drivers), jnp.repeat(source, drivers)
    anyone = jax.random.randint(k[5], (count,), 0, people)
    rendered = jax.random.randint(k[6], (count,), photos, people)
    driver = jnp.where(jax.random.uniform(k[7], (count,)) < shares[1], rendered, anyone)
    taken = jax.random.uniform(k[8], (sources,)) < shares[0]

    def either(as_taken, drawn):
        return jnp.where(taken.reshape(-1, *[1] * (drawn.ndim - 1)), as_taken, drawn)

    told = jnp.repeat(taken, drivers)[:, None, None]
    named = {}
    if "latent" in groups:
        named = {
            "source_latent": groups["latent"][group, first // shape.poses],
            "valid_source_latent": ~taken,
            "latent": groups["latent"][at, second // shape.poses],
            "valid_latent": jnp.ones(count, bool),
        }
    return {
        "source": either(groups["square"][group, source], groups["rgb"][group, source, first]),
        "background": groups["background"][group, source],
        "source_pose": either(groups["square_pose"][group, source], groups["pose"][group, source, first]),
        "person": group * people + source,
        "driver": groups["rgb"][at, driver, second],
        "driver_pose": groups["pose"][at, driver, second],
        "target": groups["rgb"][at, owner, shown],
        "target_pose": groups["pose"][at, owner, shown],
        "segmentation": groups["segmentation"][at, owner, shown],
        "same_identity": owner == driver,
        "same_pose": second == shown,
        **named,
        "moved": groups["moved"][at, owner, shown],
        "kind": jnp.where(told, groups["kind"][at, owner, shown], 0),
    }

"""Exact ground truth: the true image of a scene, and of the scene with any of its factors taken from another.

    source, driver = sample_scene(key, 0), sample_scene(key, 1)
    true_image(transferred(source, driver), 256)["rgb"]         # the source's person in the driver's motion
    true_image(exchanged(source, driver, "pose"), 256)["rgb"]    # ... in the driver's head pose only
    scene_of(record, frame)                                      # the scene behind a frame of a written corpus
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.corpus.heads.identity import CLOTHES, HAIR, PAINT, SCENE, SHAPE, sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.muscles import MOTION_NAMES, POSE_FIELDS, VISEME_FIELDS, sample_motion
from vasa_jax.corpus.render_cache import restyle
from vasa_jax.corpus.write import clip_of, origin_of, person, style_key
from vasa_jax.data.records import Record
from vasa_jax.errors import InputError

# What a scene is made of: every field of identity and every field of motion is in one factor (`cheek` is a field of
# both). `seed` places strands and mottling, and spots of the backdrop: it belongs to the person.
IDENTITY_FACTORS: dict[str, tuple[str, ...]] = {
    "person": (*SHAPE, *(name for name in PAINT if name not in CLOTHES), *HAIR, "style", "seed"),
    "clothes": CLOTHES,
    "background": tuple(name for name in SCENE if name.startswith("bg_")),
    "light": tuple(name for name in SCENE if not name.startswith("bg_") and name != "lens"),
    "lens": ("lens",),
}
# Gaze is in the head: a head that turns takes its gaze along.
MOTION_FACTORS: dict[str, tuple[str, ...]] = {
    "pose": POSE_FIELDS,
    "gaze": ("gaze_yaw", "gaze_pitch"),
    "lids": ("blink_l", "blink_r", "wide", "squint"),
    "brows": ("brow_in", "brow_out", "furrow", "sneer", "cheek"),
    "mouth": (*VISEME_FIELDS, "smile", "smirk"),
}
FACTORS = (*IDENTITY_FACTORS, *MOTION_FACTORS)


class Scene(NamedTuple):
    """Who and how: dicts by name of scalars, or of arrays with one leading batch axis."""

    identity: dict[str, jax.Array]
    motion: dict[str, jax.Array]


def sample_scene(key: jax.Array, number: int) -> Scene:
    """Draws a random person in a random still (`sample_motion`); a pure function of the key and the number."""
    who, how = jax.random.split(jax.random.fold_in(key, number))
    return Scene(_sample_identity(who), _sample_motion(how))


def exchanged(scene: Scene, other: Scene, *factors: str) -> Scene:
    """Returns the scene with these FACTORS taken from another one; InputError for an unknown factor."""
    for factor in factors:
        if factor not in FACTORS:
            raise InputError(f"factor '{factor}': unknown; choose among {', '.join(FACTORS)}")

    def mixed(own, theirs, fields):
        names = {name for factor in factors for name in fields.get(factor, ())}
        return {name: theirs[name] if name in names else own[name] for name in own}

    return Scene(
        mixed(scene.identity, other.identity, IDENTITY_FACTORS), mixed(scene.motion, other.motion, MOTION_FACTORS)
    )


def transferred(source: Scene, driver: Scene) -> Scene:
    """Returns the source's person and surroundings in the driver's motion: the truth of cross-identity transfer."""
    return exchanged(source, driver, *MOTION_FACTORS)


def one_factor_changed(scene: Scene, other: Scene) -> dict[str, Scene]:
    """Returns, for every factor, the scene with that one factor of the other."""
    return {factor: exchanged(scene, other, factor) for factor in FACTORS}


def true_image(
    scene: Scene, size: int, supersample: int = 2, look: jax.Array | None = None
) -> dict[str, np.ndarray]:
    """Returns the true image of a scene, in a look (`look_of`) or plain, and its exact labels.

    Images: rgb and background uint8 (n, n, 3), matte float32 (n, n), segmentation uint8 (n, n), depth (n, n). Labels:
    landmarks (L, 3), pose (9,), gaze (2,) degrees, lids (2,), mouth and distance (). Each has a leading axis if the
    scene has one.
    """
    single = jnp.ndim(scene.motion["yaw"]) == 0
    if single:
        scene = jax.tree.map(lambda value: jnp.asarray(value)[None], scene)
    result = _image(size, supersample)(*scene)
    if look is not None:
        result = {**result, **{name: _restyle(look, result[name]) for name in ("rgb", "background")}}
    result = jax.device_get(result)
    return {name: value[0] for name, value in result.items()} if single else result


def scene_of(record: Record, frame: int) -> Scene:
    """Returns the scene behind a frame of a record that `corpus.synthesize` wrote: same person, same motion.

    Speech is synthesised anew (0.3 s a clip). Raises InputError for a record from elsewhere or a frame it lacks.
    """
    if not 0 <= frame < len(record.frames):
        raise InputError(f"clip '{record.clip_id}': no frame {frame}; it has {len(record.frames)}")
    origin = origin_of(record)
    track = clip_of(origin).motion
    motion = {name: np.float32(track[name][frame]) for name in MOTION_NAMES}
    return Scene(person(origin.seed, origin.split, origin.person), motion)


def look_of(record: Record) -> jax.Array | None:
    """Returns the look of a record's images, for `true_image`; None for a plain one. InputError for one from elsewhere.
    """
    origin = origin_of(record)
    return style_key(origin.seed, origin.split, origin.person) if origin.styled else None


_sample_identity, _sample_motion, _restyle = jax.jit(sample_identity), jax.jit(sample_motion), jax.jit(restyle)


@functools.cache
def _image(size: int, supersample: int) -> Callable[[dict, dict], dict]:
    @jax.jit
    def image(identity, motion):
        out = render(identity, motion, size, supersample)
        images = {name: to_uint8(out[name]) for name in ("rgb", "background")}
        return {**out, **images, **labels(identity, motion)}

    return image

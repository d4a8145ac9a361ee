"""Images of heads: identity and motion in, image, background, segmentation, depth, matte and landmarks out."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from vasa_jax.conventions import LANDMARKS, SEGMENTS
from vasa_jax.corpus.heads import shading
from vasa_jax.corpus.heads.anatomy import build_anatomy
from vasa_jax.corpus.heads.field import NOTHING
from vasa_jax.corpus.heads.landmarks import landmarks
from vasa_jax.corpus.heads.trace import (
    ambient_and_shadow,
    hit_material,
    light_probes,
    light_sites,
    light_stride,
    normal_probes,
    trace,
)  # fmt: skip

__all__ = ["LANDMARKS", "SEGMENTS", "render"]


def render(identity: dict, motion: dict, size: int, supersample: int = 2) -> dict[str, jax.Array]:
    """Renders a batch of heads.

    Args:
      identity: arrays (B,) by name, from sample_identity.
      motion: arrays (B,) by name, as in motion.MOTION_NAMES.
      size: side n of the square images in pixels; size * supersample must be a multiple of 16.
      supersample: samples per pixel and axis.

    Returns:
      rgb (B, n, n, 3) float32 in [0, 1]; background, the same image without head and body; matte (B, n, n) float32,
      the share of a pixel that head and body cover; segmentation (B, n, n) uint8 into SEGMENTS; depth (B, n, n)
      float32 in head units along the optical axis, 0 on the background; landmarks (B, len(LANDMARKS), 3) float32:
      x, y in [-1, 1] image coordinates (y down), z depth. The last four describe one image exactly: they come from
      the traced geometry, not from a detector.

    Raises:
      ValueError: size * supersample is not a multiple of 16.

    A pure function of its arrays; call it inside a jit with everything else static. Every element of the batch
    is computed alone.
    """
    fine = size * supersample
    if size < 8 or supersample < 1 or fine % 16:
        raise ValueError(f"size={size}: size * supersample must be a multiple of 16; take 32, 64, 128, 256 or 512")
    staged = partial(_stage, identity["seed"].reshape(-1)[0] < 1e9, identity, motion)
    travel = staged(_trace, fine)
    material = staged(_material, fine, travel)
    probes = staged(_normal_probes, fine, travel)
    grid = (fine, light_stride(size, supersample))
    points, normals, site_travel = staged(_light_sites, grid, travel, probes)
    light = staged(_ambient_and_shadow, grid, staged(_light_probes, None, points, normals), site_travel, travel)
    samples = staged(_surface, fine, travel, probes, material, light)
    wall = staged(_backdrop, fine)
    colours = staged(_colour, fine, samples, wall)
    shrink = partial(_mean_of_samples, size=size, supersample=supersample)
    batch = travel.shape[0]

    def first_sample(values):
        return values.reshape(batch, size, supersample, size, supersample)[:, :, 0, :, 0]

    covered = material != NOTHING
    along_axis = jax.vmap(lambda i, m: -build_anatomy(i, m).camera.rays(fine)[2])(identity, motion)
    depth = jnp.where(covered, travel * along_axis, 0.0)
    return {
        "rgb": jnp.stack([shrink(c) for c in colours], -1),
        "background": jnp.stack([shrink(c) for c in wall], -1),
        "matte": shrink(covered.astype(jnp.float32)),
        "segmentation": first_sample(samples["segment"]).astype(jnp.uint8),
        "depth": first_sample(depth),
        "landmarks": jax.vmap(lambda i, m: landmarks(build_anatomy(i, m)))(identity, motion),
    }


def _stage(always, identity, motion, compute, static, *arrays):
    """One step of the chain, compiled apart from the others.

    XLA on CPU ignores optimization barriers when it fuses and would recompute whole steps inside each consumer; it
    does not fuse across a conditional whose predicate it cannot know. `always` is such a predicate, always true.
    """

    @jax.jit
    @jax.vmap
    def step(identity, motion, *arrays):
        return compute(static, build_anatomy(identity, motion), *arrays)

    operands = (identity, motion, *arrays)
    shapes = jax.eval_shape(step, *operands)

    def guarded(*operands):
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return lax.cond(always, step, lambda *_: empty, *operands)

    def fenced(*operands):
        return step(*lax.optimization_barrier(operands))

    return lax.platform_dependent(*operands, cpu=guarded, default=fenced)


def _mean_of_samples(values, size: int, supersample: int):
    """(B, (size * supersample)^2) samples to (B, size, size) pixels; the sum is written out (see the design page)."""
    grid = values.reshape(-1, size, supersample, size, supersample)
    total = sum(grid[:, :, i, :, j] for i in range(supersample) for j in range(supersample))
    return total * (1.0 / (supersample * supersample))


def _trace(fine, a):
    return trace(a, fine)


def _material(fine, a, travel):
    return hit_material(a, travel, fine)


def _normal_probes(fine, a, travel):
    return normal_probes(a, travel, fine)


def _light_sites(grid, a, travel, probes):
    return light_sites(a, travel, probes, *grid)


def _light_probes(_, a, points, normals):
    return light_probes(a, points, normals)


def _ambient_and_shadow(grid, _, probes, site_travel, travel):
    return ambient_and_shadow(probes, site_travel, travel, *grid)


def _surface(fine, a, travel, probes, material, light):
    return shading.surface(a, travel, probes, material, *light, fine)


def _backdrop(fine, a):
    return shading.backdrop(a, fine)


def _colour(fine, a, samples, wall):
    return shading.colour(a, samples, wall, fine)


def to_uint8(image: jax.Array) -> jax.Array:
    """Rounds [0, 1] to 0..255."""
    return jnp.clip(image * 255.0 + 0.5, 0.0, 255.0).astype(jnp.uint8)

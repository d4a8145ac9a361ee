"""Pairs of the codec's training in one form, from the render cache or from shards; traced under jit.

A prepared batch has, as the render cache gives them,

  source, background (S, n, n, 3); source_pose (S, 9); person (S,) int32
  driver, target (B, n, n, 3); driver_pose, target_pose (B, 9); segmentation (B, n, n) of the target;
  same_identity, same_pose (B,) bool: whether driver and target are the same person, in the same head pose

with B / S drivers per source, side by side, and images in [0, 1]; from shards also valid_pose and valid_matte (B,).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

Pairs = dict[str, Array]

# Where x changes sign in (R[:, 0], R[:, 1], log s, t_x, t_y), when R becomes F R F with F = diag(-1, 1, 1).
_MIRRORED_POSE = (1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, -1.0, 1.0)


def prepared(batch: Pairs, whole: bool = False) -> Pairs:
    """Returns a batch of the render cache, or of `PairShards`, as float images in the form above.

    Shards have no image of the background alone. Where they have a matte, both the decoded head and its target stand
    before the mean colour of the source's background; where not, the decoder's colours alone are held to the whole
    frame (`composited`).

    whole: for a codec without a matte: frames of shards are targets as they are.
    """
    pairs = {name: to_float(x) if x.dtype == jnp.uint8 and x.ndim == 4 else x for name, x in batch.items()}
    if "target" in pairs:
        return pairs
    source_matte, driver_matte = (pairs.pop(f"{name}_matte").astype(jnp.float32)[..., None] / 255.0
                                  for name in ("source", "driver"))  # fmt: skip
    valid = pairs["valid_matte"][:, None, None, None]
    outside = 1.0 - source_matte
    area = outside.sum((1, 2), keepdims=True)
    colour = (pairs["source"] * outside).sum((1, 2), keepdims=True) / jnp.maximum(area, 1.0)
    background = jnp.broadcast_to(jnp.where(area > 1.0, colour, 0.5), pairs["source"].shape)
    target = pairs["driver"]
    if not whole:
        target = jnp.where(valid, composite(target, driver_matte, background), target)
    same = jnp.ones(valid.shape[:1], bool)
    pose = pairs["driver_pose"]
    seen = {"background": background, "target": target, "target_pose": pose}
    return {**pairs, **seen, "same_identity": same, "same_pose": same}


def mirrored(pairs: Pairs, key: jax.Array, share: float) -> Pairs:
    """Mirrors a random `share` of the sources, each with its drivers."""
    sources = pairs["source"].shape[0]
    on = jax.random.uniform(key, (sources,)) < share

    def mirror(name, x):
        mask = jnp.repeat(on, x.shape[0] // sources)
        if name.endswith("_pose") and x.ndim == 2:
            return jnp.where(mask[:, None], x * jnp.array(_MIRRORED_POSE), x)
        if x.ndim >= 3:
            return jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x[:, :, ::-1], x)
        return x

    return {name: mirror(name, x) for name, x in pairs.items()}


def composited(
    rgb: Float[Array, "B n n 3"],
    matte: Float[Array, "B n n 1"],
    background: Float[Array, "B n n 3"],
    valid_matte: Bool[Array, "B"] | None,
) -> Float[Array, "B n n 3"]:
    """Returns `composite`, but the colours alone where the matte has no label."""
    if valid_matte is not None:
        matte = jnp.where(valid_matte[:, None, None, None], matte, 1.0)
    return composite(rgb, matte, background)


def composite(
    rgb: Float[Array, "B n n 3"], matte: Float[Array, "B n n 1"], background: Float[Array, "B n n 3"]
) -> Float[Array, "B n n 3"]:
    """Returns the decoded head over a background canvas, float32."""
    rgb, matte = rgb.astype(jnp.float32), matte.astype(jnp.float32)
    return matte * rgb + (1.0 - matte) * background


def interleave(parts: Sequence[Any], sources: int) -> Any:
    """Joins arrays, or trees of them, of k_i rows per source into one; the rows of a source lie together.

    One behind the other, as `concatenate` has them, rows of a batch that is spread over devices would change devices.
    """

    def join(*parts):
        rows = [part.reshape(sources, -1, *part.shape[1:]) for part in parts]
        return jnp.concatenate(rows, 1).reshape(-1, *parts[0].shape[1:])

    return jax.tree.map(join, *parts)


def deinterleave(rows_of_all: Any, counts: Sequence[int], sources: int) -> list[Any]:
    """Returns the parts of `interleave`, with k_i = `counts` rows per source."""

    def part(stop: int, count: int):
        def rows(x):
            return x.reshape(sources, -1, *x.shape[1:])[:, stop - count : stop].reshape(-1, *x.shape[1:])

        return jax.tree.map(rows, rows_of_all)

    return [part(stop, count) for stop, count in zip(itertools.accumulate(counts), counts)]


def to_float(image: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Converts uint8 to float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255.0

"""Keypoints of a face: angles and rotations, posing, and their place in the project's motion vectors.

LivePortrait writes x = s (k R + e) + t with row vectors k and R = (Rz Ry Rx)^T (its equation 2). With columns that is
x = s (Rz Ry Rx k + e) + t: the pose of `geometry`, and the expression e in canonical size but not turned with the head.
t_z is always dropped.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.geometry import pose_matrix
from vasa_jax.models.keypoint_motion import RawMotion

LIVE_PORTRAIT_KEYPOINTS = 21
BIN_DEGREES = 3.0
ZERO_BINS = {"live_portrait": 32.5, "face_vid2vid": 33.0}  # of 66, from 0: 32.5 is their middle
_SMALLEST_SCALE = 1e-3  # a scale is positive; untrained networks may say otherwise


def angle(logits: Float[Array, "*batch bins"], convention: str = "live_portrait") -> Float[Array, "*batch"]:
    """Returns the expected angle in radians of bins of 3 degrees; ZERO_BINS names the one that is straight ahead."""
    share = jax.nn.softmax(logits.astype(jnp.float32), -1)
    bins = jnp.arange(logits.shape[-1], dtype=jnp.float32)
    return jnp.deg2rad(BIN_DEGREES * ((share * bins).sum(-1) - ZERO_BINS[convention]))


def rotation_from_angles(
    pitch: Float[Array, "*batch"], yaw: Float[Array, "*batch"], roll: Float[Array, "*batch"]
) -> Float[Array, "*batch 3 3"]:
    """Returns R = Rz(roll) Ry(yaw) Rx(pitch) for column vectors; radians, right-handed."""
    cx, sx, cy, sy = jnp.cos(pitch), jnp.sin(pitch), jnp.cos(yaw), jnp.sin(yaw)
    cz, sz = jnp.cos(roll), jnp.sin(roll)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def pose_from_raw(raw: RawMotion, convention: str = "live_portrait") -> Float[Array, "B 9"]:
    """Returns the pose vector of `geometry` that a network's answer stands for.

    convention: what its angles mean: a name of ZERO_BINS. face-vid2vid turns by roll first: R = Rx Ry Rz.
    """
    pitch, yaw, roll = (angle(logits, convention) for logits in (raw.pitch, raw.yaw, raw.roll))
    if convention == "face_vid2vid":
        rotation = rotation_from_angles(-pitch, -yaw, -roll).swapaxes(-1, -2)
    else:
        rotation = rotation_from_angles(pitch, yaw, roll)
    size = jnp.log(jnp.maximum(raw.scale, _SMALLEST_SCALE))
    return jnp.concatenate([rotation[..., 0], rotation[..., 1], size, raw.translation[:, :2]], -1)


def posed_keypoints(
    canonical: Float[Array, "#B K 3"], pose: Float[Array, "B 9"], expression: Float[Array, "#B K 3"]
) -> Float[Array, "B K 3"]:
    """Returns s (R k + e) + t for every keypoint (LivePortrait, equation 2)."""
    rotation, scale, translation = pose_matrix(pose)
    # Written out: by default an einsum rounds to bfloat16 or TF32 on accelerators.
    turned = (rotation[:, None] * canonical[:, :, None, :]).sum(-1)
    return scale[:, None, None] * (turned + expression) + translation[:, None]


def add_offsets(
    keypoints: Float[Array, "B K 3"], offsets: Float[Array, "B outputs"]
) -> Float[Array, "B K 3"]:
    """Moves keypoints by what stitching or retargeting says: 3 K numbers, and 2 more that shift all in x, y."""
    count = 3 * keypoints.shape[1]
    moved = keypoints + offsets[:, :count].reshape(keypoints.shape)
    if offsets.shape[1] > count:
        moved = moved + jnp.pad(offsets[:, count:], ((0, 0), (0, 1)))[:, None]
    return moved

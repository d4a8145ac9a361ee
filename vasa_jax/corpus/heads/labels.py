"""Exact labels of a rendered head: pose, gaze, lids, mouth and distance, in the project's conventions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vasa_jax.corpus.heads.anatomy import HEAD_CENTRE, build_anatomy, head_to_world
from vasa_jax.corpus.heads.camera import DISTANCE, FOCAL
from vasa_jax.corpus.heads.landmarks import head_landmarks, lid_gaps, mouth_gap, rest_lid_gap
from vasa_jax.corpus.heads.sdf import rotate

# Image units per head unit at the head's centre, at dist = 1, whatever the lens.
CANONICAL_SCALE = FOCAL / (DISTANCE - HEAD_CENTRE[2])


def to_canonical(p: tuple) -> tuple:
    """Moves head-space points to the canonical frame: x right, y down, z into the scene, image units."""
    x, y, z = (v - c for v, c in zip(p, HEAD_CENTRE))
    return CANONICAL_SCALE * x, -CANONICAL_SCALE * y, -CANONICAL_SCALE * z


def canonical_landmarks(identity: dict, motion: dict) -> jax.Array:
    """Returns LANDMARKS (B, N, 3) of a batch of frames in the canonical frame, where head poses move nothing.

    A pose label takes them into the image to within the perspective that `labels` names.
    """
    return jax.vmap(lambda i, m: jnp.stack(to_canonical(head_landmarks(build_anatomy(i, m))), -1))(identity, motion)


def labels(identity: dict, motion: dict) -> dict[str, jax.Array]:
    """Returns the labels of a batch of frames; identity, motion and results have one leading batch axis B.

    Returns:
      pose (B, 9) float32: first two columns of R, log s, tx, ty, such that s R p + t projects head points p (canonical,
      see `to_canonical`) to image coordinates; p = 0 exactly, others to within the perspective that a weak-perspective
      camera leaves out (below 0.055 for the face at common poses).
      gaze (B, 2): yaw, pitch in degrees in the camera frame, positive to image right and down.
      lids (B, 2): opening over the person's neutral opening, eye on the image's left, on its right; 0 closed.
      mouth (B,): distance between the inner lips over the distance between the eyes' centres.
      distance (B,): 1 / s.
    """
    return jax.vmap(_labels)(identity, motion)


def _labels(identity, motion):
    a = build_anatomy(identity, motion)
    rotation, log_scale, x, y = _weak_perspective(a)
    columns = [rotation[row][column] for column in range(2) for row in range(3)]
    gaze = rotate(a.rotation, a.gaze)
    gaze_yaw, gaze_down = jnp.arctan2(gaze[0], gaze[2]), -jnp.arcsin(jnp.clip(gaze[1], -1.0, 1.0))
    return {
        "pose": jnp.stack([*columns, log_scale, x, y]),
        "gaze": jnp.rad2deg(jnp.stack([gaze_yaw, gaze_down])),
        "lids": jnp.stack(lid_gaps(a)) / rest_lid_gap(a),
        "mouth": mouth_gap(a) / (2.0 * a.eye[0]),
        "distance": jnp.exp(-log_scale),
    }


def _weak_perspective(a):
    """Rows of R, log s, tx, ty of the scaled rotation that touches the true projection at the head's centre.

    To first order, a head whose centre is off the optical axis projects as if turned by the angle of the line of
    sight. So R is the head's rotation seen along that line.
    """
    centre = head_to_world(a, HEAD_CENTRE)
    x, y, depth = a.camera.project(centre)
    focal = a.camera.focal
    # Image axes: y and z flip sign, on both sides of the rotation.
    flip = (1.0, -1.0, -1.0)
    turned = tuple(tuple(flip[i] * flip[j] * a.rotation[i][j] for j in range(3)) for i in range(3))
    # Line of sight to the centre in image axes, and the shortest rotation that brings it onto z.
    u, v, w = (c / jnp.sqrt(x * x + y * y + focal * focal) for c in (x, y, focal + 0.0 * x))
    k = 1.0 / (1.0 + w)
    to_axis = (
        (1.0 - u * u * k, -u * v * k, -u),
        (-u * v * k, 1.0 - v * v * k, -v),
        (u, v, w),
    )
    columns = [rotate(to_axis, tuple(row[j] for row in turned)) for j in range(3)]
    rows = tuple(tuple(columns[j][i] for j in range(3)) for i in range(3))
    return rows, jnp.log(focal / depth / CANONICAL_SCALE), x, y

"""Removes head rotation from the dynamics latent, as far as a linear probe can read it.

Agreement between latents of one face in two head poses (`face.latent_agreement`) makes the pose a small part of them,
but no loss makes it vanish. A projection does: LEACE (Belrose et al. 2023, Theorem 4.3) is the least change of a latent
after which no linear probe finds the concept. It is folded into the last layer of the dynamics network and into the
first layers that read its latents. So latents from a transformer trained before the erasure decode the same way.

Least is meant for rendered heads, to which it is fitted. Directions in which these hardly vary cost nothing there, and
it may use them with a large gain. Latents that do vary in them, as those of real faces, then move far.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vasa_jax.config import VASAConfig
from vasa_jax.evaluation.held_out import HeldOutHeads, motions_with_other_poses
from vasa_jax.models.face import face_codec
from vasa_jax.weights.parts import load_part
from vasa_jax.weights.safetensors_io import save_params

HEAD = "encoder/dynamics_net/head/kernel"  # (features, Z)
READERS = ("encoder/embedding/dynamics_map/kernel", "decoder/embedding/dynamics_map/kernel")  # (Z, features)
ROTATION = slice(0, 6)  # of a pose: place and size are not in the crop that dynamics are read from
BATCH = 8  # images encoded at once


def erase_pose(config: VASAConfig, workdir: str | Path) -> Path:
    """Does the job `erase_pose`: writes the codec of `config.checkpoint` without rotation in its dynamics.

    The projection is fitted on rendered people whom no evaluation knows, with head poses drawn apart from expressions;
    crops are aligned by the true poses. Kernels are exported as float32: other stages train on from them. Returns the
    path, in workdir/export.
    """
    params, metadata = load_part(config.checkpoint, "face")
    settings = config.pose_erasure
    encoder, _ = face_codec(metadata["fields"])
    people = HeldOutHeads(encoder.image_size, config.seed, settings.supersample, BATCH, "pose erasure")
    encode = jax.jit(lambda rgb, pose: _dynamics(encoder, params, rgb, pose))
    codes, poses = [], []
    for index in range(settings.people):
        identity = people.identity(index)
        motion = motions_with_other_poses(jax.random.fold_in(people.key, index), settings.stills)
        rgb, pose = people.render(identity, motion)["rgb"], people.label(identity, motion)["pose"]
        for start in range(0, len(rgb), BATCH):
            rows = np.minimum(np.arange(start, start + BATCH), len(rgb) - 1)  # one compiled shape
            codes.append(np.asarray(encode(rgb[rows], pose[rows]))[: len(rgb) - start])
        poses.append(pose[:, ROTATION])
    codes, poses = np.concatenate(codes), np.concatenate(poses)
    eraser = linear_eraser(codes, poses)
    spread = codes - codes.mean(0)
    moved = np.linalg.norm(spread - spread @ eraser) / np.linalg.norm(spread)
    path = Path(workdir) / "export" / "face.safetensors"
    metadata = metadata | {"pose_erasure": dataclasses.asdict(settings)}
    save_params(path, without_directions(params, eraser), metadata, jnp.float32)
    print(
        f"{path}: rotation taken out of the dynamics, {len(codes)} of which moved by {moved:.1%} of their spread; "
        f"largest gain {largest_gain(eraser):.0f}, by which latents unlike these may move"
    )
    return path


def linear_eraser(x_NF: np.ndarray, y_NT: np.ndarray) -> np.ndarray:
    """Returns E (F, F), E E = E, for which x E is uncorrelated with every column of y (LEACE).

    Of all such maps it moves x - mean(x) least.

    Raises:
        ValueError: there are fewer rows than features: what is taken out would be chance.
    """
    x, y = (np.asarray(value, np.float64) - np.mean(value, 0, np.float64) for value in (x_NF, y_NT))
    if len(x) < x.shape[1]:
        raise ValueError(f"{len(x)} rows of {x.shape[1]} features; at least as many rows are needed")
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    kept = values > 1e-8 * values.max()
    roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
    whiten, colour = (vectors / roots) @ vectors.T, (vectors * roots) @ vectors.T
    directions, strengths, _ = np.linalg.svd(whiten @ (x.T @ y) / len(x), full_matrices=False)
    directions = directions[:, strengths > 1e-6 * strengths.max()]
    return np.eye(x.shape[1]) - whiten @ directions @ directions.T @ colour


def largest_gain(eraser: np.ndarray) -> float:
    """Returns how far E moves a latent at most, over the latent's own length about the mean."""
    return float(np.linalg.norm(eraser - np.eye(len(eraser)), 2))


def without_directions(params: dict[str, Any], eraser: np.ndarray) -> dict[str, Any]:
    """Returns a codec's parameters that make latents z E in the place of z, and read every latent z as z E."""
    flat = flatten_dict(params, sep="/")
    flat[HEAD] = np.asarray(flat[HEAD] @ eraser, np.float32)
    for name in READERS:
        flat[name] = np.asarray(eraser @ flat[name], np.float32)
    return unflatten_dict(flat, sep="/")


def _dynamics(encoder, params, rgb: jax.Array, pose: jax.Array) -> jax.Array:
    variables = {"params": params["encoder"]}
    return encoder.apply(variables, rgb.astype(jnp.float32) / 255.0, pose, method="encode_dynamics")

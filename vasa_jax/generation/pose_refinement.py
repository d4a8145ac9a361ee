"""Reads the motion of a face's video: by the encoder, then again from how far off the picture is that this draws.

The second part is photometric alignment (Lucas and Kanade 1981; as used for faces by Thies et al., Face2Face 2016,
section 5). The first frame is drawn in the pose that the encoder has read. Gauss-Newton steps move that pose until the
drawn face lies on the true one. One picture is drawn for each step: in place of the decoder's derivatives those of a
rigid ellipsoid are used.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from vasa_jax.conventions import POSE_DIM
from vasa_jax.filling import filled_up
from vasa_jax.generation.animator import Avatar, PortraitAnimator
from vasa_jax.models import geometry

# The surface in canonical coordinates, about the point on the face that the encoder's crop shows in its middle.
RADII = (0.42, 0.6, 0.5)  # of the ellipsoid, across, down and into the scene
POINTS = 72  # along each side of the square of that crop
BLUR = 1.2  # pixels of 256; pictures are smoothed before they are compared
STEP = 0.8  # of a Gauss-Newton step: what the decoder draws moves further than the ellipsoid
LARGEST = 0.08  # change of a number in one step
SPREAD = (0.05, 0.05, 0.05, 0.03, 0.03, 0.03)  # the encoder's errors: turn (radians), log of the size, place
MEASUREMENTS = 1000.0  # that a picture counts as: the errors of neighbouring pixels are alike
OUTLIER = 0.1  # of the range of colours, from where an error counts as its size and no longer as its square


class MotionReader:
    """Reads the frames of one video, part by part; its first frame is the picture that is drawn."""

    def __init__(self, animator: PortraitAnimator, passes: int):
        """passes: pictures that are drawn for each frame; 0 = the encoder alone."""
        self._animator, self._passes = animator.plain, passes
        self._avatar: Avatar | None = None

    def __call__(self, frames: UInt8[np.ndarray, "T n n 3"]) -> Float[np.ndarray, "T motion"]:
        """Returns the motion of the next frames: pose and dynamics, 137 numbers in the volume codec."""
        frames = self._animator.reduced(frames)
        motion = self._animator.encode_motion(frames)
        if not self._passes:
            return motion
        if self._avatar is None:
            self._avatar = self._animator.prepare(frames[0])
        size = self._animator.decode_batch
        poses = [self._refined(f, m) for f, m in zip(_batches(frames, size), _batches(motion, size))]
        return np.concatenate([np.concatenate(poses)[: len(motion)], motion[:, POSE_DIM:]], 1)

    def _refined(self, frames: np.ndarray, motion: np.ndarray) -> np.ndarray:
        pose, offset = jnp.asarray(motion[:, :POSE_DIM]), jnp.zeros((len(motion), len(SPREAD)))
        centre, zoom = self._animator.face_crop
        for _ in range(self._passes):
            moved = np.concatenate([np.asarray(pose), motion[:, POSE_DIM:]], 1)
            drawn = next(self._animator.render(self._avatar, moved, len(motion)))
            pose, offset = aligned(pose, offset, jnp.asarray(drawn), jnp.asarray(frames), centre, zoom)
        return np.asarray(pose)


@functools.partial(jax.jit, static_argnames=("centre", "zoom"))
def aligned(
    pose: Float[Array, "B 9"],
    offset: Float[Array, "B 6"],
    drawn: Array,
    frames: Array,
    centre: tuple[float, float, float],
    zoom: float,
) -> tuple[Float[Array, "B 9"], Float[Array, "B 6"]]:
    """Moves poses by one step towards those of the frames; returns them and how far they are from the first reading.

    offset: what earlier steps have changed, as turn, log of the size and place. drawn, frames: (B, n, n, 3), 0 to 255,
    the face in these poses and the true one. centre, zoom: of the face's square, as in `geometry.align_crop`.
    """
    drawn, frames = (_blurred(image.astype(jnp.float32) / 255.0) for image in (drawn, frames))
    surface, weight = ellipsoid(centre, zoom)
    rotation, scale, _ = geometry.pose_matrix(pose)
    turned = scale[:, None, None] * (surface[None, :, None, :] * rotation[:, None]).sum(-1)  # (B, N, 3)
    places = geometry.image_from_canonical(surface[None], pose)[..., :2]
    error = geometry.bilinear_sample(frames - drawn, places, "border")
    slopes = [geometry.bilinear_sample(slope, places, "border") for slope in _slopes((drawn + frames) / 2.0)]
    change = -sum(s[..., None, :] * d[..., None] for s, d in zip(slopes, jnp.moveaxis(_moves(turned), -1, 0)))
    inside = (jnp.abs(places) < 1.0).all(-1)
    trust = (weight * inside)[..., None] * jnp.minimum(1.0, OUTLIER / jnp.maximum(jnp.abs(error), 1e-6))
    noise = jnp.maximum((trust * error**2).sum((1, 2)), 1e-6) / MEASUREMENTS
    prior = jnp.diag(1.0 / jnp.square(jnp.asarray(SPREAD))) * noise[:, None, None]
    with jax.default_matmul_precision("float32"):
        normal = jnp.einsum("bnjc,bnkc->bjk", change * trust[:, :, None], change) + prior
        right = jnp.einsum("bnjc,bnc->bj", change, trust * error) - jnp.einsum("bjk,bk->bj", prior, offset)
    step = STEP * jnp.clip(jnp.linalg.solve(normal, right[..., None])[..., 0], -LARGEST, LARGEST)
    return moved_pose(pose, step), offset + step


def ellipsoid(centre: tuple[float, float, float], zoom: float) -> tuple[Float[Array, "N 3"], Float[Array, "N"]]:
    """Returns points of a face's surface in canonical coordinates, and their weights, which fade at its rim."""
    across, down, depth = RADII
    plane = geometry.pixel_grid(POINTS, POINTS).reshape(-1, 2)
    x, y = plane[:, 0] / zoom, plane[:, 1] / zoom
    z = depth * (1.0 - jnp.sqrt(jnp.maximum(1.0 - (x / across) ** 2 - (y / down) ** 2, 0.02)))
    weight = jnp.exp(-0.5 * jnp.square((plane**2).sum(-1)))
    return jnp.stack([x, y, z], -1) + jnp.asarray(centre, jnp.float32), weight


def moved_pose(pose: Float[Array, "B 9"], change: Float[Array, "B 6"]) -> Float[Array, "B 9"]:
    """Turns poses by a rotation vector (radians, about the image's axes), scales and moves them."""
    angle = jnp.sqrt((change[:, :3] ** 2).sum(-1) + 1e-16)[:, None]
    axis = change[:, :3] / angle

    def turned(column):  # Rodrigues
        along = axis * (axis * column).sum(-1, keepdims=True)
        return column * jnp.cos(angle) + jnp.cross(axis, column) * jnp.sin(angle) + along * (1.0 - jnp.cos(angle))

    rotation = geometry.rotation_from_6d(pose[:, :6])
    return jnp.concatenate(
        [turned(rotation[..., 0]), turned(rotation[..., 1]), pose[:, 6:] + change[:, 3:]], axis=-1
    )


def _moves(turned: Float[Array, "B N 3"]) -> Float[Array, "B N 6 2"]:
    """How points s R p move in the image as each of the six numbers changes."""
    x, y, z = turned[..., 0], turned[..., 1], turned[..., 2]
    nothing, one = jnp.zeros_like(x), jnp.ones_like(x)
    across = [nothing, z, -y, x, one, nothing]
    down = [-z, nothing, x, y, nothing, one]
    return jnp.stack([jnp.stack(across, -1), jnp.stack(down, -1)], -1)


def _slopes(image: Float[Array, "B n n 3"]) -> tuple[Array, Array]:
    """Differences per unit of x and of y."""
    half = image.shape[1] / 4.0  # pixels of a unit are n / 2; the neighbours are two apart
    wide = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    return half * (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]), half * (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1])


def _blurred(image: Float[Array, "B n n 3"]) -> Float[Array, "B n n 3"]:
    deviation = BLUR * image.shape[1] / 256.0
    reach = max(1, int(np.ceil(3.0 * deviation)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (reach, reach)
        wide = jnp.pad(image, pad, "edge")
        size = image.shape[axis]
        image = sum(k * jax.lax.slice_in_dim(wide, i, i + size, axis=axis) for i, k in enumerate(kernel))
    return image


def _batches(values: np.ndarray, size: int):
    """Parts of equal length, the last one filled up."""
    for start in range(0, len(values), size):
        yield filled_up(values[start : start + size], size)

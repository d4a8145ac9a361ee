"""Losses of keypoints: those that nobody labels (face-vid2vid, Wang et al. 2021, supplement B), and the guides by
landmarks (LivePortrait, Guo et al. 2024, section 3.2), here exact ones in the image and in the head's own frame."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vasa_jax.conventions import LANDMARKS
from vasa_jax.losses.images import masked_mean
from vasa_jax.models.geometry import bilinear_sample, pixel_grid
from vasa_jax.models.keypoint_reader import GUIDES

SPREAD = 0.1  # D_t: squared distance below which two keypoints repel each other
# z_t: mean depth of the keypoints, where the front of a face lies in our canonical frame; the paper's frame has 0.33
DEPTH = -0.2
CONTROL_POINTS = 5  # per side, of a thin-plate spline
AFFINE, BEND = 0.05, 0.005  # standard deviations of random affine maps and of their splines' weights
WING, WING_CURVE = 0.1, 0.01  # half the width of the Wing loss's logarithm, and its curvature
# Spread of a coordinate, in the head's frame, below which it is not told apart from standing still.
LEAST_SPREAD = 0.003
_SMALL = 1e-6


def keypoint_prior(keypoints: Float[Array, "B K 3"], guided: int = 0) -> Float[Array, ""]:
    """Computes how far keypoints are from being spread out, and their mean depth from the face's.

    The first `guided` ones may be as close to each other as their landmarks are.
    """
    free = jnp.arange(keypoints.shape[1]) >= guided
    repelled = (free[:, None] | free) & ~jnp.eye(len(free), dtype=bool)
    square = jnp.square(keypoints[:, :, None] - keypoints[:, None]).sum(-1)
    close = (repelled * jnp.maximum(SPREAD - square, 0.0)).sum((1, 2))
    return (close + jnp.abs(keypoints[..., 2].mean(-1) - DEPTH)).mean()


def guide_points(landmarks: Float[Array, "B N d"], keypoints: int) -> Float[Array, "B G d"]:
    """Returns the landmarks that the first G of so many keypoints follow, in the order of GUIDES."""
    return landmarks[:, [LANDMARKS.index(name) for name in GUIDES[:keypoints]]]


def keypoint_guide(
    keypoints: Float[Array, "B K d"], points: Float[Array, "B G d"], valid: Bool[Array, "B"] | None = None
) -> Float[Array, ""]:
    """Computes the Wing loss (Feng et al. 2018) of the first G keypoints against points in [-1, 1].

    valid: which rows have points; None = all.
    """
    error = jnp.abs(keypoints[:, : points.shape[1]] - points)
    near = WING * jnp.log1p(error / WING_CURVE)
    far = error - WING + WING * math.log1p(WING / WING_CURVE)
    return _mean_of_rows(jnp.where(error < WING, near, far), valid)


def expression_guide(
    keypoints: Float[Array, "B K 3"], points: Float[Array, "B G 3"], valid: Bool[Array, "B"] | None = None
) -> Float[Array, ""]:
    """Computes Huber's loss of the first G keypoints, or their displacements, in the head's own frame.

    Each coordinate counts in its standard deviation over the batch: in the image's units head poses and the people's
    shapes outweigh a lid or a lip a hundred times. valid: which rows have points; None = all.
    """
    deviation = jnp.std(points, 0, where=None if valid is None else valid[:, None, None])
    spread = jax.lax.stop_gradient(deviation) + LEAST_SPREAD
    error = jnp.abs(keypoints[:, : points.shape[1]] - points) / spread
    return _mean_of_rows(jnp.where(error < 1.0, 0.5 * jnp.square(error), error - 0.5), valid)


def _mean_of_rows(errors: Float[Array, "B G d"], valid: Bool[Array, "B"] | None) -> Float[Array, ""]:
    return errors.mean() if valid is None else masked_mean(errors.mean((1, 2)), valid)


def random_bends(key: jax.Array, count: int) -> tuple[Float[Array, "count 2 3"], Float[Array, "count points"]]:
    """Draws maps of the image plane: (affine part, weights of a thin-plate spline over a grid of control points)."""
    affine, spline = jax.random.split(key)
    identity = jnp.eye(2, 3)
    parts = identity + AFFINE * jax.random.normal(affine, (count, 2, 3))
    return parts, BEND * jax.random.normal(spline, (count, CONTROL_POINTS**2))


def bent(
    points: Float[Array, "count N 2"], bends: tuple[Float[Array, "count 2 3"], Float[Array, "count points"]]
) -> Float[Array, "count N 2"]:
    """Returns where maps of `random_bends` take points, x and y in [-1, 1]; both coordinates share the spline."""
    affine, weights = bends
    line = jnp.linspace(-1.0, 1.0, CONTROL_POINTS)
    control = jnp.stack(jnp.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
    # The distance is L1, as in the method's common code.
    distance = jnp.abs(points[:, :, None] - control).sum(-1)
    spline = jnp.square(distance) * jnp.log(distance + _SMALL)
    x, y = points[..., 0], points[..., 1]
    straight = [row[:, :1] * x + row[:, 1:2] * y + row[:, 2:] for row in (affine[:, 0], affine[:, 1])]
    return jnp.stack(straight, -1) + (spline * weights[:, None]).sum(-1)[..., None]


def bent_images(
    images: Float[Array, "count H W 3"], bends: tuple[Float[Array, "count 2 3"], Float[Array, "count points"]]
) -> Float[Array, "count H W 3"]:
    """Returns images that show at each place what the given ones show where the map takes it."""
    count, height, width, _ = images.shape
    grid = jnp.broadcast_to(pixel_grid(height, width).reshape(1, -1, 2), (count, height * width, 2))
    return bilinear_sample(images, bent(grid, bends).reshape(count, height, width, 2), "border")


def equivariance(
    keypoints: Float[Array, "count K 3"],
    keypoints_bent: Float[Array, "count K 3"],
    bends: tuple[Float[Array, "count 2 3"], Float[Array, "count points"]],
) -> Float[Array, ""]:
    """Computes L1 between keypoints of images and those of the bent images taken back, in x and y."""
    return jnp.abs(keypoints[..., :2] - bent(keypoints_bent[..., :2], bends)).mean()

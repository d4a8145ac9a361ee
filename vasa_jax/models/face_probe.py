"""The face probe: one small network that reads a face off a frame, for measuring only.

A network of ours, for what VASA-1 leaves unmeasured: lips, lids, gaze and identity in pixels.

It is trained on true renders (`vasa_jax.training.tasks.face_probe`). It shares no weights, seed or identities with the
codec or with any loss network: a model cannot be good by its own measure.

1. A trunk over the whole frame finds landmarks and head pose.
2. Patches around the mouth, each eye and the face are cut in the head's own scale and roll.
3. The patches give mouth opening, lids, gaze and an identity embedding.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.geometry import bilinear_sample
from vasa_jax.models.layers import Dtype

SIZE = 128  # pixels; other sizes are resized to it
EMBEDDING = 64
GAZE_SCALE = 20.0  # degrees per unit of the network's output
# Half sides of the patches in canonical units (the frame's half width at pose scale 1) and their sides in pixels.
MOUTH_PATCH = (0.26, 32)
EYE_PATCH = (0.16, 24)
FACE_PATCH = (0.62, 40)


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Holds the indices of the landmarks that place the patches; a patch sits on the mean of its points."""

    mouth: tuple[int, ...]
    left_eye: tuple[int, ...]  # image left
    right_eye: tuple[int, ...]

    @property
    def face(self) -> tuple[int, ...]:
        """All of them: the face's patch sits on their mean."""
        return self.mouth + self.left_eye + self.right_eye


class ConvNormAct(nn.Module):
    """Applies a convolution, GroupNorm and SiLU."""

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        kernel = (self.kernel, self.kernel)
        x_BHWC = nn.Conv(self.features, kernel, (self.stride,) * 2, use_bias=False, dtype=self.dtype, name="conv")(
            x_BHWC
        )
        return nn.silu(nn.GroupNorm(num_groups=8, dtype=self.dtype, name="norm")(x_BHWC))


class Residual(nn.Module):
    """Adds two convolutions to their input."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        features = x_BHWC.shape[-1]
        h = ConvNormAct(features, dtype=self.dtype, name="first")(x_BHWC)
        return x_BHWC + ConvNormAct(features, dtype=self.dtype, name="second")(h)


class PatchEncoder(nn.Module):
    """Encodes a patch (B, p, p, 3) as a vector (B, F).

    Convolutions, each after the first with stride 2; a narrow 1x1 convolution; then all positions are flattened.
    """

    widths: tuple[int, ...]
    narrow: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        for i, width in enumerate(self.widths):
            x_BHWC = ConvNormAct(width, stride=1 if i == 0 else 2, dtype=self.dtype, name=f"conv{i}")(x_BHWC)
        x_BHWC = ConvNormAct(self.narrow, kernel=1, dtype=self.dtype, name="narrow")(x_BHWC)
        return x_BHWC.reshape(x_BHWC.shape[0], -1).astype(jnp.float32)


class FaceProbe(nn.Module):
    """Reads frames (B, 128, 128, 3) in [0, 1]; returns a dict with the fields of `face_readings.Measurements`.

    Attributes:
      landmarks: number of landmarks.
      anchors: which of them place the patches.
    """

    landmarks: int
    anchors: Anchors
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image_BHWC: Float[Array, "B 128 128 3"]) -> dict[str, jax.Array]:
        image_BHWC = image_BHWC.astype(jnp.float32)
        batch = image_BHWC.shape[0]
        d = self.dtype
        # 1. The whole frame: landmarks from heat maps at a quarter of the size, head pose from everything.
        x = (image_BHWC * 2.0 - 1.0).astype(d)
        x = ConvNormAct(16, kernel=5, stride=2, dtype=d, name="stem")(x)
        fine = Residual(dtype=d, name="fine_block")(ConvNormAct(32, stride=2, dtype=d, name="fine")(x))
        middle = Residual(dtype=d, name="middle_block")(ConvNormAct(40, stride=2, dtype=d, name="middle")(fine))
        coarse = ConvNormAct(48, stride=2, dtype=d, name="coarse")(middle)
        coarse = ConvNormAct(48, dtype=d, name="coarse_block")(coarse)
        merged = _double(nn.Conv(40, (1, 1), dtype=d, name="coarse_lateral")(coarse)) + middle
        merged = _double(nn.Conv(32, (1, 1), dtype=d, name="middle_lateral")(merged)) + fine
        merged = ConvNormAct(32, dtype=d, name="merge")(merged)
        landmarks_BL2 = soft_argmax(nn.Conv(self.landmarks, (1, 1), dtype=d, name="heat")(merged))
        summary = ConvNormAct(8, kernel=1, dtype=d, name="summary")(coarse).reshape(batch, -1).astype(jnp.float32)
        hidden = jnp.concatenate([summary, landmarks_BL2.reshape(batch, -1)], -1)
        hidden = nn.silu(nn.Dense(32, name="pose_hidden")(hidden))
        pose_B9 = nn.Dense(9, name="pose")(hidden) + jnp.array([1.0, 0, 0, 0, 1.0, 0, 0, 0, 0])

        # 2. Patches in the head's scale and roll; where they lie is not trained by what they are used for.
        still_L2, still_9 = jax.lax.stop_gradient((landmarks_BL2, pose_B9))

        def patch(image, points, half_and_pixels, mirror=False):
            half, pixels = half_and_pixels
            grid = patch_grid(still_L2[:, jnp.array(points)].mean(1), still_9, half, pixels, mirror)
            return bilinear_sample(image * 2.0 - 1.0, grid).astype(d)

        mouth = patch(image_BHWC, self.anchors.mouth, MOUTH_PATCH)
        # One encoder serves both eyes: the right one is mirrored.
        eyes = [
            patch(image_BHWC, self.anchors.left_eye, EYE_PATCH),
            patch(image_BHWC, self.anchors.right_eye, EYE_PATCH, mirror=True),
        ]
        # The face patch is coarser than the frame: average pairs of pixels first.
        face = patch(nn.avg_pool(image_BHWC, (2, 2), (2, 2)), self.anchors.face, FACE_PATCH)

        # 3. What the patches say, given the pose.
        mouth = PatchEncoder((24, 32, 32, 32), 24, dtype=d, name="mouth_patch")(mouth)
        mouth = nn.silu(nn.Dense(32, name="mouth_hidden")(jnp.concatenate([mouth, still_9], -1)))
        eyes = PatchEncoder((16, 24, 32), 24, dtype=d, name="eye_patch")(jnp.concatenate(eyes, 0))
        eyes = nn.silu(nn.Dense(24, name="eye_hidden")(eyes)).reshape(2, batch, 24)
        both = jnp.concatenate([eyes[0], eyes[1], still_9], -1)
        both = nn.silu(nn.Dense(32, name="eyes_hidden")(both))
        embedding = PatchEncoder((24, 32, 48, 48), 16, dtype=d, name="face_patch")(face)
        embedding = nn.Dense(EMBEDDING, name="embedding")(embedding)
        return {
            "mouth": nn.Dense(1, name="mouth")(mouth)[:, 0],
            "lids": nn.Dense(2, name="lids")(both),
            "gaze": GAZE_SCALE * nn.Dense(2, name="gaze")(both),
            "pose": pose_B9,
            "landmarks": landmarks_BL2,
            "embedding": embedding / jnp.maximum(jnp.linalg.norm(embedding, axis=-1, keepdims=True), 1e-6),
        }


def soft_argmax(heat_BHWL: Float[Array, "B H W L"]) -> Float[Array, "B L 2"]:
    """Returns the mean positions (x, y), in [-1, 1], under the softmax of each map."""
    batch, height, width, count = heat_BHWL.shape
    weight = jax.nn.softmax(heat_BHWL.astype(jnp.float32).reshape(batch, height * width, count), axis=1)
    weight = weight.reshape(batch, height, width, count)
    x = (2.0 * jnp.arange(width) + 1.0) / width - 1.0
    y = (2.0 * jnp.arange(height) + 1.0) / height - 1.0
    # The softmax cannot put its mean on the border, where landmarks may lie: stretch a little.
    return 1.1 * jnp.stack([(weight * x[:, None]).sum((1, 2)), (weight * y[:, None, None]).sum((1, 2))], axis=-1)


def patch_grid(
    centre_B2: Float[Array, "B 2"], pose_B9: Float[Array, "B 9"], half: float, pixels: int, mirror: bool = False
) -> Float[Array, "B p p 2"]:
    """Returns the image coordinates of a square that has the head's roll and pose scale.

    `half` is half its side in canonical units; `pixels` its side in pixels; `mirror` turns it left to right.
    """
    axis = (2.0 * jnp.arange(pixels) + 1.0) / pixels - 1.0
    scale_B = half * jnp.exp(jnp.clip(pose_B9[:, 6], -1.0, 1.0))
    roll_B = jnp.arctan2(pose_B9[:, 1] - pose_B9[:, 3], pose_B9[:, 0] + pose_B9[:, 4])
    cos, sin = (scale_B * jnp.cos(roll_B))[:, None, None], (scale_B * jnp.sin(roll_B))[:, None, None]
    u = (-axis if mirror else axis)[None, None, :]
    v = axis[None, :, None]
    x = centre_B2[:, 0, None, None] + cos * u - sin * v
    y = centre_B2[:, 1, None, None] + sin * u + cos * v
    return jnp.stack([x, y], axis=-1)


def _double(x_BHWC: jax.Array) -> jax.Array:
    batch, height, width, features = x_BHWC.shape
    return jax.image.resize(x_BHWC, (batch, 2 * height, 2 * width, features), "linear")

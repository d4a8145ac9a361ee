"""The measuring instrument: one small network that reads a face off a frame.

It is trained on true renders only (`vasa_jax.training.tasks.face_probe`) and shares no weights, seed or identities
with the codec or with anything that appears in a loss, so that a model cannot be good by its own measure.

A trunk over the whole frame finds landmarks and head pose; fixed-size patches around the mouth, each eye and the
face, cut in the head's own scale and roll, then carry the pixels that decide an opening, a gaze or an identity.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.evaluation import measures
from vasa_jax.models.geometry import bilinear_sample
from vasa_jax.weights.parts import load_part

SIZE = 128  # pixels; other sizes are resized to it
EMBEDDING = 64
GAZE_SCALE = 20.0  # degrees per unit of the network's output
# Half sides of the patches in canonical units (the frame's half width at pose scale 1) and their sides in pixels.
MOUTH_PATCH = (0.26, 32)
EYE_PATCH = (0.16, 24)
FACE_PATCH = (0.62, 40)


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Indices of the landmarks that place the patches; a patch sits on the mean of its points."""

    mouth: tuple[int, ...]
    left_eye: tuple[int, ...]  # image left
    right_eye: tuple[int, ...]

    @property
    def face(self) -> tuple[int, ...]:
        return self.mouth + self.left_eye + self.right_eye


@dataclasses.dataclass(frozen=True)
class Measurements:
    """What the instrument read in N frames, as float32 numpy arrays."""

    mouth: np.ndarray  # (N,) inner-lip distance over inter-ocular distance
    lids: np.ndarray  # (N, 2) opening over the neutral one; image left, image right
    gaze: np.ndarray  # (N, 2) degrees, camera frame: + is image right, image down
    pose: np.ndarray  # (N, 9) first two columns of R, log s, tx, ty
    landmarks: np.ndarray  # (N, L, 2) in [-1, 1], y down
    embedding: np.ndarray  # (N, 64) of unit length; frames of one person are close

    def __getitem__(self, frames: Any) -> "Measurements":
        """The same measurements of some frames."""
        return Measurements(**{f.name: getattr(self, f.name)[frames] for f in dataclasses.fields(self)})

    @classmethod
    def joined(cls, parts: Sequence["Measurements"]) -> "Measurements":
        """The measurements of several pieces of video as one."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class ConvNormAct(nn.Module):
    """Convolution, GroupNorm, SiLU."""

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        kernel = (self.kernel, self.kernel)
        x_BHWC = nn.Conv(self.features, kernel, (self.stride,) * 2, use_bias=False, dtype=self.dtype, name="conv")(
            x_BHWC
        )
        return nn.silu(nn.GroupNorm(num_groups=8, dtype=self.dtype, name="norm")(x_BHWC))


class Residual(nn.Module):
    """Two convolutions around a skip."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        features = x_BHWC.shape[-1]
        h = ConvNormAct(features, dtype=self.dtype, name="first")(x_BHWC)
        return x_BHWC + ConvNormAct(features, dtype=self.dtype, name="second")(h)


class PatchEncoder(nn.Module):
    """A patch to a vector: convolutions, each after the first with stride 2, a narrow 1x1 one, then all positions
    flattened.
    """

    widths: tuple[int, ...]
    narrow: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        for i, width in enumerate(self.widths):
            x_BHWC = ConvNormAct(width, stride=1 if i == 0 else 2, dtype=self.dtype, name=f"conv{i}")(x_BHWC)
        x_BHWC = ConvNormAct(self.narrow, kernel=1, dtype=self.dtype, name="narrow")(x_BHWC)
        return x_BHWC.reshape(x_BHWC.shape[0], -1).astype(jnp.float32)


class FaceInstrument(nn.Module):
    """(B, 128, 128, 3) frames in [0, 1] -> a dict with the fields of `Measurements`.

    `landmarks` is how many there are; `anchors` says which of them place the patches.
    """

    landmarks: int
    anchors: Anchors
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image_BHWC: jax.Array) -> dict[str, jax.Array]:
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

        def patch(picture, points, half_and_pixels, mirror=False):
            half, pixels = half_and_pixels
            grid = patch_grid(still_L2[:, jnp.array(points)].mean(1), still_9, half, pixels, mirror)
            return bilinear_sample(picture * 2.0 - 1.0, grid).astype(d)

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


def soft_argmax(heat_BHWL: jax.Array) -> jax.Array:
    """(B, L, 2) mean positions (x, y) in [-1, 1] under the softmax of each map."""
    batch, height, width, count = heat_BHWL.shape
    weight = jax.nn.softmax(heat_BHWL.astype(jnp.float32).reshape(batch, height * width, count), axis=1)
    weight = weight.reshape(batch, height, width, count)
    x = (2.0 * jnp.arange(width) + 1.0) / width - 1.0
    y = (2.0 * jnp.arange(height) + 1.0) / height - 1.0
    # The softmax cannot put its mean on the border, where landmarks may lie: stretch a little.
    return 1.1 * jnp.stack([(weight * x[:, None]).sum((1, 2)), (weight * y[:, None, None]).sum((1, 2))], axis=-1)


def patch_grid(centre_B2: jax.Array, pose_B9: jax.Array, half: float, pixels: int, mirror: bool = False) -> jax.Array:
    """(B, pixels, pixels, 2) image coordinates of a square turned by the head's roll and scaled by its pose scale."""
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


class Instrument:
    """A trained `FaceInstrument`, ready to measure videos.

    Compiles once per frame size: batches are padded to one length.

    Attributes:
      params: of the network; may be replaced by others of the same shapes without compiling anew.
      points: names of the landmarks that it finds, in the order of `Measurements.landmarks`.
      training_errors: its errors on held-out heads when it was trained, by name; may be empty.
    """

    def __init__(self, params: dict[str, Any], points: Sequence[str], anchors: Anchors, batch_size: int = 32):
        self.points = tuple(points)
        self.training_errors: dict[str, float] = {}
        self.params = jax.device_put(params)
        self._batch_size = batch_size
        network = FaceInstrument(len(self.points), anchors)

        def measure(params, frames):
            if frames.dtype == jnp.uint8:
                frames = frames.astype(jnp.float32) / 255.0
            if frames.shape[1] != SIZE:
                frames = jax.image.resize(frames, (frames.shape[0], SIZE, SIZE, 3), "linear", antialias=True)
            return network.apply({"params": params}, frames)

        self._measure = jax.jit(measure)

    @classmethod
    def from_pretrained(cls, directory: str | Path = "", batch_size: int = 32) -> "Instrument":
        """The instrument.safetensors of a directory; empty = the shipped one. InputError when missing or unreadable."""
        params, metadata = load_part(directory, "instrument")
        try:
            anchors = Anchors(**{name: tuple(points) for name, points in metadata["anchors"].items()})
            points, training_errors = tuple(metadata["points"]), dict(metadata["errors"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{directory or 'shipped'}/instrument.safetensors: not an instrument (no anchors, points and errors); "
                "export it again"
            ) from error
        instrument = cls(params, points, anchors, batch_size)
        instrument.training_errors = training_errors
        return instrument

    def measure(self, frames: np.ndarray) -> Measurements:
        """Reads N square frames (N, n, n, 3), uint8 or float in [0, 1], of any size n."""
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.shape[1] != frames.shape[2] or frames.shape[3] != 3 or len(frames) == 0:
            raise ValueError(f"square RGB frames (N, n, n, 3) are needed, not {frames.shape}")
        results = []
        for start in range(0, len(frames), self._batch_size):
            part = frames[start : start + self._batch_size]
            count = len(part)
            if count < self._batch_size:
                part = np.concatenate([part, np.repeat(part[-1:], self._batch_size - count, 0)])
            result = jax.device_get(self._measure(self.params, part))
            results.append({name: value[:count] for name, value in result.items()})
        names = [field.name for field in dataclasses.fields(Measurements)]
        return Measurements(**{name: np.concatenate([r[name] for r in results]) for name in names})


def instrument_errors(measured: Measurements, truth: dict[str, np.ndarray]) -> dict[str, float]:
    """The instrument's own errors where the truth is known: labels `mouth`, `lids`, `gaze`, `pose`, `landmarks` and
    `person` (N,).

    Gaze counts only where the eyes are open. Identity figures need two frames of one person and two people.
    """
    seen = truth["lids"].mean(-1) > 0.4
    gaze = np.abs(measured.gaze - truth["gaze"])[seen]
    cosine = measures.cosine(measured.embedding[:, None], measured.embedding[None])
    same = truth["person"][:, None] == truth["person"][None]
    upper = np.triu(np.ones_like(same), 1).astype(bool)
    same_pairs, different_pairs = cosine[same & upper], cosine[~same & upper]
    figures = {
        "mouth_r": measures.pearson(measured.mouth, truth["mouth"]),
        "mouth_mae": np.abs(measured.mouth - truth["mouth"]).mean(),
        "lids_mae": np.abs(measured.lids - truth["lids"]).mean(),
        "gaze_mae_degrees": gaze.mean() if gaze.size else 0.0,
        "rotation_error_degrees": measures.rotation_error_degrees(measured.pose, truth["pose"]).mean(),
        "distance_error": np.abs(np.exp(-measured.pose[:, 6]) - np.exp(-truth["pose"][:, 6])).mean(),
        "landmark_error_pixels": np.linalg.norm(measured.landmarks - truth["landmarks"], axis=-1).mean() * SIZE / 2.0,
    }
    if same_pairs.size and different_pairs.size:
        figures["identity_auc"] = measures.verification_auc(same_pairs, different_pairs)
        figures["identity_same"], figures["identity_different"] = same_pairs.mean(), different_pairs.mean()
    return {name: float(value) for name, value in figures.items()}

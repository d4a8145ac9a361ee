"""What trained probes read in frames: the face (`FaceReader`) and its emotion (`EmotionReader`).

The weights are instrument.safetensors and emotion.safetensors, beside a model or in the package.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.conventions import EMOTIONS
from vasa_jax.errors import InputError
from vasa_jax.evaluation import metrics
from vasa_jax.filling import filled_up, in_batches
from vasa_jax.models.emotion_probe import CENTRE, EmotionProbe, face_patch
from vasa_jax.models.face_probe import SIZE, Anchors, FaceProbe
from vasa_jax.weights.parts import SHIPPED, folder_of, load_part

FEELINGS = tuple(name for name in EMOTIONS if name != "neutral")  # what can be told apart; neutral is none of them

PICTURE_LAYERS = ("fine_block", "middle_block", "coarse_block")  # of the probe's trunk, for `picture_features`


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Holds what the face probe read in N frames, as float32 numpy arrays."""

    mouth: np.ndarray  # (N,) inner-lip distance over inter-ocular distance
    lids: np.ndarray  # (N, 2) opening over the neutral one; image left, image right
    gaze: np.ndarray  # (N, 2) degrees, camera frame: + is image right, image down
    pose: np.ndarray  # (N, 9) first two columns of R, log s, tx, ty
    landmarks: np.ndarray  # (N, L, 2) in [-1, 1], y down
    embedding: np.ndarray  # (N, 64) of unit length; frames of one person are close

    def __getitem__(self, frames: Any) -> "Measurements":
        """Returns the measurements of some frames."""
        return Measurements(**{f.name: getattr(self, f.name)[frames] for f in dataclasses.fields(self)})

    @classmethod
    def joined(cls, parts: Sequence["Measurements"]) -> "Measurements":
        """Returns the measurements of several pieces of video as one."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class FaceReader:
    """Measures the faces of videos with a trained `FaceProbe`.

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
        network = FaceProbe(len(self.points), anchors)

        def measure(params, frames):
            if frames.dtype == jnp.uint8:
                frames = frames.astype(jnp.float32) / 255.0
            return network.apply({"params": params}, at_probe_size(frames))

        def look(params, frames):
            small = at_probe_size(frames.astype(jnp.float32) / 255.0)
            _, state = network.apply(
                {"params": params}, small, mutable=["intermediates"],
                capture_intermediates=lambda module, _: module.name in PICTURE_LAYERS,
            )  # fmt: skip
            found = [state["intermediates"][name]["__call__"][0] for name in PICTURE_LAYERS]
            return jnp.concatenate([layer.mean((1, 2)).astype(jnp.float32) for layer in found], -1)

        self._measure, self._look = jax.jit(measure), jax.jit(look)

    @classmethod
    def from_pretrained(cls, directory: str | Path = "", batch_size: int = 32) -> "FaceReader":
        """Loads instrument.safetensors of a directory; empty = the shipped one.

        Raises InputError when it is missing or unreadable.
        """
        params, metadata = load_part(directory, "instrument")
        try:
            anchors = Anchors(**{name: tuple(points) for name, points in metadata["anchors"].items()})
            points, training_errors = tuple(metadata["points"]), dict(metadata["errors"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{directory or 'shipped'}/instrument.safetensors: not a face probe (no anchors, points and errors); "
                "export it again"
            ) from error
        reader = cls(params, points, anchors, batch_size)
        reader.training_errors = training_errors
        return reader

    def measure(self, frames: np.ndarray) -> Measurements:
        """Reads N square frames (N, n, n, 3), uint8 or float in [0, 1], of any size n."""
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.shape[1] != frames.shape[2] or frames.shape[3] != 3 or len(frames) == 0:
            raise ValueError(f"square RGB frames (N, n, n, 3) are needed, not {frames.shape}")
        results = []
        for start in range(0, len(frames), self._batch_size):
            part = frames[start : start + self._batch_size]
            result = jax.device_get(self._measure(self.params, filled_up(part, self._batch_size)))
            results.append({name: value[: len(part)] for name, value in result.items()})
        names = [field.name for field in dataclasses.fields(Measurements)]
        return Measurements(**{name: np.concatenate([r[name] for r in results]) for name in names})

    def picture_features(self, frames: UInt8[np.ndarray, "N n n 3"]) -> Float[np.ndarray, "N 120"]:
        """Returns means over places of three layers that see the whole frame, from fine to coarse.

        Blur, noise, blocks, another size and bent shapes all move them, the more the stronger (a test).
        """
        return in_batches(functools.partial(self._look, self.params), self._batch_size, frames)


def reading_errors(measured: Measurements, truth: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns how far a reading is from the truth, by name.

    truth: labels `mouth`, `lids`, `gaze`, `pose`, `landmarks` (of the reader's points) and `person` (N,).
    Gaze counts only where the eyes are open. Identity metrics need two frames of one person and two people.
    """
    seen = truth["lids"].mean(-1) > metrics.OPEN_LIDS
    gaze = np.abs(measured.gaze - truth["gaze"])[seen]
    cosine = metrics.cosine(measured.embedding[:, None], measured.embedding[None])
    same = truth["person"][:, None] == truth["person"][None]
    upper = np.triu(np.ones_like(same), 1).astype(bool)
    same_pairs, different_pairs = cosine[same & upper], cosine[~same & upper]
    errors = {
        "mouth_r": metrics.pearson(measured.mouth, truth["mouth"]),
        "mouth_mae": np.abs(measured.mouth - truth["mouth"]).mean(),
        "lids_mae": np.abs(measured.lids - truth["lids"]).mean(),
        "gaze_mae_degrees": gaze.mean() if gaze.size else 0.0,
        "rotation_error_degrees": metrics.rotation_error_degrees(measured.pose, truth["pose"]).mean(),
        "distance_error": np.abs(np.exp(-measured.pose[:, 6]) - np.exp(-truth["pose"][:, 6])).mean(),
        "landmark_error_pixels": np.linalg.norm(measured.landmarks - truth["landmarks"], axis=-1).mean() * SIZE / 2.0,
    }
    if same_pairs.size and different_pairs.size:
        errors["identity_auc"] = metrics.verification_auc(same_pairs, different_pairs)
        errors["identity_same"], errors["identity_different"] = same_pairs.mean(), different_pairs.mean()
    return {name: float(value) for name, value in errors.items()}


def different_people(readings: Sequence[Measurements]) -> dict[str, float] | None:
    """Returns {mean, error} of the cosine between two people's mean embeddings, over all pairs; one reading each."""
    embedding = np.stack([reading.embedding.mean(0) for reading in readings])
    cosine = metrics.cosine(embedding[:, None], embedding[None])
    return metrics.spread(list(cosine[~np.eye(len(readings), dtype=bool)]))


class EmotionReader:
    """Reads emotions with a trained `EmotionProbe` in videos that the face probe has measured.

    Attributes:
      params: of the network; may be replaced by others of the same shapes without compiling anew.
      source: where they come from, for a report.
      training_metrics: its accuracy on held-out heads when it was trained, by name; may be empty.
    """

    def __init__(self, params: dict[str, Any], batch_size: int = 32, source: str = ""):
        self.params, self.source = jax.device_put(params), source
        self.training_metrics: dict[str, float] = {}
        self._batch_size = batch_size

    @classmethod
    def find(cls, directory: str | Path = "") -> "EmotionReader | None":
        """Loads emotion.safetensors of a directory, or else the one that ships with the package; None without any.

        Raises InputError for one that cannot be read or is something else.
        """
        for folder in (folder_of(directory, "emotion"), SHIPPED):
            if (folder / "emotion.safetensors").is_file():
                params, metadata = load_part(folder, "emotion")
                if metadata.get("emotions") != list(EMOTIONS):
                    raise InputError(
                        f"{folder}/emotion.safetensors: not a reader of emotions (no list of them); export it again "
                        "with configs/train_emotion.py"
                    )
                reader = cls(params, source="the shipped one" if folder == SHIPPED else str(folder))
                reader.training_metrics = dict(metadata.get("figures", {}))
                return reader
        return None

    def read(
        self, frames: UInt8[np.ndarray, "N n n 3"], reading: Measurements, points: Sequence[str]
    ) -> Float[np.ndarray, "N 8"]:
        """Returns the shares of EMOTIONS in each frame; they sum to 1.

        reading: what the face probe measured in the frames; points: names of its landmarks.
        """
        centre = reading.landmarks[:, [points.index(name) for name in CENTRE]].mean(1)
        results = []
        for start in range(0, len(frames), self._batch_size):
            rows = np.minimum(np.arange(start, start + self._batch_size), len(frames) - 1)  # one compiled shape
            shares = _emotion_shares(self.params, frames[rows], centre[rows], reading.pose[rows])
            results.append(np.asarray(shares)[: len(frames) - start])
        return np.concatenate(results)


@jax.jit
def _emotion_shares(params, frames, centre, pose):
    patches = face_patch(at_probe_size(frames.astype(jnp.float32) / 255.0), centre, pose)
    return jax.nn.softmax(EmotionProbe().apply({"params": params}, patches), axis=-1)


def named_feeling(shares: Float[np.ndarray, "N 8"]) -> str:
    """Returns which of FEELINGS a video shows most, by the mean shares of its frames."""
    mean = dict(zip(EMOTIONS, np.mean(shares, axis=0)))
    return max(FEELINGS, key=mean.__getitem__)


def at_probe_size(frames: jax.Array) -> jax.Array:
    """Returns frames (B, n, n, 3) at the size that the face probe reads, SIZE pixels a side."""
    if frames.shape[1] == SIZE:
        return frames
    return jax.image.resize(frames, (frames.shape[0], SIZE, SIZE, 3), "linear", antialias=True)

"""Which emotion a face shows: a small network over the face that the measuring instrument has found.

Like the instrument it is trained on true renders only (`vasa_jax.training.tasks.emotion`), of heads that speak, and
shares no weights and no identities with the codec, the motion model or any judge of a loss.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.conventions import EMOTIONS
from vasa_jax.errors import InputError
from vasa_jax.evaluation.instrument import SIZE, Measurements, PatchEncoder, patch_grid
from vasa_jax.models.geometry import bilinear_sample
from vasa_jax.weights.parts import SHIPPED, load_part

PATCH = (0.40, 48)  # half side in canonical units, side in pixels: from above the brows to the chin
FEELINGS = tuple(name for name in EMOTIONS if name != "neutral")  # what can be told apart; neutral is none of them
# The patch sits on the mean of these landmarks: corners of the eyes, which a blink does not move, and the mouth.
CENTRE = (
    "eye_left_0", "eye_left_4", "eye_right_0", "eye_right_4",
    "outer_lip_0", "outer_lip_3", "outer_lip_6", "outer_lip_9",
)  # fmt: skip


class EmotionNetwork(nn.Module):
    """Faces cut in the head's scale and roll -> logits of the shares of EMOTIONS."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, patch: Float[Array, "B p p 3"]) -> Float[Array, "B 8"]:
        x = PatchEncoder((24, 32, 48, 64), 16, dtype=self.dtype, name="patch")(patch.astype(self.dtype))
        x = nn.silu(nn.Dense(64, name="hidden")(x))
        return nn.Dense(len(EMOTIONS), name="emotion")(x)


def face_patch(
    image: Float[Array, "B n n 3"], centre: Float[Array, "B 2"], pose: Float[Array, "B 9"]
) -> Float[Array, "B p p 3"]:
    """The square that the network sees, in [-1, 1], of frames in [0, 1]."""
    return bilinear_sample(image * 2.0 - 1.0, patch_grid(centre, pose, *PATCH))


class EmotionReader:
    """A trained `EmotionNetwork`, ready to read videos that the instrument has measured.

    Attributes:
      params: of the network; may be replaced by others of the same shapes without compiling anew.
      source: where they come from, for a report.
      training_figures: its accuracy on held-out heads when it was trained, by name; may be empty.
    """

    def __init__(self, params: dict[str, Any], batch_size: int = 32, source: str = ""):
        self.params, self.source = jax.device_put(params), source
        self.training_figures: dict[str, float] = {}
        self._batch_size = batch_size

    @classmethod
    def find(cls, directory: str | Path = "") -> "EmotionReader | None":
        """The emotion.safetensors of a directory, or else the one that ships with the package; None without any.

        InputError for one that cannot be read or is something else.
        """
        for folder in (Path(directory or SHIPPED), SHIPPED):
            if (folder / "emotion.safetensors").is_file():
                params, metadata = load_part(folder, "emotion")
                if metadata.get("emotions") != list(EMOTIONS):
                    raise InputError(
                        f"{folder}/emotion.safetensors: not a reader of emotions (no list of them); export it again "
                        "with configs/train_emotion.py"
                    )
                reader = cls(params, source="the shipped one" if folder == SHIPPED else str(folder))
                reader.training_figures = dict(metadata.get("figures", {}))
                return reader
        return None

    def read(self, frames: np.ndarray, reading: Measurements, points: Sequence[str]) -> np.ndarray:
        """Shares of EMOTIONS in each of N frames uint8 (N, n, n, 3): float32 (N, 8), sum 1.

        reading: what the instrument measured in them; points: names of its landmarks.
        """
        centre = reading.landmarks[:, [points.index(name) for name in CENTRE]].mean(1)
        results = []
        for start in range(0, len(frames), self._batch_size):
            rows = np.minimum(np.arange(start, start + self._batch_size), len(frames) - 1)  # one compiled shape
            shares = _read(self.params, frames[rows], centre[rows], reading.pose[rows])
            results.append(np.asarray(shares)[: len(frames) - start])
        return np.concatenate(results)


@jax.jit
def _read(params, frames, centre, pose):
    images = frames.astype(jnp.float32) / 255.0
    if images.shape[1] != SIZE:
        images = jax.image.resize(images, (images.shape[0], SIZE, SIZE, 3), "linear", antialias=True)
    return jax.nn.softmax(EmotionNetwork().apply({"params": params}, face_patch(images, centre, pose)), axis=-1)


def named_feeling(shares: np.ndarray) -> str:
    """Which of FEELINGS a video shows most, by the mean shares (N, 8) of its frames."""
    mean = dict(zip(EMOTIONS, np.mean(shares, axis=0)))
    return max(FEELINGS, key=mean.__getitem__)

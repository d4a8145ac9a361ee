"""Pictures against their truth by networks that the user has: CSIM by ArcFace, distances of features as LPIPS.

The files are those of the codec's losses (weights/loss_networks.py). What ArcFace says is called CSIM (VASA-1 and
others); what this project's own network says has a name of its own. LPIPS (Zhang et al. 2018) weighs the channels of
its networks by learnt numbers; these distances weigh them alike, so their figures are not LPIPS'.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from vasa_jax.errors import InputError
from vasa_jax.losses.perceptual import Judges, feature_distance
from vasa_jax.weights.loss_networks import FILES, load_judges

_BATCH = 10  # pictures at once


class PictureJudges:
    """Compares pictures by the networks of a folder."""

    def __init__(self, judges: Judges, arcface: bool):
        self._judges, self._identity = judges, "csim" if arcface else "identity_judge"
        self._params = jax.device_put(judges.params)
        self._compiled = jax.jit(self._distances)

    @classmethod
    def open(cls, directory: str | Path) -> tuple["PictureJudges", dict[str, Path]]:
        """Loads the networks of a folder, and returns their files by name too. InputError where there is none."""
        files = {name: Path(directory) / f"{name}.safetensors" for name in FILES}
        files = {name: path for name, path in files.items() if path.is_file()}
        if not files:
            raise InputError(
                f"config.videos_evaluation.loss_networks: {directory} has none of {', '.join(FILES)} .safetensors; "
                "give their folder, or leave it empty"
            )
        return cls(load_judges(directory), "arcface" in files), files

    def compare(
        self, pictures: UInt8[np.ndarray, "N n n 3"], truth: UInt8[np.ndarray, "N n n 3"]
    ) -> dict[str, float]:
        """Returns means over pairs: csim or identity_judge, a cosine, and features_NAME of each network of pictures."""
        rows = []
        for start in range(0, len(pictures), _BATCH):
            part = slice(start, start + _BATCH)
            found = self._compiled(self._params, pictures[part], truth[part])
            rows += [{name: float(values[i]) for name, values in found.items()} for i in range(len(pictures[part]))]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _distances(self, params, a, b):
        """Each pair alone, so that a mean over pairs does not depend on how they were batched."""
        a, b = (picture.astype(jnp.float32)[:, None] / 255.0 for picture in (a, b))
        judges, found = self._judges, {}
        for name in judges.of_pictures:
            judge = judges.perceptual[name]
            distance = jax.lax.map(lambda pair, j=judge, n=name: feature_distance(j, params[n], *pair), (a, b))
            found[f"features_{name}"] = distance
        if judges.identity is not None:
            found[self._identity] = jax.lax.map(lambda pair: judges.similarity(params, *pair), (a, b))
        return found

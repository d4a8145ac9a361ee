"""How the keypoint codec's reader of motion is judged while it trains alone: against exact faces it never sees."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus.render_cache import RenderCache
from vasa_jax.losses.keypoints import guide_points
from vasa_jax.models.keypoint_face import KeypointFaceEncoder
from vasa_jax.models.keypoint_reader import GUIDES
from vasa_jax.models.keypoints import pose_from_raw
from vasa_jax.training.tasks.face_pairs import to_float

GROUPS, ROWS, BATCHES = 16, 32, 4
# What two guides tell by how far the second lies below the first.
GAPS = {"mouth": ("inner_lip_2", "inner_lip_6"), "lid_left": ("eye_left_2", "eye_left_6"),
        "lid_right": ("eye_right_2", "eye_right_6"), "lips": ("outer_lip_3", "outer_lip_9")}  # fmt: skip
# What one guide tells by where it lies: (guide, axis).
PLACES = {"gaze_x": ("iris_left", 0), "gaze_y": ("iris_right", 1), "smile": ("outer_lip_0", 0), "jaw": ("jaw_8", 1)}


class ReaderValidation:
    """Metrics of a reader with these parameters on frames of people that training never shows."""

    def __init__(self, encoder: KeypointFaceEncoder, corpus: CorpusConfig):
        self._encoder = encoder
        plain = {"groups": GROUPS, "drivers": 1, "poses": 1, "refresh": 0, "style": 0.0}
        self._corpus = dataclasses.replace(corpus, **plain)
        self._batches: list[dict[str, jax.Array]] | None = None

    def evaluate(self, variables: dict[str, Any]) -> dict[str, float]:
        """Returns R2 of what displacements of the guides tell against the truth, and the error of poses."""
        if self._batches is None:
            size = self._encoder.image_size
            cache = RenderCache(self._corpus, size, ROWS, "counterfactual", 0, "face held out", landmarks=True)
            self._batches = [next(cache) for _ in range(BATCHES)]
        parts = [self._measure(variables, batch) for batch in self._batches]
        found, exact, pose = (jnp.concatenate(values) for values in zip(*parts))
        told = {name: (_gap(found, *pair), _gap(exact, *pair)) for name, pair in GAPS.items() if _known(found, *pair)}
        for name, (point, axis) in PLACES.items():
            if _known(found, point):
                index = GUIDES.index(point)
                told[name] = found[:, index, axis], exact[:, index, axis]
        scores = {f"r2_{name}": float(_score(*values)) for name, values in told.items()}
        return scores | {"r2_expression": float(_score(found, exact)), "pose_l1": float(pose.mean())}

    @functools.partial(jax.jit, static_argnums=0)
    def _measure(self, variables, batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        raw = self._encoder.apply(variables, to_float(batch["driver"]), method="read")
        exact = guide_points(batch["driver_expression"], raw.keypoints.shape[1])
        error = jnp.abs(pose_from_raw(raw, self._encoder.angles) - batch["driver_pose"]).mean(-1)
        return raw.expression[:, : exact.shape[1]], exact, error


def _known(points: jax.Array, *names: str) -> bool:
    return all(GUIDES.index(name) < points.shape[1] for name in names)


def _gap(points: jax.Array, above: str, below: str) -> jax.Array:
    return points[:, GUIDES.index(below), 1] - points[:, GUIDES.index(above), 1]


def _score(found: jax.Array, exact: jax.Array) -> jax.Array:
    """1 - the mean square error over the variance, of several values together over their sum."""
    return 1.0 - jnp.square(found - exact).sum() / jnp.square(exact - exact.mean(0)).sum()

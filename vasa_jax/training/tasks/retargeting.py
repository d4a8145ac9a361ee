"""Stage 2 of the keypoint codec: the small networks for stitching, eyes and lips (LivePortrait, Guo et al. 2024).

The codec is frozen. Its pictures say what displacements do. A portrait whose keypoints are driven keeps its
shoulders as they are when it is not. Eyes or lips are as open as was asked, and all else is as it was. How open they
are the codec's own reader tells, which has learnt from landmarks. Displacements stay small.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, RetargetingConfig, VASAConfig
from vasa_jax.conventions import SEGMENTS
from vasa_jax.corpus.render_cache import DECIDING, RenderCache
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.losses.keypoints import guide_points
from vasa_jax.losses.retargeting import LEAST_KEYPOINTS, beside_eyes, beside_mouth, change, openness
from vasa_jax.models.keypoint_face import KeypointAppearance, keypoint_codec
from vasa_jax.models.keypoint_retargeting import EYE_WIDTHS, LIP_WIDTHS, STITCHING_WIDTHS, KeypointMLP
from vasa_jax.models.keypoints import posed_keypoints
from vasa_jax.training.tasks.base import Task
from vasa_jax.training.tasks.face_forward import repeated
from vasa_jax.training.tasks.face_pairs import Pairs, deinterleave, interleave, prepared
from vasa_jax.weights.parts import load_part

CLOTH = SEGMENTS.index("cloth")
HELD_OUT = {"groups": 8, "drivers": 1, "poses": 1, "refresh": 0, "style": 0.0}
ROWS, BATCHES = 16, 4  # of held-out pairs
PARTS = ("shoulders", "eyes", "lips")
NETWORKS = ("stitching", "lip", "eye")  # of the decoder


class Drawn(NamedTuple):
    """Pictures (B, n, n, 3) of portraits, and what made them.

    still: not driven. Of each of PARTS moved: the picture; offsets: of its keypoints (B, 3 K); kept: 1 (B, n, n) where
    it must stay `still`. asked: openness that eyes and lips should have (B, 2); found: what the reader sees in their
    pictures (B, 3).
    """

    still: jax.Array
    moved: dict[str, jax.Array]
    offsets: dict[str, jax.Array]
    asked: jax.Array
    found: dict[str, jax.Array]
    kept: dict[str, jax.Array]


class RetargetingTask(Task):
    """Trains `stitching`, `eye` and `lip` of a KeypointFaceDecoder; exports the codec with them."""

    name = "face"

    def __init__(
        self, settings: RetargetingConfig, corpus: CorpusConfig, checkpoint: str, batch: int, precision: str, seed: int
    ):
        """checkpoint: directory of the keypoint codec; InputError for another codec, and one without landmarks."""
        self._settings, self._batch, self._seed = settings, batch, seed
        self._corpus = dataclasses.replace(corpus, drivers=1)
        self._params, self._metadata = load_part(checkpoint, "face")
        fields = _checked(self._metadata["fields"], checkpoint)
        self._fields = fields | {"decoder": {**fields["decoder"], "retargeting": True}}
        self._encoder, self._decoder = keypoint_codec(self._fields, compute_dtype(precision))
        self._params = self._params | {
            "decoder": {name: value for name, value in self._params["decoder"].items() if name not in NETWORKS}
        }
        self._held_out: list[Pairs] | None = None

    @classmethod
    def from_config(cls, config: VASAConfig) -> "RetargetingTask":
        train = config.train
        if config.corpus.shards:
            raise InputError("config.corpus.shards: have no landmarks, by which eyes and lips are told; leave it empty")
        return cls(
            config.retargeting, config.corpus, config.checkpoint, train.batch_size, train.precision, config.seed
        )

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Returns networks that move nothing yet: their last layers are zero."""
        count = 3 * self._decoder.keypoints
        shapes = {
            "stitching": (STITCHING_WIDTHS, 2 * count, count + 2),
            "eye": (EYE_WIDTHS, count + 3, count),
            "lip": (LIP_WIDTHS, count + 2, count),
        }
        params = {}
        for number, (name, (widths, inputs, outputs)) in enumerate(shapes.items()):
            network = KeypointMLP(widths, outputs)
            params[name] = network.init(jax.random.fold_in(key, number), jnp.zeros((1, inputs)))["params"]
            last = f"mlp_{2 * len(widths)}"
            params[name][last] = jax.tree.map(jnp.zeros_like, params[name][last])
        return params

    def data(self, sharding: NamedSharding | None = None) -> RenderCache:
        return RenderCache(
            self._corpus, self._encoder.image_size, self._batch, "counterfactual", self._seed, "retargeting", sharding,
            landmarks=True,
        )  # fmt: skip

    def data_settings(self) -> dict[str, Any]:
        return {f"corpus.{name}": getattr(self._corpus, name) for name in DECIDING}

    def frozen_params(self) -> Mapping[str, Any]:
        return self._params

    def loss_weights(self, step: int) -> dict[str, np.ndarray]:
        del step
        return {name: np.float32(getattr(self._settings, name)) for name in ("kept", "openness", "size")}

    def loss(
        self, params: dict[str, Any], batch: Pairs, key: jax.Array, *, weights: Mapping[str, jax.Array] | None = None,
        frozen: Mapping[str, Any] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:  # fmt: skip
        """Returns (the weighted sum, the terms by name): of every part what changes elsewhere, and its offsets' size;
        of eyes and lips how far they are from as open as asked."""
        drawn = self._drawn(params, self._params if frozen is None else frozen, batch, key)
        weights, terms = self.loss_weights(0) if weights is None else weights, self._errors(drawn)
        terms |= {f"{part}_size": jnp.abs(offsets).mean() for part, offsets in drawn.offsets.items()}
        return sum(weights[name.rpartition("_")[2]] * value for name, value in terms.items()), terms

    def evaluate(self, params) -> dict[str, float]:
        """Returns figures of people that training never shows, beside those of networks that move nothing."""
        still = self.init(jax.random.key(0))
        rows = []
        for number, batch in enumerate(self._held_out_batches()):
            key = jax.random.fold_in(jax.random.key(0), number)
            found, unmoved = (self._measured(p, self._params, batch, key) for p in (params, still))
            rows.append({**found, **{f"{name}_unmoved": value for name, value in unmoved.items()}})
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def images(self, params) -> dict[str, np.ndarray]:
        """Returns held-out portraits: as they are; driven, then stitched; with eyes and lips as asked."""
        batch, key = self._held_out_batches()[0], jax.random.key(0)
        drawn, unstitched = (self._pictures(p, self._params, batch, key) for p in (params, self.init(key)))
        rows = [drawn.still, unstitched.moved["shoulders"], *drawn.moved.values()]
        grid = np.concatenate([np.concatenate(list(np.asarray(row[:8], np.float32)), 1) for row in rows])
        return {"held_out": (255.0 * np.clip(grid, 0, 1) + 0.5).astype(np.uint8)}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        decoder = {**self._params["decoder"], **params}
        described = {"fields": self._fields, "retargeting": dataclasses.asdict(self._settings)}
        return {**self._params, "decoder": decoder}, self._metadata | described

    def of_export(self, content: dict[str, Any]) -> dict[str, Any]:
        decoder = content.get("decoder", content)
        return {name: value for name, value in decoder.items() if name in NETWORKS}

    @functools.partial(jax.jit, static_argnums=0)
    def _measured(self, params, frozen, batch: Pairs, key: jax.Array) -> dict[str, jax.Array]:
        return self._errors(self._drawn(params, frozen, batch, key))

    @functools.partial(jax.jit, static_argnums=0)
    def _pictures(self, params, frozen, batch: Pairs, key: jax.Array) -> Drawn:
        return self._drawn(params, frozen, batch, key)

    def _held_out_batches(self) -> list[Pairs]:
        if self._held_out is None:
            corpus, size = dataclasses.replace(self._corpus, **HELD_OUT), self._encoder.image_size
            cache = RenderCache(corpus, size, ROWS, "counterfactual", 0, "face held out", landmarks=True)
            self._held_out = [next(cache) for _ in range(BATCHES)]
        return self._held_out

    def _errors(self, drawn: Drawn) -> dict[str, jax.Array]:
        terms = {f"{part}_kept": change(drawn.moved[part], drawn.still, drawn.kept[part]) for part in PARTS}
        off = {part: jnp.abs(found - asked[:, None]).mean() for (part, found), asked in zip(
            {"eyes": drawn.found["eyes"][:, :2], "lips": drawn.found["lips"][:, 2:]}.items(), drawn.asked.T
        )}  # fmt: skip
        return terms | {f"{part}_openness": value for part, value in off.items()}

    def _drawn(self, params, frozen: Mapping[str, Any], batch: Pairs, key: jax.Array) -> Drawn:
        settings, pairs = self._settings, prepared(batch, whole=True)
        encoder, decoder = {"params": frozen["encoder"]}, {"params": {**frozen["decoder"], **params}}
        count, number = len(pairs["source"]), self._decoder.keypoints
        apply = functools.partial(self._decoder.apply, decoder)
        latents = self._encoder.apply(encoder, pairs["source"], method="encode")
        pose, dynamics = self._encoder.apply(encoder, pairs["driver"], method="encode_motion")
        appearance, source = latents.appearance, latents.appearance.keypoints
        driven = posed_keypoints(latents.identity, pose, dynamics.reshape(count, -1, 3))

        points = guide_points(pairs["source_landmarks"], number)
        own = openness(points)
        most = jnp.array([settings.eyes_most, settings.lips_most])
        asked = most * jax.random.uniform(key, (count, 2))
        keypoints = {
            "shoulders": apply(source, driven, method="stitch"),
            "eyes": source + apply(source, jnp.concatenate([own[:, :2], asked[:, :1]], -1), method="retarget_eyes"),
            "lips": source + apply(source, jnp.stack([own[:, 2], asked[:, 1]], -1), method="retarget_lips"),
        }
        drawn = apply(
            KeypointAppearance(*repeated(tuple(appearance), 1 + len(PARTS))),
            interleave([source, *keypoints.values()], count), method="draw",
        ).astype(jnp.float32)  # fmt: skip
        still, *moved = deinterleave(drawn, (1,) * (1 + len(PARTS)), count)
        moved = dict(zip(PARTS, moved))
        read = {
            part: openness(self._encoder.apply(encoder, moved[part], method="read_keypoints")) for part in PARTS[1:]
        }
        size, side = jnp.exp(pairs["source_pose"][:, 6]), still.shape[1]
        kept = {
            # Where clothes are seen before and after, which the head does not cover.
            "shoulders": (pairs["source_segmentation"] == CLOTH) & (pairs["segmentation"] == CLOTH),
            "eyes": beside_eyes(points, size, side),
            "lips": beside_mouth(points, size, side),
        }
        start = {"shoulders": driven, "eyes": source, "lips": source}
        offsets = {part: (keypoints[part] - start[part]).reshape(count, -1) for part in PARTS}
        return Drawn(jax.lax.stop_gradient(still), moved, offsets, asked, read, kept)


def _checked(fields: Mapping[str, Any], checkpoint: str) -> Mapping[str, Any]:
    """Returns a codec's fields; InputError for one that these networks cannot be trained for."""
    where = checkpoint or "config.checkpoint: the shipped model"
    if fields.get("codec") != "keypoint":
        raise InputError(
            f"{where}: has no keypoints to stitch; give --config.checkpoint=DIR of configs/train_face_keypoint.py"
        )
    count = fields["decoder"].get("keypoints", 0)
    if not fields["encoder"].get("guided_motion") or count < LEAST_KEYPOINTS:
        raise InputError(
            f"{where}: its keypoints do not follow the landmarks of eyes and lips; give --config.checkpoint=DIR of "
            "configs/train_face_keypoint.py, with its guides"
        )
    return fields

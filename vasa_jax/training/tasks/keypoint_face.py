"""Stage 1 with the keypoint codec (face-vid2vid, Wang et al. 2021; LivePortrait, Guo et al. 2024).

The pairs and the terms of images are those of `FaceTask`, so that both codecs learn the same from the same. Exact
labels of the corpus stand in the place of pre-trained estimators: head poses, and landmarks in the image and in the
head's own frame, which guide keypoints and displacements. `reader_only` trains by these alone, without drawing. The
codec draws the whole crop: it has no matte. Its batch norms keep running statistics, which the export has folded in.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.config import VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.evaluation.image_metrics import psnr_per_image
from vasa_jax.losses.keypoints import (
    bent_images,
    equivariance,
    expression_guide,
    guide_points,
    keypoint_guide,
    keypoint_prior,
    random_bends,
)
from vasa_jax.losses.latents import pose_loss
from vasa_jax.losses.vasa import VOLUME
from vasa_jax.models.keypoint_face import KeypointAppearance, exported, init_keypoint_face
from vasa_jax.models.keypoint_motion import RawMotion
from vasa_jax.models.keypoint_reader import GUIDES
from vasa_jax.models.keypoints import pose_from_raw, posed_keypoints
from vasa_jax.training.tasks import face_forward as forward
from vasa_jax.training.tasks.base import STATISTICS
from vasa_jax.training.tasks.face import FaceTask
from vasa_jax.training.tasks.face_mixture import RENDERED, kind_of
from vasa_jax.training.tasks.face_pairs import Pairs, deinterleave, interleave, mirrored, prepared
from vasa_jax.training.tasks.reader_validation import ReaderValidation

PARTS = ("encoder", "decoder")
REST_SHARE = 0.3  # of the canonical keypoints in `expression_guide`
GUIDE_TERMS = ("keypoint_guide", "expression_guide")  # by exact landmarks


class KeypointFaceTask(FaceTask):
    """Trains a KeypointFaceEncoder and a KeypointFaceDecoder."""

    _foreign = VOLUME

    @classmethod
    def from_config(cls, config: VASAConfig) -> "KeypointFaceTask":
        if config.face.reader_only and config.corpus.shards:
            raise InputError(
                "config.face.reader_only: shards have no landmarks to learn from; leave config.corpus.shards empty"
            )
        return super().from_config(config)

    @staticmethod
    def _check_photo_heads(variant: str) -> None:
        """Refuses none."""

    def _anchor(self) -> None:
        """Returns none: guides hold the displacements, which need no names."""

    @property
    def _guided(self) -> int:
        """How many keypoints follow landmarks, which the corpus knows and shards do not."""
        told = any(getattr(self._face, name) is not None for name in GUIDE_TERMS)
        return len(GUIDES) if told and not self._corpus.shards else 0

    @functools.cached_property
    def _reader_validation(self) -> ReaderValidation:
        return ReaderValidation(self._encoder, self._corpus)

    def init(self, key: jax.Array) -> dict[str, Any]:
        variables = init_keypoint_face(key, self._variant)
        return {**variables["params"], STATISTICS: variables["batch_stats"]}

    def loss_weights(self, step: int) -> dict[str, np.ndarray]:
        return super().loss_weights(step) | {"matte": np.zeros((), np.float32)}

    def notes(self) -> list[str]:
        told = [name for name in GUIDE_TERMS if getattr(self._face, name) is not None and not self._guided]
        return super().notes() + [f"config.face.{name}: off, shards have no landmarks" for name in told]

    def loss(
        self,
        params: dict[str, Any],
        batch: Pairs,
        key: jax.Array,
        *,
        weights: Mapping[str, jax.Array] | None = None,
        frozen: Mapping[str, Any] | None = None,
        discriminator: dict[str, Any] | None = None,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns (weighted sum of all terms; terms, their weights and PSNR by name, and the norms' statistics)."""
        face = self._face
        weights = self.loss_weights(2**31 - 1) if weights is None else weights
        frozen = self.frozen_params() if frozen is None else frozen
        pairs, keys = prepared(batch, whole=True), jax.random.split(key, 3)
        if face.flip:
            pairs = mirrored(pairs, jax.random.fold_in(key, 3), face.flip)
        views = forward.jittered(pairs, keys, face.jitter)
        variables = {part: {"params": params[part], STATISTICS: params[STATISTICS][part]} for part in PARTS}

        sources, drivers = len(views.source), len(views.driver) // len(views.source)
        raw, seen = self._read(variables["encoder"], views)
        pose = pose_from_raw(raw, self._encoder.angles)
        told = self._guides(raw, pose, pairs, weights) if self._guided else {}
        if face.reader_only:
            labels = interleave([pairs[f"{image}_pose"] for image in forward.Motions._fields], sources)
            terms = {"pose": pose_loss(pose, labels), **told}
            statistics = {**params[STATISTICS], "encoder": seen}
            return self._loss.total(terms, weights), {**terms, STATISTICS: jax.lax.stop_gradient(statistics)}

        dynamics = raw.expression.reshape(len(pose), -1)
        parts = deinterleave((raw, forward.Motion(pose, dynamics)), (1, drivers, drivers), sources)
        raws, motions = (forward.Motions(*part) for part in zip(*parts))
        held = forward.with_held_poses(motions, pairs.get("valid_pose"), face.pose_from_image)
        pose = jnp.where(pairs["same_pose"][:, None], held.driver.pose, held.target.pose)
        shown_source, dynamics = (
            _held(x, face.expression_from_image) for x in (raws.source, motions.driver.dynamics)
        )
        # Noise makes the decoder smooth in its latent: stage 2 predicts latents with an error of this order.
        spread = jax.lax.stop_gradient(dynamics.std(0, keepdims=True))
        noisy = dynamics + face.dynamics_noise * spread * jax.random.normal(keys[2], dynamics.shape)
        identity = shown_source.keypoints
        placed = posed_keypoints(identity, held.source.pose, shown_source.expression)
        volume, seen = self._encoder.apply(
            {"params": params["encoder"], STATISTICS: seen}, views.source, True, method="lift", mutable=[STATISTICS]
        )
        source = KeypointAppearance(volume, placed)
        appearance, identity = forward.repeated((source, identity), len(pose) // len(placed))
        decoded, drawn = self._decoder.apply(
            variables["decoder"], appearance, identity, pose, noisy, True, mutable=[STATISTICS]
        )
        shown = {"image": forward.Shown(decoded.rgb, decoded.matte, None)}
        image = decoded.rgb
        total, terms = forward.base_terms(self._loss, shown["image"], pairs, views, motions, weights)
        extra = forward.network_terms(self._loss, self._judges, frozen, shown, pairs, views, motions, tuple(weights))
        extra |= self._keypoint_terms(variables["encoder"], views, placed, motions, jax.random.fold_in(key, 6), weights)
        extra |= told
        if "region" in weights:
            extra["region"] = self._loss.regions(image, views.target, pairs["segmentation"])
        total = total + self._loss.total(extra, weights)
        metrics, rows = self._figures(psnr_per_image(image, views.target), pairs, weights)
        if discriminator is not None:
            against, learning = self._discriminators.terms(
                discriminator, image, views.target, pairs["segmentation"], weights, rows
            )
            total = total + self._loss.total(against, weights) + learning
            metrics["discriminator"] = learning
            extra |= against
        statistics = {"encoder": seen[STATISTICS], "decoder": drawn[STATISTICS]}
        metrics[STATISTICS] = jax.lax.stop_gradient(statistics)
        return total, {**terms, **extra, **metrics}

    def evaluate(self, params) -> dict[str, float]:
        if self._face.reader_only:
            variables = {"params": params["encoder"], STATISTICS: params[STATISTICS]["encoder"]}
            return self._reader_validation.evaluate(variables)
        return super().evaluate(_folded(params))

    def images(self, params) -> dict[str, np.ndarray]:
        return {} if self._face.reader_only else super().images(_folded(params))

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        return super().export(_folded(params))

    def _read(self, encoder: Mapping[str, Any], views: forward.Views) -> tuple[RawMotion, Any]:
        """What the reader says of sources, drivers and targets, joined by `interleave`; the encoder's statistics."""
        images = interleave((views.source, views.driver, views.target), len(views.source))
        raw, seen = self._encoder.apply(encoder, images, True, method="read", mutable=[STATISTICS])
        return raw, seen.get(STATISTICS, {})

    def _guides(self, raw: RawMotion, pose: jax.Array, pairs: Pairs, weights: Mapping[str, Any]) -> forward.Terms:
        """Terms of exact landmarks in `weights`, which rendered heads have; rows as `_read` gives them."""
        sources, count, terms, valid = len(pairs["source"]), raw.keypoints.shape[1], {}, None
        if self._photo_heads.folder:
            valid = forward.repeated(kind_of(pairs["person"]) == RENDERED, len(pose) // sources)

        def told(field: str) -> jax.Array:
            return interleave([pairs[f"{image}_{field}"] for image in forward.Motions._fields], sources)

        rest, moved = (guide_points(told(field), count) for field in ("rest", "expression"))
        if "keypoint_guide" in weights:
            # Where the label's pose takes them: beside their images by what a weak perspective leaves out.
            exact = posed_keypoints(rest, told("pose"), moved)
            posed = posed_keypoints(raw.keypoints, pose, raw.expression)
            terms["keypoint_guide"] = keypoint_guide(posed, exact, valid)
            if raw.places is not None:
                terms["keypoint_guide"] += keypoint_guide(raw.places, guide_points(told("landmarks"), count), valid)
        if "expression_guide" in weights:
            error = expression_guide(raw.expression, moved, valid)
            terms["expression_guide"] = error + REST_SHARE * expression_guide(raw.keypoints, rest, valid)
        return terms

    def _keypoint_terms(
        self,
        encoder: Mapping[str, Any],
        views: forward.Views,
        placed: jax.Array,
        motions: forward.Motions,
        key: jax.Array,
        weights: Mapping[str, Any],
    ) -> forward.Terms:
        """Terms of keypoints in `weights`; the keypoints are those of the sources."""
        terms = {}
        if "keypoint_prior" in weights:
            terms["keypoint_prior"] = keypoint_prior(placed, self._guided)
        if "expression_size" in weights:
            terms["expression_size"] = jnp.abs(motions.driver.dynamics).mean()
        if "equivariance" in weights:
            bends = random_bends(key, len(views.source))
            bent = self._encoder.apply(encoder, bent_images(views.source, bends), method="read_keypoints")
            terms["equivariance"] = equivariance(placed, bent, bends)
        return terms


def _held(tree: Any, share: float) -> Any:
    """Scales the gradient into every array by `share`."""

    def held(x):
        still = jax.lax.stop_gradient(x)
        return still + share * (x - still)

    return jax.tree.map(held, tree)


def _folded(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {"encoder", "decoder"} as generation loads them."""
    trained = jax.tree.map(np.asarray, {part: params[part] for part in PARTS})
    return exported({"params": trained, "batch_stats": jax.tree.map(np.asarray, params[STATISTICS])})

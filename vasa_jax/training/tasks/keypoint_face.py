"""Stage 1 with the keypoint codec (face-vid2vid, Wang et al. 2021; LivePortrait, Guo et al. 2024).

The pairs and the terms of images are those of `FaceTask`, so that both codecs learn the same from the same. Exact
labels of the corpus stand in the place of a pre-trained estimator of head poses. The codec draws the whole crop: it has
no matte. Its batch norms keep running statistics, which the export has folded in.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.evaluation.image_metrics import psnr_per_image
from vasa_jax.losses.keypoints import (
    GUIDES,
    bent_images,
    equivariance,
    guide_points,
    keypoint_guide,
    keypoint_prior,
    random_bends,
)
from vasa_jax.losses.vasa import VOLUME
from vasa_jax.models.face_encoder import Latents
from vasa_jax.models.keypoint_face import KeypointAppearance, exported, init_keypoint_face
from vasa_jax.models.keypoints import posed_keypoints
from vasa_jax.training.tasks import face_forward as forward
from vasa_jax.training.tasks.base import STATISTICS
from vasa_jax.training.tasks.face import FaceTask
from vasa_jax.training.tasks.face_pairs import Pairs, deinterleave, interleave, mirrored, prepared

PARTS = ("encoder", "decoder")


class KeypointFaceTask(FaceTask):
    """Trains a KeypointFaceEncoder and a KeypointFaceDecoder."""

    _foreign = VOLUME

    @property
    def _guided(self) -> int:
        """How many keypoints follow landmarks, which the corpus knows and shards do not."""
        return 0 if self._face.keypoint_guide is None or self._corpus.shards else len(GUIDES)

    def init(self, key: jax.Array) -> dict[str, Any]:
        variables = init_keypoint_face(key, self._variant)
        return {**variables["params"], STATISTICS: variables["batch_stats"]}

    def loss_weights(self, step: int) -> dict[str, np.ndarray]:
        return super().loss_weights(step) | {"matte": np.zeros((), np.float32)}

    def notes(self) -> list[str]:
        off = self._face.keypoint_guide is not None and not self._guided
        return super().notes() + ["config.face.keypoint_guide: off, shards have no landmarks"] * off

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

        source, seen = self._encoder.apply(variables["encoder"], views.source, True, mutable=[STATISTICS])
        motions = self._motions(variables["encoder"], views, source)
        held = forward.with_held_poses(motions, pairs.get("valid_pose"), face.pose_from_image)
        pose = jnp.where(pairs["same_pose"][:, None], held.driver.pose, held.target.pose)
        dynamics = motions.driver.dynamics
        # Noise makes the decoder smooth in its latent: stage 2 predicts latents with an error of this order.
        spread = jax.lax.stop_gradient(dynamics.std(0, keepdims=True))
        noisy = dynamics + face.dynamics_noise * spread * jax.random.normal(keys[2], dynamics.shape)
        placed = posed_keypoints(source.identity, held.source.pose, _displacements(source.dynamics))
        appearance, identity = forward.repeated(
            (KeypointAppearance(source.appearance.volume, placed), source.identity), len(pose) // len(placed)
        )
        decoded, drawn = self._decoder.apply(
            variables["decoder"], appearance, identity, pose, noisy, True, mutable=[STATISTICS]
        )
        shown = {"image": forward.Shown(decoded.rgb, decoded.matte, None)}
        image = decoded.rgb
        total, terms = forward.base_terms(self._loss, shown["image"], pairs, views, motions, weights)
        extra = forward.network_terms(self._loss, self._judges, frozen, shown, pairs, views, motions, tuple(weights))
        extra |= self._keypoint_terms(variables["encoder"], views, source, motions, jax.random.fold_in(key, 6), weights)
        if self._guided:
            driven = posed_keypoints(identity, pose, _displacements(dynamics))
            extra["keypoint_guide"] = sum(
                keypoint_guide(keypoints, guide_points(pairs[f"{name}_landmarks"], keypoints.shape[1]))
                for name, keypoints in (("source", placed), ("target", driven))
            )
        if "region" in weights:
            extra["region"] = self._loss.regions(image, views.target, pairs["segmentation"])
        total = total + self._loss.total(extra, weights)
        metrics: dict[str, Any] = self._figures(psnr_per_image(image, views.target), weights)
        if discriminator is not None:
            against, learning = forward.gan_terms(self._discriminator, discriminator, image, views.target, weights)
            total = total + self._loss.total(against, weights) + learning
            metrics["discriminator"] = learning
            extra |= against
        statistics = {"encoder": seen[STATISTICS], "decoder": drawn[STATISTICS]}
        metrics[STATISTICS] = jax.lax.stop_gradient(statistics)
        return total, {**terms, **extra, **metrics}

    def evaluate(self, params) -> dict[str, float]:
        return super().evaluate(_folded(params))

    def images(self, params) -> dict[str, np.ndarray]:
        return super().images(_folded(params))

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        return super().export(_folded(params))

    def _motions(self, encoder: Mapping[str, Any], views: forward.Views, source: Latents) -> forward.Motions:
        """Motion of drivers and targets, read in one pass, beside that of the sources, which is known."""
        sources, drivers = len(views.source), len(views.driver) // len(views.source)
        images = interleave((views.driver, views.target), sources)
        poses, dynamics = (
            deinterleave(latent, (drivers, drivers), sources)
            for latent in self._encoder.apply(encoder, images, method="encode_motion")
        )
        return forward.Motions(forward.Motion(source.pose, source.dynamics), *map(forward.Motion, poses, dynamics))

    def _keypoint_terms(
        self,
        encoder: Mapping[str, Any],
        views: forward.Views,
        source: Latents,
        motions: forward.Motions,
        key: jax.Array,
        weights: Mapping[str, Any],
    ) -> forward.Terms:
        """Terms of keypoints in `weights`; the keypoints are those of the sources."""
        terms = {}
        if "keypoint_prior" in weights:
            terms["keypoint_prior"] = keypoint_prior(source.appearance.keypoints, self._guided)
        if "expression_size" in weights:
            terms["expression_size"] = jnp.abs(motions.driver.dynamics).mean()
        if "equivariance" in weights:
            bends = random_bends(key, len(views.source))
            bent = self._encoder.apply(encoder, bent_images(views.source, bends), method="read_keypoints")
            terms["equivariance"] = equivariance(source.appearance.keypoints, bent, bends)
        return terms


def _displacements(dynamics: jax.Array) -> jax.Array:
    return dynamics.reshape(*dynamics.shape[:-1], -1, 3)


def _folded(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {"encoder", "decoder"} as generation loads them."""
    trained = jax.tree.map(np.asarray, {part: params[part] for part in PARTS})
    return exported({"params": trained, "batch_stats": jax.tree.map(np.asarray, params[STATISTICS])})

"""Stage 1: the volume codec learns to put one face's motion onto another (VASA-1 section 3.1).

Recipe `counterfactual`: source (identity A, motion 1) and driver (identity B, motion 2) are compared with the rendered
truth (identity A, motion 2). Where the render cache has faces in several poses, the truth has a pose of its own:
the driver's dynamics cannot carry it. Recipe `self`: A and B are the same, and VASA-1's transfer terms may
take the truth's place.

Exact labels supervise the pose encoder and the matte only. The decoder uses predicted poses. Image gradients reach
labelled poses scaled by `pose_from_image` (default 0), so that poses stay in the labels' coordinate frame. Poses
without a label learn from the image.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, FaceConfig, PhotoHeadsConfig, VASAConfig
from vasa_jax.conventions import CORPUS, SEGMENTS
from vasa_jax.corpus.photos.cache import DECIDING as PHOTO_DECIDING
from vasa_jax.corpus.photos.draw import LID
from vasa_jax.corpus.photos.topology import face_mesh
from vasa_jax.corpus.render_cache import DECIDING as RENDER_DECIDING
from vasa_jax.corpus.render_cache import RenderCache
from vasa_jax.data.pairs import PairShards
from vasa_jax.dtypes import compute_dtype
from vasa_jax.errors import InputError
from vasa_jax.evaluation.image_metrics import psnr_per_image
from vasa_jax.losses import VASALoss
from vasa_jax.losses.images import masked_mean
from vasa_jax.losses.vasa import KEYPOINTS, PHOTO_HEADS
from vasa_jax.models.face import VASAFaceEncoder, face_codec, init_face
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.training.tasks import face_forward as forward
from vasa_jax.training.tasks.base import Task
from vasa_jax.training.tasks.face_gan import Discriminators
from vasa_jax.training.tasks.face_mixture import KINDS, RENDERED, Mixture, kind_of, open_mixture, read_anchor
from vasa_jax.training.tasks.face_pairs import Pairs, mirrored, prepared
from vasa_jax.training.tasks.face_validation import FaceValidation
from vasa_jax.weights.loss_networks import load_judges


class FaceTask(Task):
    """Trains VASAFaceEncoder and FaceDecoder on frame pairs of the built-in corpus, or of shards."""

    name = "face"
    _foreign: tuple[str, ...] = (*KEYPOINTS, "reader_only")  # settings of another codec's terms

    def __init__(
        self,
        face: FaceConfig,
        corpus: CorpusConfig,
        batch_size: int,
        precision: str,
        seed: int,
        photo_heads: PhotoHeadsConfig | None = None,
        mesh_folder: str = "",
    ):
        """mesh_folder: where the list of the photo heads' triangles is (`corpus.photos.topology`)."""
        self._face, self._corpus, self._batch, self._seed = face, corpus, batch_size, seed
        self._photo_heads, self._mesh_folder = photo_heads or PhotoHeadsConfig(), mesh_folder
        self._variant = FACE_VARIANTS[face.variant]
        dtype = compute_dtype(precision)
        self._encoder, self._decoder = face_codec(self._variant, dtype)
        self._size = self._encoder.image_size
        self._judges = load_judges(face.loss_networks, dtype) if face.loss_networks else None
        self._loss = VASALoss(
            face,
            mouth_segments=tuple(SEGMENTS.index(name) for name in ("lip", "mouth", "teeth", "tongue")),
            eye_segments=(*(SEGMENTS.index(name) for name in ("sclera", "iris", "brow")), LID),
            judges=self._judges,
        )
        self._discriminators = Discriminators(face, self._size, self._loss, dtype)
        self._validation = FaceValidation(self._encoder, self._decoder, self._loss, corpus)

    @classmethod
    def from_config(cls, config: VASAConfig) -> "FaceTask":
        train = config.train
        strange = [name for name in cls._foreign if getattr(config.face, name)]
        if strange:
            raise InputError(
                f"config.face.{strange[0]}: the codec of config.face.variant={config.face.variant} has no such term; "
                "leave it out"
            )
        told = [name for name in PHOTO_HEADS if getattr(config.face, name) is not None]
        if told and not config.photo_heads.folder:
            raise InputError(
                f"config.face.{told[0]}: only photo heads tell it; name a folder of them, config.photo_heads.folder"
            )
        if config.photo_heads.folder:
            cls._check_photo_heads(config.face.variant)
        return cls(
            config.face, config.corpus, train.batch_size, train.precision, config.seed, config.photo_heads,
            config.photos.models,
        )  # fmt: skip

    @staticmethod
    def _check_photo_heads(variant: str) -> None:
        if not FACE_VARIANTS[variant]["decoder"]["pixel_blocks"]:
            raise InputError(
                f"config.face.variant: {variant} does not look at the portrait's own pixels twice, which photo heads "
                "teach; choose face_demo"
            )

    def _anchor(self) -> tuple[VASAFaceEncoder, Any] | None:
        """The encoder whose latents name the faces of photo heads, and its parameters."""
        return read_anchor(self._face, self._size)

    def init(self, key: jax.Array) -> dict[str, Any]:
        return init_face(key, self._variant)

    def init_discriminator(self, key: jax.Array) -> dict[str, Any] | None:
        return self._discriminators.initial(key)

    def data(self, sharding: NamedSharding | None = None) -> RenderCache | PairShards | Mixture:
        face = self._face
        landmarks = face.keypoint_guide is not None or face.expression_guide is not None
        if self._photo_heads.folder:
            return open_mixture(
                self._photo_heads, self._corpus, face_mesh(self._mesh_folder), self._size, self._anchor(), self._batch,
                self._seed, sharding, landmarks,
            )  # fmt: skip
        if self._corpus.shards:
            return PairShards.of_this_process(
                self._corpus, self._size, self._batch, self._seed, self._face.same_frame
            )
        return RenderCache(
            self._corpus, self._size, self._batch, face.recipe, self._seed, "face", sharding, face.same_frame, landmarks
        )

    def data_settings(self) -> dict[str, Any]:
        face, corpus = self._face, self._corpus
        settings = {"face.recipe": face.recipe, "face.same_frame": face.same_frame}
        if self._photo_heads.folder:
            settings |= {f"photo_heads.{name}": getattr(self._photo_heads, name) for name in PHOTO_DECIDING}
        if corpus.shards:
            return settings
        return settings | {f"corpus.{name}": getattr(corpus, name) for name in RENDER_DECIDING}

    def loss_weights(self, step: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(value, np.float32) for name, value in self._loss.weights(step).items()}

    def frozen_params(self) -> Mapping[str, Any]:
        return self._judges.params if self._judges else {}

    def notes(self) -> list[str]:
        """Names the terms that are asked for and cannot be had."""
        return [
            f"config.face.{name}: off, no judge for it in config.face.loss_networks ('{self._face.loss_networks}')"
            for name in self._loss.missing_judges()
        ]

    def loss(
        self,
        params: dict[str, Any],
        batch: Pairs,
        key: jax.Array,
        *,
        weights: Mapping[str, jax.Array] | None = None,
        frozen: Mapping[str, Any] | None = None,
        discriminator: dict[str, Any] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns (weighted sum of all terms, terms, their weights and PSNR by name)."""
        face = self._face
        weights = self._loss.weights() if weights is None else weights
        frozen = self.frozen_params() if frozen is None else frozen
        params, pairs = fold_standardisation(params), prepared(batch)
        keys = jax.random.split(key, 3)
        if face.flip:
            pairs = mirrored(pairs, jax.random.fold_in(key, 3), face.flip)
        views = forward.jittered(pairs, keys, face.jitter)
        motions = forward.encode_motions(
            self._encoder, params["encoder"], views, jax.random.fold_in(key, 4), face.crop_warp, face.placement,
            face.degrade,
        )  # fmt: skip
        shown = self._decoded(params, pairs, views, motions, key, keys, weights)
        total, terms = forward.base_terms(self._loss, shown["image"], pairs, views, motions, weights)
        extra = forward.network_terms(self._loss, self._judges, frozen, shown, pairs, views, motions, tuple(weights))
        if self._photo_heads.folder:
            weight = self._loss.pixel_weights(pairs["segmentation"])
            told = forward.photo_terms(shown["image"].portrait, pairs, motions, weight)
            extra |= {name: value for name, value in told.items() if name in weights}
        if "region" in weights:
            extra["region"] = self._loss.regions(shown["image"].image, views.target, pairs["segmentation"])
        total = total + self._loss.total(extra, weights)
        image, target = shown["image"].image, views.target
        metrics, rows = self._figures(psnr_per_image(image, target), pairs, weights)
        if discriminator is not None:
            against, learning = self._discriminators.terms(
                discriminator, image, target, pairs["segmentation"], weights, rows
            )
            total = total + self._loss.total(against, weights) + learning
            metrics["discriminator"] = learning
            extra |= against
        return total, {**terms, **extra, **metrics}

    def evaluate(self, params) -> dict[str, float]:
        return self._validation.evaluate(params)

    def images(self, params) -> dict[str, np.ndarray]:
        return self._validation.images(params)

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        described = {"variant": self._face.variant, "fields": self._variant, "recipe": self._face.recipe}
        return params, described | {"framing": CORPUS}

    def _figures(
        self, psnr: jax.Array, pairs: Pairs, weights: Mapping[str, jax.Array]
    ) -> tuple[dict[str, Any], jax.Array | None]:
        """What is logged beside the terms, PSNR and weights, and what each pair counts in the GAN's terms.

        With photo heads PSNR is told for each kind of sources too; None = all pairs count alike.
        """
        logged: dict[str, Any] = {f"weight/{name}": jnp.asarray(x, jnp.float32) for name, x in weights.items()}
        logged["psnr"] = psnr.mean()
        if not self._photo_heads.folder:
            return logged, None
        kind = forward.repeated(kind_of(pairs["person"]), len(psnr) // len(pairs["person"]))
        logged |= {f"psnr_{name}": masked_mean(psnr, kind == i) for i, name in enumerate(KINDS)}
        return logged, jnp.where(kind == RENDERED, self._face.adversarial_rendered, 1.0)

    def _decoded(
        self,
        params: dict[str, Any],
        pairs: Pairs,
        views: forward.Views,
        motions: forward.Motions,
        key: jax.Array,
        keys: jax.Array,
        weights: Mapping[str, jax.Array],
    ) -> dict[str, forward.Shown]:
        """All images that the terms with `weights` compare."""
        face, sources, dynamics = self._face, len(views.source), motions.driver.dynamics
        # Noise makes the decoder smooth in its latent: stage 2 predicts latents with an error of this order.
        spread = jax.lax.stop_gradient(dynamics.std(0, keepdims=True))
        noisy = dynamics + face.dynamics_noise * spread * jax.random.normal(keys[2], dynamics.shape)
        held = forward.with_held_poses(motions, pairs.get("valid_pose"), face.pose_from_image)
        requests = forward.build_requests(
            self._encoder, params["encoder"], views, held, noisy, pairs["same_pose"], "pairwise_transfer" in weights
        )
        if "cross_identity" in weights and face.recipe != "counterfactual":
            requests["cross_identity"] = forward.cross_identity_request(requests["image"], held, key, face.pose_pool)
        drivers = len(views.driver) // sources
        own_backgrounds = {"image": forward.repeated(views.background, drivers)}
        return forward.decode(
            self._decoder, params["decoder"], requests, own_backgrounds, views.background, pairs.get("valid_matte"),
            sources,
        )  # fmt: skip

"""Stage 1: the volume codec learns to put one face's motion onto another (VASA-1 section 3.1).

Recipe `counterfactual`: source (identity A, motion 1) and driver (identity B, motion 2) are held to the rendered
truth (identity A, motion 2); where the bank has faces in several poses, the truth is in a pose of its own, so that
the dynamics that are read from the driver cannot carry the driver's. Recipe `self`: A and B are the same, and
VASA-1's transfer terms may take the truth's place. Exact labels supervise the pose encoder and the matte only; the
decoder sees labelled poses as predicted, with as much gradient as `pose_from_picture` says, none unless asked for: the
pose keeps the labels' frame. Poses without a label learn from the picture.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, FaceConfig
from vasa_jax.corpus.render_cache import RenderCache
from vasa_jax.data.augmentation import apply_colour_transform, random_warp, sample_colour_transform
from vasa_jax.data.face_points import SEGMENTS
from vasa_jax.data.pairs import PairShards
from vasa_jax.dtypes import compute_dtype
from vasa_jax.evaluation.image_metrics import psnr_per_image
from vasa_jax.losses import VASALoss, code_size, critic_hinge, feature_matching, generator_hinge
from vasa_jax.models.discriminator import PatchCritic
from vasa_jax.models.face import face_codec, init_face
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.training.tasks.face_pairs import Pairs, composited, mirrored, prepared, side_by_side, taken_apart
from vasa_jax.training.tasks.face_validation import FaceFigures
from vasa_jax.weights.loss_networks import load_judges


class FaceTask:
    """VASAFaceEncoder and FaceDecoder on frame pairs of the built-in corpus, or of shards."""

    name = "face"

    def __init__(self, face: FaceConfig, corpus: CorpusConfig, batch_size: int, precision: str, seed: int):
        self._face, self._corpus, self._batch, self._seed = face, corpus, batch_size, seed
        self._variant = FACE_VARIANTS[face.variant]
        dtype = compute_dtype(precision)
        self._encoder, self._decoder = face_codec(self._variant, dtype)
        self._critic = PatchCritic(face.critic_widths, dtype=dtype)
        self._size = self._encoder.image_size
        self._judges = load_judges(face.judge, dtype) if face.judge else None
        self._loss = VASALoss(
            face,
            mouth_segments=tuple(SEGMENTS.index(name) for name in ("lip", "mouth", "teeth", "tongue")),
            eye_segments=tuple(SEGMENTS.index(name) for name in ("sclera", "iris", "brow")),
            judges=self._judges,
        )
        self._figures = FaceFigures(self._encoder, self._decoder, self._loss, corpus)

    def init(self, key: jax.Array) -> dict[str, Any]:
        return init_face(key, self._variant)

    def init_opponent(self, key: jax.Array) -> dict[str, Any] | None:
        """The critic, where the settings have one."""
        return None if self._face.adversarial is None else self._critic.initial(key, self._size)

    def data(self, sharding: NamedSharding | None = None) -> RenderCache | PairShards:
        if self._corpus.shards:
            return PairShards.of_this_process(
                self._corpus, self._size, self._batch, self._seed, self._face.same_frame
            )
        recipe, same_frame = self._face.recipe, self._face.same_frame
        return RenderCache(self._corpus, self._size, self._batch, recipe, self._seed, "face", sharding, same_frame)

    def weights(self, step: int) -> dict[str, np.ndarray]:
        """Weight of every term that the program has, for the update that follows `step` updates."""
        return {name: np.asarray(value, np.float32) for name, value in self._loss.weights(step).items()}

    def frozen(self) -> Mapping[str, Any]:
        """The judges' parameters."""
        return self._judges.params if self._judges else {}

    def notes(self) -> list[str]:
        """What a reader of the log should know: terms that are asked for and cannot be had."""
        return [
            f"config.face.{name}: off, no judge for it in config.face.judge ('{self._face.judge}')"
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
        opponent: dict[str, Any] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        face = self._face
        weights = self._loss.weights() if weights is None else weights
        frozen = self.frozen() if frozen is None else frozen
        params, pairs = fold_standardisation(params), prepared(batch)
        keys = jax.random.split(key, 3)
        if face.flip:
            pairs = mirrored(pairs, jax.random.fold_in(key, 3), face.flip)
        count, sources = pairs["driver"].shape[0], pairs["source"].shape[0]
        drivers = count // sources
        valid_matte, valid_pose = pairs.get("valid_matte"), pairs.get("valid_pose")

        def per_driver(x):
            return _repeated(x, drivers)

        def first(x):
            """The first driver of each source."""
            return x.reshape(sources, drivers, *x.shape[1:])[:, 0]

        def joined(*parts):
            return side_by_side(parts, sources)

        shared = sample_colour_transform(keys[0], sources, face.jitter)
        source, background = (apply_colour_transform(pairs[name], shared) for name in ("source", "background"))
        target = apply_colour_transform(pairs["target"], jax.tree.map(per_driver, shared))
        # The driver's colours change on their own, so that the dynamics cannot carry the target's.
        driver = apply_colour_transform(pairs["driver"], sample_colour_transform(keys[1], count, 1.0))
        motion = self._motion(params, joined(source, driver, target), jax.random.fold_in(key, 4))
        (source_pose, pose, target_pose), (source_dynamics, dynamics, target_dynamics) = (
            taken_apart(latent, (1, drivers, drivers), sources) for latent in motion
        )
        # Noise makes the decoder smooth in its code: stage 2 predicts codes with an error of this order.
        spread = jax.lax.stop_gradient(dynamics.std(0, keepdims=True))
        noisy = dynamics + face.dynamics_noise * spread * jax.random.normal(keys[2], dynamics.shape)

        def held(pose, valid):
            """Poses with a label learn from it, and from the picture so little that they stay in the labels' frame."""
            still = jax.lax.stop_gradient(pose)
            if face.pose_from_picture:
                still = still + face.pose_from_picture * (pose - still)
            return still if valid is None else jnp.where(valid[:, None], still, pose)

        first_valid = None if valid_pose is None else first(valid_pose)
        source_held, driver_held = held(source_pose, first_valid), held(pose, valid_pose)
        target_held = held(target_pose, valid_pose)
        # The pose that is shown is read from the driver where it is the driver's: from another person's picture it is a
        # little off, and the decoder must live with that.
        shown_pose = jnp.where(pairs["same_pose"][:, None], driver_held, target_held)
        pictures, views = source, (source_held, source_dynamics)
        if "consist" in weights:
            # Frame i is the source, frame j its first target: both of one clip, in the same colours.
            other_held = first(target_held)
            pictures = joined(source, first(target))
            views = joined(source_held, other_held), joined(source_dynamics, first(target_dynamics))
        seen = self._encoder.apply({"params": params["encoder"]}, pictures, *views, method="encode_appearance")
        frames = (1, 1) if "consist" in weights else (1,)
        own, *other = zip(*(taken_apart(latent, frames, sources) for latent in seen))
        orders = {"picture": (*own, shown_pose, noisy)}
        if "consist" in weights:
            orders["i"] = (*own, other_held, source_dynamics)
            orders["j"] = (*other[0], other_held, source_dynamics)
        exchange = "cross_id" in weights and face.recipe != "counterfactual"
        if exchange:
            orders["stranger"] = (*own, *self._strangers(first(driver_held), first(dynamics), key))
        shown = self._decode(params, orders, {"picture": per_driver(background)}, background, valid_matte, sources)
        picture, matte = shown["picture"]

        total, terms = self._loss(
            picture,
            target,
            matte,
            pairs["segmentation"],
            joined(source_pose, pose, target_pose),
            joined(pairs["source_pose"], pairs["driver_pose"], pairs["target_pose"]),
            dynamics,
            target_dynamics,
            weights=weights,
            valid_matte=valid_matte,
            valid_poses=None if valid_pose is None else joined(first_valid, valid_pose, valid_pose),
        )
        extra = {"code": code_size(dynamics)}
        if "consist" in weights:
            extra["consist"] = self._loss.consistency(shown["i"][0], shown["j"][0], frozen)
        if "perceptual" in weights:
            extra["perceptual"] = self._judges.perceptual_loss(frozen, picture, target)
        if "face_perceptual" in weights:
            label = pairs["target_pose"]
            where = label if valid_pose is None else jnp.where(valid_pose[:, None], label, target_pose)
            extra["face_perceptual"] = self._judges.face_loss(frozen, picture, target, where)
        if "cross_id" in weights:
            if exchange:
                crossed, portrait, valid = shown["stranger"][0], source, pairs["person"] != _next(pairs["person"])
            else:
                crossed, portrait, valid = picture, per_driver(source), ~pairs["same_identity"]
            extra["cross_id"] = self._judges.identity_loss(frozen, crossed, portrait, valid.astype(jnp.float32))
        total = total + self._loss.total(extra, weights)
        figures = {"psnr": psnr_per_image(picture, target).mean()}
        if opponent is not None:
            game, critic = self._game(opponent, picture, target, weights)
            total = total + self._loss.total(game, weights) + critic
            figures["critic"] = critic
            extra |= game
        figures |= {f"weight/{name}": jnp.asarray(value, jnp.float32) for name, value in weights.items()}
        return total, {**terms, **extra, **figures}

    def evaluate(self, params) -> dict[str, float]:
        return self._figures.evaluate(params)

    def pictures(self, params) -> dict[str, np.ndarray]:
        return self._figures.pictures(params)

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        return params, {"variant": self._face.variant, "fields": self._variant, "recipe": self._face.recipe}

    def _motion(self, params, images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(poses, dynamics) of pictures; the pose is read from the clean picture, the dynamics from a warped crop."""
        encoder = {"params": params["encoder"]}
        if not self._face.crop_warp:
            return self._encoder.apply(encoder, images, method="encode_motion")
        poses = self._encoder.apply(encoder, images, method="encode_pose")
        crops = self._encoder.apply(encoder, images, poses, method="crop")
        return poses, self._encoder.apply(encoder, random_warp(crops, key, self._face.crop_warp), method="encode_crop")

    def _strangers(self, pose: jax.Array, dynamics: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The motion of the next example's driver for every source; the pose of the one after for some of them.

        Neighbours in the batch, rather than numbered partners, so that any part of a batch can be computed alone.
        """
        pooled = jax.random.uniform(jax.random.fold_in(key, 5), (len(pose), 1)) < self._face.pose_pool
        return jnp.where(pooled, _next(pose, 2), _next(pose)), _next(dynamics)

    def _decode(self, params, orders, backgrounds, background, valid_matte, sources: int) -> dict[str, tuple]:
        """(picture over its background, matte) for every named order, all from one pass of the decoder.

        An order names the appearance and identity of each source once, for one pose and code or for several.
        """
        counts = [len(pose) // sources for *_, pose, _ in orders.values()]
        latents = next(iter(orders.values()))
        if len(orders) > 1:
            rows = (
                (*_repeated((appearance, identity), count), pose, dynamics)
                for (appearance, identity, pose, dynamics), count in zip(orders.values(), counts)
            )
            latents = (side_by_side(parts, sources) for parts in zip(*rows))
        decoded = self._decoder.apply({"params": params["decoder"]}, *latents)
        parts = zip(*(taken_apart(part, counts, sources) for part in (decoded.rgb, decoded.matte)))
        shown = {}
        for name, (rgb, matte) in zip(orders, parts):
            matte = matte.astype(jnp.float32)
            valid = valid_matte
            if valid is not None:
                valid = valid.reshape(sources, -1)[:, : len(rgb) // sources].reshape(-1)
            shown[name] = composited(rgb, matte, backgrounds.get(name, background), valid), matte
        return shown

    def _game(self, critic_params, picture, target, weights) -> tuple[dict[str, jax.Array], jax.Array]:
        """(the decoder's terms, the critic's loss); before `gan_from` the critic does not learn."""
        learning = {"params": critic_params}
        fixed = jax.lax.stop_gradient(learning)
        scores, features = self._critic.apply(fixed, picture)
        _, true_features = self._critic.apply(fixed, target)
        real, _ = self._critic.apply(learning, target)
        fake, _ = self._critic.apply(learning, jax.lax.stop_gradient(picture))
        terms = {"adversarial": generator_hinge(scores), "feature_matching": feature_matching(true_features, features)}
        on = jnp.asarray(weights["adversarial"] + weights["feature_matching"] > 0, jnp.float32)
        return terms, on * critic_hinge(real, fake)


def _repeated(tree: Any, times: int) -> Any:
    """Each row of every array, `times` times."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, times, 0), tree)


def _next(x: jax.Array, step: int = 1) -> jax.Array:
    """Each row's follower in the batch, in a circle."""
    return jnp.roll(x, -step, 0)

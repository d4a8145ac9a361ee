"""Stage 1: the volume codec learns to put one face's motion onto another (VASA-1 section 3.1).

Recipe `counterfactual`: source (identity A, motion 1) and driver (identity B, motion 2) are held to the rendered truth
(identity A, motion 2). Recipe `self`: A and B are the same. Exact labels supervise the pose encoder and the matte only;
the decoder sees predicted poses, without gradient, so that the pose keeps the labels' frame.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vasa_jax.config import CorpusConfig, FaceConfig
from vasa_jax.data.augmentation import apply_colour_transform, sample_colour_transform
from vasa_jax.data.synthetic.bank import FrameBank
from vasa_jax.data.synthetic.render import SEGMENTS
from vasa_jax.losses import VASALoss
from vasa_jax.models.face import face_codec, init_face
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.training.precision import compute_dtype

HELD_OUT_GROUPS = 16


class FaceTask:
    """VASAFaceEncoder and FaceDecoder on frame pairs of the built-in corpus."""

    name = "face"

    def __init__(self, face: FaceConfig, corpus: CorpusConfig, batch_size: int, precision: str, seed: int):
        self._face, self._corpus, self._batch, self._seed = face, corpus, batch_size, seed
        self._variant = FACE_VARIANTS[face.variant]
        self._encoder, self._decoder = face_codec(self._variant, compute_dtype(precision))
        self._size = self._encoder.image_size
        self._held_out_batches: list[dict[str, jax.Array]] | None = None
        self._loss = VASALoss(
            face,
            mouth_segments=tuple(SEGMENTS.index(name) for name in ("lip", "mouth", "teeth", "tongue")),
            eye_segments=tuple(SEGMENTS.index(name) for name in ("sclera", "iris", "brow")),
        )

    def init(self, key: jax.Array) -> dict[str, Any]:
        return init_face(key, self._variant)

    def data(self, sharding: NamedSharding | None = None) -> FrameBank:
        return FrameBank(self._corpus, self._size, self._batch, self._face.recipe, self._seed, "face", sharding)

    def loss(self, params, batch, key):
        params = fold_standardisation(params)
        keys = jax.random.split(key, 3)
        count, sources = batch["driver"].shape[0], batch["source"].shape[0]
        shared = sample_colour_transform(keys[0], sources, self._face.jitter)
        source, background = (apply_colour_transform(to_float(batch[n]), shared) for n in ("source", "background"))

        def per_driver(x):
            return jnp.repeat(x, count // sources, 0)

        target = apply_colour_transform(to_float(batch["target"]), jax.tree.map(per_driver, shared))
        # The driver's colours change on their own, so that the dynamics cannot carry the target's.
        driver = apply_colour_transform(to_float(batch["driver"]), sample_colour_transform(keys[1], count, 1.0))
        encoder = {"params": params["encoder"]}
        poses, codes = self._encoder.apply(encoder, jnp.concatenate([source, driver, target]), method="encode_motion")
        source_pose, pose, _ = jnp.split(poses, (sources, sources + count))
        source_dynamics, dynamics, target_dynamics = jnp.split(codes, (sources, sources + count))
        # Poses learn from their labels alone: no gradient of the picture moves them out of the labels' frame.
        appearance, identity = self._encoder.apply(
            encoder, source, jax.lax.stop_gradient(source_pose), source_dynamics, method="encode_appearance"
        )
        # Noise makes the decoder smooth in its code: stage 2 predicts codes with an error of this order.
        spread = jax.lax.stop_gradient(dynamics.std(0, keepdims=True))
        noisy = dynamics + self._face.dynamics_noise * spread * jax.random.normal(keys[2], dynamics.shape)
        still = (per_driver(appearance), per_driver(identity), jax.lax.stop_gradient(pose))
        decoded = self._decoder.apply({"params": params["decoder"]}, *still, noisy)
        picture = composite(decoded.rgb, decoded.matte, per_driver(background))
        total, terms = self._loss(
            picture,
            target,
            decoded.matte.astype(jnp.float32),
            batch["segmentation"],
            jnp.concatenate([source_pose, pose]),
            jnp.concatenate([batch["source_pose"], batch["driver_pose"]]),
            dynamics,
            target_dynamics,
        )
        # Keeps the code's scale bounded; the contrast term fixes only its direction.
        code = jnp.square(dynamics).mean()
        terms |= {"psnr": psnr(picture, target).mean(), "code": code}
        return total + 1e-3 * code, terms

    def evaluate(self, params) -> dict[str, float]:
        results = [self._judge(params, batch) for batch in self._held_out()]
        return {name: float(np.mean([np.asarray(r[name]) for r in results])) for name in results[0]}

    def pictures(self, params) -> dict[str, np.ndarray]:
        batch = {name: value[:8] for name, value in self._held_out()[0].items()}
        picture = self._picture(params, batch)
        rows = [to_float(batch["source"]), to_float(batch["driver"]), picture, to_float(batch["target"])]
        rows.append(jnp.abs(picture - rows[-1]) * 3.0)
        grid = jnp.concatenate([row.transpose(1, 0, 2, 3).reshape(row.shape[1], -1, 3) for row in rows])
        return {"source_driver_output_truth_error": np.asarray(jnp.clip(grid, 0, 1) * 255 + 0.5).astype(np.uint8)}

    def export(self, params) -> tuple[dict[str, Any], dict[str, Any]]:
        return params, {"variant": self._face.variant, "fields": self._variant, "recipe": self._face.recipe}

    def _held_out(self) -> list[dict[str, jax.Array]]:
        """The same pairs in every run of every seed: heads that no training stream renders."""
        if self._held_out_batches is None:
            corpus = dataclasses.replace(self._corpus, groups=HELD_OUT_GROUPS, drivers=1, refresh=False, style=0.0)
            bank = FrameBank(corpus, self._size, 32, "counterfactual", 0, "face held out")
            self._held_out_batches = [next(bank) for _ in range(4)]
        return self._held_out_batches

    @functools.partial(jax.jit, static_argnums=0)
    def _picture(self, params, batch) -> jax.Array:
        params = fold_standardisation(params)
        latents = self._encoder.apply({"params": params["encoder"]}, to_float(batch["source"]), method="encode")
        pose, dynamics = self._encoder.apply(
            {"params": params["encoder"]}, to_float(batch["driver"]), method="encode_motion"
        )
        decoded = self._decoder.apply(
            {"params": params["decoder"]}, latents.appearance, latents.identity, pose, dynamics
        )
        return composite(decoded.rgb, decoded.matte, to_float(batch["background"]))

    @functools.partial(jax.jit, static_argnums=0)
    def _judge(self, params, batch) -> dict[str, jax.Array]:
        target = to_float(batch["target"])
        picture = self._picture(params, batch)
        mouth = jnp.isin(batch["segmentation"], jnp.array(self._loss.mouth_segments))
        eyes = jnp.isin(batch["segmentation"], jnp.array(self._loss.eye_segments))
        same = batch["same_identity"]
        value = psnr(picture, target)
        pose, _ = self._encoder.apply({"params": params["encoder"]}, target, method="encode_motion")
        return {
            "psnr_self": (value * same).sum() / jnp.maximum(same.sum(), 1),
            "psnr_cross": (value * ~same).sum() / jnp.maximum((~same).sum(), 1),
            "psnr_mouth": _region_psnr(picture, target, mouth),
            "psnr_eyes": _region_psnr(picture, target, eyes),
            "pose_l1": jnp.abs(pose - batch["driver_pose"]).mean(),
        }


def to_float(image: jax.Array) -> jax.Array:
    """uint8 to float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255.0


def composite(rgb: jax.Array, matte: jax.Array, background: jax.Array) -> jax.Array:
    """The decoded head over a background canvas, float32."""
    rgb, matte = rgb.astype(jnp.float32), matte.astype(jnp.float32)
    return matte * rgb + (1.0 - matte) * background


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of each image in [0, 1]."""
    return -10.0 * jnp.log10(jnp.maximum(jnp.square(x - y).mean((1, 2, 3)), 1e-10))


def _region_psnr(x: jax.Array, y: jax.Array, region: jax.Array) -> jax.Array:
    error = (jnp.square(x - y).mean(-1) * region).sum() / jnp.maximum(region.sum(), 1)
    return -10.0 * jnp.log10(jnp.maximum(error, 1e-10))

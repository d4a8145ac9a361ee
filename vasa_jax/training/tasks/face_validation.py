"""How the codec is judged while it trains: metrics, rows of images and a video of pairs that training never sees."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus.heads.render import to_uint8
from vasa_jax.corpus.render_cache import RenderCache
from vasa_jax.data.pairs import PairShards
from vasa_jax.evaluation.image_metrics import edge_sum, mse_to_psnr, psnr_per_image
from vasa_jax.losses import VASALoss
from vasa_jax.models.face import FaceDecoder, VASAFaceEncoder
from vasa_jax.models.keypoint_face import KeypointFaceDecoder, KeypointFaceEncoder
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.training.tasks.face_pairs import Pairs, composited, prepared

HELD_OUT_GROUPS = 16
BATCHES, BATCH = 4, 32
COLUMNS = 8  # of the rows of images
VIDEO_FACES, VIDEO_STEPS = 4, 6  # faces side by side; frames from one driver's motion to the next


class FaceValidation:
    """Metrics and images of codec parameters on held-out pairs: of the corpus, or of the shards' split `heldout`."""

    def __init__(self, encoder: VASAFaceEncoder | KeypointFaceEncoder,
        decoder: FaceDecoder | KeypointFaceDecoder, loss: VASALoss, corpus: CorpusConfig):
        self._encoder, self._decoder, self._loss, self._corpus = encoder, decoder, loss, corpus
        self._whole = isinstance(decoder, KeypointFaceDecoder)  # without a matte
        self._batches: list[Pairs] | None = None

    def evaluate(self, params: dict[str, Any]) -> dict[str, float]:
        """Averages metrics over the held-out pairs; what a data set has no label for is left out."""
        parts = [self._measure(params, batch, self._frozen()) for batch in self.held_out()]
        merged = {name: functools.reduce(Average.merge, (part[name] for part in parts)) for name in parts[0]}
        metrics = {name: float(value.compute()) for name, value in merged.items() if value.count}
        return {name.replace("mse", "psnr"): float(mse_to_psnr(value)) if "mse" in name else value
                for name, value in metrics.items()}  # fmt: skip

    def images(self, params: dict[str, Any]) -> dict[str, np.ndarray]:
        """Draws rows of source, driver, reconstruction (the source's own person drives), cross-identity, truth and
        error, a column per pair; and a video of sources that follow the drivers' motions in turn."""
        batch = {name: value[:COLUMNS] for name, value in self.held_out()[0].items()}
        rows, frames = self._rows(params, batch), self._walk(params, batch)
        grid = rows.transpose(0, 2, 1, 3, 4).reshape(rows.shape[0] * rows.shape[2], -1, 3)
        return {
            "source_driver_reconstruction_cross_truth_error": np.asarray(to_uint8(grid)),
            "motions_in_turn": np.asarray(to_uint8(frames)),
        }

    def held_out(self) -> list[Pairs]:
        """Returns the same pairs in every run of every seed: people whom no training stream shows."""
        if self._batches is None:
            if self._corpus.shards:
                self._batches = PairShards.held_out(self._corpus, self._encoder.image_size, BATCH, BATCHES)
            else:
                plain = {"groups": HELD_OUT_GROUPS, "drivers": 1, "poses": 1, "refresh": 0, "style": 0.0}
                corpus = dataclasses.replace(self._corpus, **plain)
                cache = RenderCache(corpus, self._encoder.image_size, BATCH, "counterfactual", 0, "face held out")
                self._batches = [next(cache) for _ in range(BATCHES)]
        return self._batches

    def _frozen(self) -> Any:
        return self._loss.judges.params if self._loss.judges else {}

    def _encode(self, params, images: jax.Array):
        return self._encoder.apply({"params": params["encoder"]}, images, method="encode")

    def _motion(self, params, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._encoder.apply({"params": params["encoder"]}, images, method="encode_motion")

    def _show(self, params, latents, motion, pairs: Pairs) -> jax.Array:
        decoded = self._decoder.apply({"params": params["decoder"]}, latents.appearance, latents.identity, *motion)
        return composited(decoded.rgb, decoded.matte, pairs["background"], pairs.get("valid_matte"))

    def _drivers(self, pairs: Pairs) -> jax.Array:
        """Images of people other than the source, where there are any: shards pair a person with itself."""
        return pairs["driver"][next_person(pairs["person"])] if self._corpus.shards else pairs["driver"]

    @functools.partial(jax.jit, static_argnums=0)
    def _rows(self, params, batch: Pairs) -> jax.Array:
        params, pairs = fold_standardisation(params), prepared(batch, self._whole)
        latents, target = self._encode(params, pairs["source"]), pairs["target"]
        driver = self._drivers(pairs)
        reconstruction = self._show(params, latents, self._motion(params, target), pairs)
        cross = self._show(params, latents, self._motion(params, driver), pairs)
        # Only rendered pairs have a true image of the source in another person's motion.
        error = jnp.abs((reconstruction if self._corpus.shards else cross) - target) * 3.0
        return jnp.stack([pairs["source"], driver, reconstruction, cross, target, error])

    @functools.partial(jax.jit, static_argnums=0)
    def _walk(self, params, batch: Pairs) -> jax.Array:
        """(frames, n, n * faces, 3): motions between those of successive drivers, on a straight line of latents."""
        params, pairs = fold_standardisation(params), prepared(batch, self._whole)
        faces = {name: value[:VIDEO_FACES] for name, value in pairs.items()}
        latents = self._encode(params, faces["source"])
        motions = jnp.concatenate(self._motion(params, self._drivers(pairs)), -1)
        share = jnp.arange(VIDEO_STEPS)[:, None] / VIDEO_STEPS
        between = motions[:-1, None] + share * (motions[1:] - motions[:-1])[:, None]

        def frame(motion):
            motion = jnp.broadcast_to(motion, (len(faces["source"]), len(motion)))
            shown = self._show(params, latents, (motion[:, :9], motion[:, 9:]), faces)
            return shown.transpose(1, 0, 2, 3).reshape(shown.shape[1], -1, 3)

        return jax.lax.map(frame, between.reshape(-1, between.shape[-1]))

    @functools.partial(jax.jit, static_argnums=0)
    def _measure(self, params, batch: Pairs, frozen) -> dict[str, Average]:
        """Sums and counts, which merge to the metrics of all batches; `mse_...` become PSNR at the end."""
        params, pairs = fold_standardisation(params), prepared(batch, self._whole)
        target, segmentation = pairs["target"], pairs["segmentation"]
        latents = self._encode(params, pairs["source"])
        image = self._show(params, latents, self._motion(params, pairs["driver"]), pairs)
        same, value = pairs["same_identity"], psnr_per_image(image, target)
        pose, _ = self._motion(params, target)
        error = jnp.abs(pose - pairs["target_pose"]).mean(-1)
        valid = pairs.get("valid_pose", jnp.ones(same.shape, bool))
        metrics = {
            "psnr_self": Average.from_model_output(value, same),
            "pose_l1": Average.from_model_output(error, valid),
        }
        if not self._corpus.shards:
            metrics["psnr_cross"] = Average.from_model_output(value, ~same)
        regions = {"mouth": self._loss.mouth_segments, "eyes": self._loss.eye_segments}
        for name, members in regions.items():
            region = jnp.isin(segmentation, jnp.array(members))
            metrics[f"mse_{name}"] = Average.from_model_output(jnp.square(image - target).mean(-1), region)
            metrics[f"sharpness_{name}"] = Average(edge_sum(image, region), edge_sum(target, region))
        if self._loss.judges and self._loss.judges.identity:
            cross = self._show(params, latents, self._motion(params, self._drivers(pairs)), pairs)
            similarity = self._loss.judges.similarity(frozen, cross, pairs["source"])
            metrics["identity"] = Average(similarity * len(cross), jnp.array(len(cross)))
        return metrics


def next_person(person: jax.Array) -> jax.Array:
    """Maps person (B,) to the index (B,) of the next row with another person, in a circle; else to the next row.

    Clips of one person lie side by side in shards.
    """
    count = len(person)
    following = (jnp.arange(count)[:, None] + 1 + jnp.arange(count)) % count
    first = (person[following] != person[:, None]).argmax(1)
    return jnp.take_along_axis(following, first[:, None], 1)[:, 0]

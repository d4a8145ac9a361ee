"""Stage 2's validation in pixels: does the mouth of decoded frames open when the true one does?

Latents may be near the true ones and the mouth still shut. So sampled motion moves the portrait of the head that the
clip was rendered with. The face probe reads the mouth of the frames; the corpus knows the exact opening.
"""

import dataclasses
from typing import Any

import numpy as np

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.corpus.performance.muscles import MOTION_NAMES
from vasa_jax.evaluation import metrics
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.generation.animator import Avatar, PortraitAnimator
from vasa_jax.training.tasks.motion_data import HELD_OUT_HEADS, HELD_OUT_SEED

HEADS = 8  # held-out clips whose windows are decoded
STRIDE = 4  # every n-th frame of a window is decoded


class DecodedMouth:
    """Compares the mouth opening of decoded held-out windows with the exact one.

    Raises InputError if a part cannot be read.
    """

    def __init__(self, codec: tuple[dict, dict], instrument: str, corpus: CorpusConfig, dtype: Any, batch: int = 8):
        """codec: the one whose latents the motion is; `instrument` is a directory, empty = the shipped one."""
        self._reader = FaceReader.from_pretrained(instrument, batch)
        self._animator = PortraitAnimator(codec, batch, dtype, mark=False)
        # The motion of the clips alone is needed, which neither voices nor their number change.
        settings = dataclasses.replace(corpus, voices_per_clip=1, workers=1, cache="")
        self._curves = ClipSet.make(settings, HEADS, "heldout", HELD_OUT_SEED).motion
        self._drawn = HeldOutHeads(
            self._animator.image_size, HELD_OUT_SEED, corpus.supersample, render_batch=1, stream=HELD_OUT_HEADS
        )
        self._heads: dict[int, tuple[Avatar, np.ndarray]] = {}
        self._codec_metrics: dict[str, float] | None = None

    def metrics(
        self, sampled_BTD: np.ndarray, truth_BTD: np.ndarray, clip_B: np.ndarray, start_B: np.ndarray
    ) -> dict[str, float]:
        """Measures `mouth_r` (Pearson, mean over windows) and `mouth_mae` (in distances between the eyes).

        `codec_mouth_*` are the same of true motion: what the codec leaves to be reached.

        sampled, truth: motion of windows, not normalised, of the held-out clips `clip` from their frames `start`; the
        windows of the first HEADS clips are used. The true motion must be the same at every call.
        """
        rows = np.flatnonzero(np.asarray(clip_B) < HEADS)
        windows = [(int(clip_B[row]), int(start_B[row])) for row in rows]
        if self._codec_metrics is None:
            self._codec_metrics = self._compared(truth_BTD[rows], windows)
        codec = {f"codec_{name}": value for name, value in self._codec_metrics.items()}
        return self._compared(sampled_BTD[rows], windows) | codec

    def _compared(self, motion_BTD: np.ndarray, windows: list[tuple[int, int]]) -> dict[str, float]:
        correlations, errors = [], []
        for motion_TD, (clip, start) in zip(motion_BTD, windows):
            avatar, opening = self._head(clip)
            true = opening[start : start + len(motion_TD)][::STRIDE]
            frames = np.concatenate(list(self._animator.render(avatar, np.float32(motion_TD[::STRIDE]))))
            mouth = self._reader.measure(frames).mouth
            correlations.append(metrics.pearson(mouth, true))
            errors.append(np.abs(mouth - true).mean())
        return {"mouth_r": float(np.mean(correlations)), "mouth_mae": float(np.mean(errors))}

    def _head(self, clip: int) -> tuple[Avatar, np.ndarray]:
        """The avatar of the face at rest and the exact mouth opening (T,) of a held-out clip."""
        if clip not in self._heads:
            identity = self._drawn.identity(clip)
            opening = self._drawn.label(identity, dict(zip(MOTION_NAMES, self._curves[clip].T)))["mouth"]
            self._heads[clip] = self._animator.prepare(self._drawn.portrait(identity)), opening
        return self._heads[clip]

"""Mouth against sound by our own `SyncProbe`: its figures are of its own scale and are not those of SyncNet.

Frames and sound go the same way in training and in measuring. The face probe finds the mouth, and a patch is cut around
it in the head's scale and roll. Sound becomes MFCC about their mean over the whole clip.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.evaluation.face_readings import Measurements, at_probe_size
from vasa_jax.evaluation.sync import MAX_SHIFT, SyncFigures
from vasa_jax.filling import in_batches
from vasa_jax.models.face_probe import patch_grid
from vasa_jax.models.geometry import bilinear_sample
from vasa_jax.models.sync_probe import COEFFICIENTS, COLUMNS, STORED, WINDOW, SyncProbe, seen_part
from vasa_jax.models.variants import from_json
from vasa_jax.preparation.mfcc import FRAME, STEP, mfcc
from vasa_jax.preparation.syncnet import SyncCurve
from vasa_jax.weights.parts import load_part

PART = "sync"  # sync.safetensors
HALF = 0.5  # of a stored patch's side, in canonical units: from below the nose to the chin
SMOOTH = 9  # frames over which the place of the mouth and the head's pose are averaged
HISS = 10.0 ** (-70.0 / 20.0)  # of full scale, added to all sound: digital silence has no logarithm
LUMA = (0.299, 0.587, 0.114)
_BATCH = 32  # frames, or windows' frames, at once


class SyncProbeMeter:
    """Measures videos by a trained sync probe.

    Attributes:
      figures: what it reached on held-out people when it was trained, by name; may be empty.
    """

    def __init__(self, params: dict[str, Any], fields: dict[str, Any]):
        self.figures: dict[str, float] = {}
        self._params, self._network = jax.device_put(params), SyncProbe(**fields)

    @classmethod
    def from_pretrained(cls, directory: str | Path = "") -> "SyncProbeMeter":
        """Loads sync.safetensors of a directory; empty = the shipped one. InputError where it is missing or damaged."""
        params, metadata = load_part(directory, PART)
        meter = cls(params, from_json(metadata["fields"]))
        meter.figures = dict(metadata.get("figures", {}))
        return meter

    def measure(
        self, patches: UInt8[np.ndarray, "T s s"], columns: Float[np.ndarray, "T2 columns coefficients"]
    ) -> SyncFigures | None:
        """Returns confidence, distance and offset of `mouth_patches` and `sound_columns`; None for too short a clip.

        offset: frames, positive where the sound comes before its image, as SyncNet's. Sound and images that go beyond
        each other are not compared, so no shift gains by windows that it lacks.
        """
        frames = min(len(patches), len(columns))
        if frames < WINDOW + 1:
            return None
        seen, heard = self.embed_lips(patches[:frames]), self.embed_sound(columns[:frames])
        apart = np.sqrt(np.maximum(2.0 - 2.0 * (seen.astype(np.float64) @ heard.T), 0.0))
        curve = sync_curve(apart)
        late = curve.best_shift()
        return SyncFigures(curve.confidence(late), float(np.diagonal(apart, late).mean()), -late)

    def embed_lips(self, patches: UInt8[np.ndarray, "T s s"]) -> Float[np.ndarray, "W code"]:
        """Embeds every window of nine frames."""
        middle = np.zeros((1, 2), np.float32), np.ones(1, np.float32), np.zeros(1, np.float32)
        return self._embedded("lip", lambda part: _seen(part, *middle), np.asarray(patches))

    def embed_sound(self, columns: Float[np.ndarray, "T columns coefficients"]) -> Float[np.ndarray, "W code"]:
        """Embeds every window of nine frames of sound."""
        return self._embedded("aud", lambda part: part, np.asarray(columns, np.float32))

    def _embedded(self, method: str, prepare, track: np.ndarray) -> np.ndarray:
        parts, count = [], len(track) - WINDOW + 1
        for start in range(0, count, _BATCH):
            rows = np.minimum(np.arange(start, start + _BATCH + WINDOW - 1), len(track) - 1)  # one compiled shape
            part = _embed(self._network, method, self._params, prepare(track[rows])[None])
            parts.append(np.asarray(part[0])[: count - start])
        return np.concatenate(parts)


def sync_curve(apart: Float[np.ndarray, "W W"]) -> SyncCurve:
    """Returns the curve over shifts of the distances of W windows of images (rows) from W of sound (columns)."""
    count = len(apart)
    total, number = np.zeros(2 * MAX_SHIFT + 1), np.zeros(2 * MAX_SHIFT + 1)
    for row in range(count):
        beside = [shift for shift in range(-MAX_SHIFT, MAX_SHIFT + 1) if 0 <= row + shift < count]
        values = apart[row, [row + shift for shift in beside]]
        places = np.add(beside, MAX_SHIFT)
        total[places] += values - values.mean()
        number[places] += 1
    return SyncCurve(total, number)


def mouth_patches(
    frames: UInt8[np.ndarray, "T n n 3"], reading: Measurements, points: tuple[str, ...]
) -> UInt8[np.ndarray, "T s s"]:
    """Cuts grey patches around the mouth, in the head's scale and roll, which the face probe has read."""
    from scipy.ndimage import uniform_filter1d

    lips = [i for i, point in enumerate(points) if point.startswith("outer_lip")]
    centre = uniform_filter1d(reading.landmarks[:, lips].mean(1), SMOOTH, axis=0, mode="nearest")
    pose = uniform_filter1d(reading.pose, SMOOTH, axis=0, mode="nearest")
    return in_batches(_patches, _BATCH, frames, centre, pose)


def sound_columns(samples: Float[np.ndarray, "n"], frames: int) -> Float[np.ndarray, "T columns coefficients"]:
    """Returns MFCC of `frames` frames of 16 kHz sound, four columns each, about their mean, over their deviation.

    Sound that is missing is silence. A hiss at -70 dB, the same at every call, lifts digital silence.
    """
    needed = (frames * COLUMNS - 1) * STEP + FRAME
    sound = np.zeros(needed, np.float32)
    sound[: min(len(samples), needed)] = samples[:needed]
    hiss = np.random.default_rng(0).standard_normal(needed).astype(np.float32)
    coefficients = mfcc(sound + HISS * hiss)[: frames * COLUMNS]
    coefficients = (coefficients - coefficients.mean(0)) / (coefficients.std(0) + 1e-3)
    return coefficients.reshape(frames, COLUMNS, COEFFICIENTS)


@jax.jit
def _patches(frames, centre, pose):
    small = at_probe_size(frames.astype(jnp.float32) / 255.0)
    grey = jnp.einsum("bhwc,c->bhw", small, jnp.array(LUMA))[..., None]
    cut = bilinear_sample(grey, patch_grid(centre, pose, HALF, STORED))[..., 0]
    return jnp.clip(cut * 255.0 + 0.5, 0.0, 255.0).astype(jnp.uint8)


@jax.jit
def _seen(patches, place, size, roll):
    grey = patches.astype(jnp.float32)[..., None] / 255.0
    count = len(grey)
    whole = [jnp.broadcast_to(part, (count, *part.shape[1:])) for part in (place, size, roll)]
    return seen_part(grey, *whole)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _embed(network, method, params, track):
    return network.apply({"params": params}, track, method=method)

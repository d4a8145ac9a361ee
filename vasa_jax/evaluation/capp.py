"""CAPPScore: how well head motion and speech of a video belong together, by a trained `CAPP`."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME, TAIL, head_angles
from vasa_jax.models.audio import AudioEncoder, pair_mean
from vasa_jax.models.capp import CAPP, WINDOW
from vasa_jax.weights.parts import load_part

BLOCK = 200  # frames of sound that the audio encoder hears at once
HOP = FPS  # frames between windows of a video
_BATCH = 32  # windows that are embedded at once
SHIFTS = (0, 1, 2, 3, 4)  # frames, of VASA-1's Table 3
SCALES = (0.2, 0.5, 1.0, 1.5, 3.0)  # of pose changes, of its Table 4
RIVALS = 64  # pairs among which the own partner is to be found


class CAPPScore:
    """Scores head poses against sound: cosines in [-1, 1], means over windows of 3 s.

    Attributes:
      figures: what the network reached on held-out people when it was trained, by name; may be empty.
    """

    def __init__(self, params: dict[str, Any], audio_fields: dict[str, Any], capp_fields: dict[str, Any]):
        self.figures: dict[str, float] = {}
        self._params = jax.device_put(params)
        self._ear, self._network = AudioEncoder(**audio_fields), CAPP(**capp_fields)

    @classmethod
    def from_pretrained(cls, directory: str | Path = "") -> "CAPPScore":
        """Loads capp.safetensors of a directory; empty = the shipped one. InputError where it is missing or damaged."""
        params, metadata = load_part(directory, "capp")
        score = cls(params, metadata["fields"]["audio"], metadata["fields"]["capp"])
        score.figures = dict(metadata.get("figures", {}))
        return score

    def score(self, pose: Float[np.ndarray, "T 9"], samples: Float[np.ndarray, "n"]) -> float:
        """Returns the mean cosine over windows of 3 s, one a second; nan for less than 3 s of either."""
        angles, heard = head_angles(pose), self.hear(samples)
        starts = range(0, min(len(angles), len(heard)) - WINDOW + 1, HOP)
        if not len(starts):
            return float("nan")
        poses, sounds = (np.stack([track[start : start + WINDOW] for start in starts]) for track in (angles, heard))
        return float((self.embed_pose(poses) * self.embed_sound(sounds)).sum(-1).mean())

    def hear(self, samples: Float[np.ndarray, "n"]) -> Float[np.ndarray, "T C"]:
        """Returns the audio encoder's features of whole frames of 16 kHz sound, at 25 Hz."""
        return hear(self._ear, self._params["audio"], samples)

    def embed_pose(self, angles: Float[np.ndarray, "N 75 3"]) -> Float[np.ndarray, "N code"]:
        """Embeds windows of yaw, pitch and roll in degrees."""
        return self._embedded("embed_pose", angles)

    def embed_sound(self, features: Float[np.ndarray, "N 75 C"]) -> Float[np.ndarray, "N code"]:
        """Embeds windows of features."""
        return self._embedded("embed_sound", features)

    def _embedded(self, method: str, windows: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(windows), _BATCH):
            rows = np.minimum(np.arange(start, start + _BATCH), len(windows) - 1)  # one compiled shape
            part = _embed(self._network, method, self._params["capp"], np.asarray(windows[rows], np.float32))
            parts.append(np.asarray(part)[: len(windows) - start])
        return np.concatenate(parts)


def hear(encoder: AudioEncoder, params: Any, samples: Float[np.ndarray, "n"]) -> Float[np.ndarray, "T C"]:
    """Returns features of whole frames, float32 at 25 Hz; the sound is heard in blocks of BLOCK frames.

    samples: float in [-1, 1] or int16. A network that was trained on such features is to get such features.
    """
    frames = len(samples) // SAMPLES_PER_FRAME
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32767.0
    length = BLOCK * SAMPLES_PER_FRAME
    sound = np.zeros(-(-max(frames, 1) // BLOCK) * length + TAIL, np.float32)
    sound[: min(len(samples), len(sound))] = samples[: len(sound)]
    blocks = [_features(encoder, params, sound[None, i : i + length + TAIL]) for i in range(0, len(sound) - TAIL, length)]
    return np.concatenate([np.asarray(block[0]) for block in blocks])[:frames]


@functools.partial(jax.jit, static_argnums=0)
def _features(encoder, params, samples):
    return pair_mean(encoder.apply({"params": params}, samples))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _embed(network, method, params, windows):
    return network.apply({"params": params}, windows, method=method)


def sanity_curves(
    score: CAPPScore, angles: Float[np.ndarray, "N T 3"], features: Float[np.ndarray, "N T C"]
) -> dict[str, float]:
    """Returns VASA-1's Tables 3 and 4 in shape, and how often the partner is found among RIVALS.

    `shift_K`: poses K frames late or early (mean of both) against the sound; `scale_S`: changes of the pose S times as
    large; `top1`: the own partner scores best among RIVALS clips, mean over both directions, chance 1 / RIVALS;
    `other`: score with the sound of another clip. T is at least 75 + 2 max(SHIFTS).
    """
    most = max(SHIFTS)
    first = (angles.shape[1] - WINDOW - 2 * most) // 2 + most

    def windows(tracks, start=first):
        return tracks[:, start : start + WINDOW]

    sounds = score.embed_sound(windows(features))
    found = {}
    for shift in SHIFTS:
        moved = [score.embed_pose(windows(angles, first + sign * shift)) for sign in (1, -1)]
        found[f"shift_{shift}"] = float(np.mean([(poses * sounds).sum(-1).mean() for poses in moved]))
    for scale in SCALES:
        whole = windows(angles)
        scaled = whole.mean(1, keepdims=True) + scale * (whole - whole.mean(1, keepdims=True))
        found[f"scale_{scale:g}"] = float((score.embed_pose(scaled) * sounds).sum(-1).mean())
    poses = score.embed_pose(windows(angles))
    found["other"] = float((poses * np.roll(sounds, 1, 0)).sum(-1).mean())
    hits = []
    for start in range(0, len(poses) - RIVALS + 1, RIVALS):
        cosine = poses[start : start + RIVALS] @ sounds[start : start + RIVALS].T
        hits += [cosine.argmax(axis) == np.arange(RIVALS) for axis in (0, 1)]
    if hits:
        found["top1"] = float(np.mean(hits))
    return found

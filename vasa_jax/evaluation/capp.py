"""CAPPScore: how well head motion and speech of a video belong together, by a trained `CAPP`."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Num

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME, TAIL, head_angles
from vasa_jax.filling import in_batches
from vasa_jax.models.audio import pair_mean
from vasa_jax.models.audio_encoders import AnyAudioEncoder, audio_encoder
from vasa_jax.models.capp import CAPP, WINDOW
from vasa_jax.weights.parts import load_part

BLOCK = 200  # frames of sound that the audio encoder hears at once
HOP = FPS  # frames between windows of a video
_BATCH = 32  # windows that are embedded at once
SHIFTS = (0, 1, 2, 3, 4)  # frames, of VASA-1's Table 3
SCALES = (0.2, 0.5, 1.0, 1.5, 3.0)  # of pose changes, of its Table 4
RESPONSE_FRAMES = WINDOW + 2 * max(SHIFTS)
RIVALS = 64  # pairs among which the own partner is to be found


class CAPPScore:
    """Scores head poses against sound: cosines in [-1, 1], means over windows of 3 s.

    Attributes:
      figures: what the network reached on held-out people when it was trained, by name; may be empty.
    """

    def __init__(self, params: dict[str, Any], audio_fields: dict[str, Any], capp_fields: dict[str, Any]):
        self.figures: dict[str, float] = {}
        self._params = jax.device_put(params)
        self._ear, self._network = audio_encoder(audio_fields), CAPP(**capp_fields)

    @classmethod
    def from_pretrained(cls, directory: str | Path = "") -> "CAPPScore":
        """Loads capp.safetensors of a directory; empty = the shipped one. InputError where it is missing or damaged."""
        params, metadata = load_part(directory, "capp")
        score = cls(params, metadata["fields"]["audio"], metadata["fields"]["capp"])
        score.figures = dict(metadata.get("figures", {}))
        return score

    def score(self, pose: Float[np.ndarray, "T 9"], samples: Float[np.ndarray, "n"]) -> float:
        """Returns the mean cosine over windows of 3 s, one a second; nan for less than 3 s of either."""
        pair = self.windows(pose, samples)
        return float("nan") if pair is None else float((pair[0] * pair[1]).sum(-1).mean())

    def windows(
        self, pose: Float[np.ndarray, "T 9"], samples: Float[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "N code"], Float[np.ndarray, "N code"]] | None:
        """Embeds poses and sound of windows of 3 s, one a second; None for less than 3 s of either."""
        pair = stretches(head_angles(pose), self.hear(samples), WINDOW)
        return None if pair is None else (self.embed_pose(pair[0]), self.embed_sound(pair[1]))

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
        embed = functools.partial(_embed, self._network, method, self._params["capp"])
        return in_batches(embed, _BATCH, np.asarray(windows, np.float32))


def hear(encoder: AnyAudioEncoder, params: Any, samples: Num[np.ndarray, "n"]) -> Float[np.ndarray, "T C"]:
    """Returns features of whole frames, float32 at 25 Hz; the sound is heard in blocks of BLOCK frames.

    samples: float in [-1, 1] or int16. A network that was trained on such features is to get such features.
    """
    frames = len(samples) // SAMPLES_PER_FRAME
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32767.0
    length = BLOCK * SAMPLES_PER_FRAME
    sound = np.zeros(-(-max(frames, 1) // BLOCK) * length + TAIL, np.float32)
    sound[: min(len(samples), len(sound))] = samples[: len(sound)]
    starts = range(0, len(sound) - TAIL, length)
    blocks = [_features(encoder, params, sound[None, start : start + length + TAIL]) for start in starts]
    return np.concatenate([np.asarray(block[0]) for block in blocks])[:frames]


@functools.partial(jax.jit, static_argnums=0)
def _features(encoder, params, samples):
    return pair_mean(encoder.apply({"params": params}, samples))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _embed(network, method, params, windows):
    return network.apply({"params": params}, windows, method=method)


def stretches(
    angles: Float[np.ndarray, "T 3"], features: Float[np.ndarray, "T2 C"], frames: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cuts both into stretches of `frames` frames, one a second: (N, frames, 3), (N, frames, C); None for none."""
    starts = range(0, min(len(angles), len(features)) - frames + 1, HOP)
    if not len(starts):
        return None
    return tuple(np.stack([track[start : start + frames] for start in starts]) for track in (angles, features))


def response_curves(
    score: CAPPScore, angles: Float[np.ndarray, "N T 3"], features: Float[np.ndarray, "N T C"]
) -> dict[str, float]:
    """Returns VASA-1's Tables 3 and 4 in shape: mean scores of N stretches of sound and head angles.

    `shift_K`: poses K frames late or early (mean of both) against the sound; `scale_S`: changes of the pose S times as
    large. T is at least RESPONSE_FRAMES.
    """
    first = (angles.shape[1] - WINDOW) // 2
    whole, sounds = _window(angles, first), score.embed_sound(_window(features, first))
    found = {}
    for shift in SHIFTS:
        moved = [score.embed_pose(_window(angles, first + sign * shift)) for sign in (1, -1)]
        found[f"shift_{shift}"] = float(np.mean([(poses * sounds).sum(-1).mean() for poses in moved]))
    rest = whole.mean(1, keepdims=True)
    for scale in SCALES:
        scaled = score.embed_pose(rest + scale * (whole - rest))
        found[f"scale_{scale:g}"] = float((scaled * sounds).sum(-1).mean())
    return found


def sanity_curves(
    score: CAPPScore, angles: Float[np.ndarray, "N T 3"], features: Float[np.ndarray, "N T C"]
) -> dict[str, float]:
    """Returns `response_curves` of N clips, and what they say of each other's sound.

    `other`: score with the sound of another clip; `top1`: the own partner scores best among RIVALS clips, mean over
    both directions, chance 1 / RIVALS; left out for fewer clips.
    """
    first = (angles.shape[1] - WINDOW) // 2
    poses, sounds = score.embed_pose(_window(angles, first)), score.embed_sound(_window(features, first))
    found = response_curves(score, angles, features)
    found["other"] = float((poses * np.roll(sounds, 1, 0)).sum(-1).mean())
    hits = []
    for start in range(0, len(poses) - RIVALS + 1, RIVALS):
        cosine = poses[start : start + RIVALS] @ sounds[start : start + RIVALS].T
        hits += [cosine.argmax(axis) == np.arange(RIVALS) for axis in (0, 1)]
    if hits:
        found["top1"] = float(np.mean(hits))
    return found


def _window(tracks: np.ndarray, start: int) -> np.ndarray:
    return tracks[:, start : start + WINDOW]

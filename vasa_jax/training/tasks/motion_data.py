"""Motion latents of rendered clips: what the frozen codec and audio encoder see in the built-in corpus."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from vasa_jax.config import CorpusConfig, MotionConfig
from vasa_jax.conventions import POSE_DIM
from vasa_jax.corpus.clip_set import FRAMES, ClipSet
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.muscles import MOTION_NAMES
from vasa_jax.errors import InputError
from vasa_jax.files import cached, fingerprint
from vasa_jax.models.audio import pair_mean
from vasa_jax.models.audio_encoders import AnyAudioEncoder, audio_encoder
from vasa_jax.models.face import dynamics_width, face_codec
from vasa_jax.rng import named_key
from vasa_jax.weights.parts import load_part

CLIPS_PER_FILE = 200
SMALLEST_STD = 1e-3  # keypoints that hardly move stay small after the z-score
HELD_OUT_CLIPS = 32
HELD_OUT_SEED, HELD_OUT_HEADS = 0, "motion held out"  # of the clips and their heads; the stream of the heads' keys


@dataclasses.dataclass(frozen=True)
class MotionSet:
    """N clips of T frames in V voices as stage 2 sees them; arrays live on the device.

    Raises InputError where the arrays do not have the same clips, frames and voices.
    """

    motion: jax.Array  # float32 (N, T, 9 + the codec's dynamics), not normalised
    audio: jax.Array  # float16 (N, V, T, audio width)
    gaze: jax.Array  # float32 (N, 2) degrees
    distance: jax.Array  # float32 (N,)
    emotion: jax.Array  # float32 (N, 8)
    blinks: jax.Array  # float32 (N, T): how far blinking closes the lids, 1 = shut
    samples: jax.Array | None = None  # int16 (N, V, 640 T + 80): the sound, where examples are heard live

    def __post_init__(self):
        clips, frames = self.motion.shape[:2]
        leading = {
            "audio": (clips, self.audio.shape[1], frames), "gaze": (clips,), "distance": (clips,), "emotion": (clips,),
            "blinks": (clips, frames), "samples": (clips, self.audio.shape[1]),
        }  # fmt: skip
        for name, expected in leading.items():
            value = getattr(self, name)
            if value is not None and value.shape[: len(expected)] != expected:
                raise InputError(
                    f"motion set: {name} is {value.shape} beside motion of {self.motion.shape}; they belong to "
                    "different clips: delete config.motion.latents and config.corpus.cache, or extract the set again"
                )


class Ear(NamedTuple):
    """The frozen audio encoder, and the share of examples that hear a stream's sound: `frames` and HISTORY before."""

    encoder: AnyAudioEncoder
    params: dict[str, Any]
    share: float
    frames: tuple[int, ...]


class MotionExtractor:
    """Renders clips on random heads and runs the frozen encoders over pictures and sound, on one device."""

    def __init__(
        self,
        face: tuple[dict, dict],
        audio: tuple[dict, dict],
        corpus: CorpusConfig,
        dtype: Any,
        directory: str = "",
        device: jax.Device | None = None,
    ):
        (self._face_params, face_meta), (self._audio_params, audio_meta) = face, audio
        if device is not None:
            self._face_params, self._audio_params = jax.device_put((self._face_params, self._audio_params), device)
        self._encoder, _ = face_codec(face_meta["fields"], dtype)
        self._audio_encoder = audio_encoder(audio_meta["fields"], dtype)
        self._supersample = corpus.supersample
        self._directory = Path(directory) if directory else None
        # Kept latents belong to one codec and to one way of rendering.
        self._made_by = {
            "codec": fingerprint(face[0]), "fields": fingerprint(face_meta["fields"]),
            "supersample": corpus.supersample, "precision": jnp.dtype(dtype).name,
        }  # fmt: skip

    def __call__(self, clips: ClipSet, seed: int, name: str, offset: int = 0) -> MotionSet:
        """Returns the motion set of `clips`, one head per clip, drawn from the stream `name` of `seed`.

        The first clip has the number `offset` in that stream. Motion is kept in the folder of latents, if there is one.
        """
        motion = [
            self._some_motion(clips.motion[start : start + CLIPS_PER_FILE], seed, name, offset + start)
            for start in range(0, len(clips.motion), CLIPS_PER_FILE)
        ]
        audio = [self._audio(self._audio_params, samples) for samples in clips.samples]
        labels = {n: jnp.asarray(getattr(clips, n)) for n in ("gaze", "distance", "emotion")}
        labels["blinks"] = jnp.asarray(blink_tracks(clips.motion), jnp.float32)
        return MotionSet(jnp.asarray(np.concatenate(motion), jnp.float32), jnp.stack(audio), **labels)

    def _some_motion(self, curves: np.ndarray, seed: int, name: str, first: int) -> np.ndarray:
        """Motion (n, T, 137) of the clips from number `first` on, float16; read when an earlier run left it there."""
        stream = named_key(seed, name)

        def make() -> dict[str, np.ndarray]:
            motion = [
                self._motion(self._face_params, jax.random.fold_in(stream, first + index), clip)
                for index, clip in enumerate(curves)
            ]
            return {"motion": np.asarray(jnp.stack(motion), np.float16)}

        if not self._directory:
            return make()["motion"]
        key = {
            **self._made_by, "stream": name, "seed": seed, "first": first, "clips": len(curves),
            "curves": fingerprint(curves),
        }  # fmt: skip
        path = self._directory / f"{name.replace(' ', '-')}-{seed}-{first}-{fingerprint(key):08x}.npz"
        motion = cached(path, key, make)["motion"]
        if len(motion) != len(curves):
            raise InputError(f"{path}: holds {len(motion)} clips instead of {len(curves)}; delete it")
        return motion

    @functools.partial(jax.jit, static_argnums=0)
    def _motion(self, params, key, curves):
        identity = {n: jnp.broadcast_to(v, (FRAMES,)) for n, v in sample_identity(key).items()}
        motion = {name: curves[:, i] for i, name in enumerate(MOTION_NAMES)}
        rgb = render(identity, motion, self._encoder.image_size, self._supersample)["rgb"]
        # Through uint8, as every other image that the encoder sees.
        pose, dynamics = self._encoder.apply(
            {"params": params["encoder"]}, to_uint8(rgb).astype(jnp.float32) / 255.0, method="encode_motion"
        )
        return jnp.concatenate([pose, dynamics], -1).astype(jnp.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def _audio(self, params, samples):
        features = self._audio_encoder.apply({"params": params}, samples.astype(jnp.float32) / 32767.0)
        return pair_mean(features).astype(jnp.float16)


def blink_tracks(curves: Float[np.ndarray, "clips frames fields"]) -> Float[np.ndarray, "clips frames"]:
    """Returns how far blinking closes the lids, [0, 1], in clips of MOTION_NAMES, beyond where they rest."""
    lids = np.minimum(*(curves[..., MOTION_NAMES.index(name)] for name in ("blink_l", "blink_r")))
    rest = np.median(lids, axis=1, keepdims=True)
    return np.clip((lids - rest) / (1.0 - rest), 0.0, 1.0)


class RenderedMotion:
    """Makes motion sets on the fly: clips are synthesised, rendered and encoded when a split is asked for."""

    def __init__(self, motion: MotionConfig, corpus: CorpusConfig, dtype: Any, seed: int):
        face, audio = (load_part(getattr(motion, name), name) for name in ("face", "audio"))
        self.audio_dim = audio[1]["fields"]["width"]
        self.motion_dim = POSE_DIM + dynamics_width(face[1]["fields"])
        self._extractor = MotionExtractor(face, audio, corpus, dtype, motion.latents)
        self.corpus, self._splits = corpus, clip_splits(corpus, seed)
        self._face = face
        self._live, self._live_frames, self._audio, self._dtype = motion.live, motion.live_frames, audio, dtype

    def __call__(self, split: str) -> MotionSet:
        """Returns the split `train` or `heldout`; the first with its sound if examples are heard live."""
        count, seed, name = self._splits[split]
        clips = ClipSet.make(self.corpus, count, split, seed)
        found = self._extractor(clips, seed, name)
        with_sound = self._live and split == "train"
        return dataclasses.replace(found, samples=jnp.asarray(clips.samples)) if with_sound else found

    @property
    def ear(self) -> Ear | None:
        """Returns how live examples are heard; None without any."""
        params, metadata = self._audio
        if not self._live:
            return None
        return Ear(audio_encoder(metadata["fields"], self._dtype), params, self._live, self._live_frames)

    def codec(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns (parameters, metadata) of the codec whose latents these are."""
        return self._face

    def statistics(self, motion_set: MotionSet) -> dict[str, np.ndarray]:
        """Returns mean and standard deviation (137,) of the rendered motion."""
        return statistics(motion_set.motion)


def clip_splits(corpus: CorpusConfig, seed: int) -> dict[str, tuple[int, int, str]]:
    """Returns, by split, the number of clips, their seed, and the name of the stream of their heads."""
    held_out = min(HELD_OUT_CLIPS, corpus.clips)  # a small run is not all validation
    return {"train": (corpus.clips, seed, "motion heads"), "heldout": (held_out, HELD_OUT_SEED, HELD_OUT_HEADS)}


def statistics(motion: ArrayLike) -> dict[str, np.ndarray]:
    """Returns mean and standard deviation (137,) over all frames: the z-score of stage 2."""
    flat = np.asarray(motion, np.float64).reshape(-1, motion.shape[-1])
    return {"mean": flat.mean(0).astype(np.float32), "std": np.maximum(flat.std(0), SMALLEST_STD).astype(np.float32)}

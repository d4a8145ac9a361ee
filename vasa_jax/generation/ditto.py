"""DittoSampler: speech to the motion of a keypoint codec, by Ditto's weights (arXiv 2411.19509).

Windows of 80 frames overlap, and are blended where they do. What a window predicts is LivePortrait's raw motion: angles
as logits of 66 bins, whose changes since the first frame are added to the portrait's own logits.

Ditto was trained on a HuBERT that hears chunks with a fixed past, which only its own ONNX file is: OpenCV runs it.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.conventions import EMOTIONS, SAMPLES_PER_FRAME, frame_count
from vasa_jax.diffusion import NoiseKeys, VASADiffusion
from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.ditto_motion import Blinks, EyeState, eye_state, from_portrait, portrait_vectors, source_vector
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.keypoint_driving import adjusted_motion
from vasa_jax.generation.reenactment import retargeting_of
from vasa_jax.generation.schedule import ConditionSchedule
from vasa_jax.models.ditto import DittoConditions, DittoTransformer
from vasa_jax.preparation.face_backends.litert import LitertAnalyzer
from vasa_jax.preparation.onnx_labels.onnx_file import OnnxModel
from vasa_jax.weights.open_files import DITTO_AUDIO

CHUNK = (3, 5, 2)  # frames of sound that are heard before, those that are kept, and after
CHUNK_SAMPLES, CHUNK_WIDTH = sum(CHUNK) * SAMPLES_PER_FRAME + 80, 1024
EMOTION_LOGIT = 8.0
# Its order of the emotions.
_EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt")


class Overlap(NamedTuple):
    """How windows follow one another.

    frames: that two neighbours share; blended: the last of them that are mixed; restarted: the slice of the motion that
    still comes from the window before where the rest restarts from the portrait's, None = all of it.
    """

    frames: int = 10
    blended: int = 10
    restarted: slice | None = None


OFFLINE = Overlap()
POSE_DIMS = 202  # of a motion vector: scale, angles, place; after them the expression


class DittoSampler:
    """Ditto's network and the audio encoder that it hears through.

    Attributes:
      transformer: the network.
      trained: the conditions that the weights know.
    """

    trained = ("emotion",)

    def __init__(self, motion: tuple[dict[str, Any], dict], folder: str | Path, dtype=jnp.float32):
        """motion: as `load_ditto` gives it; folder: where its audio encoder is, read when first used."""
        params, metadata = motion
        self.transformer = DittoTransformer(**metadata["fields"], dtype=dtype)
        self._params = jax.device_put(params)
        self._diffusion = VASADiffusion()
        self._folder, self._encoder = Path(folder), None
        self._limits, self._blink = metadata.get("limits"), metadata.get("blink")

    def motion(self, animator: Any, samples: np.ndarray, controls: Controls, avatar: Any, how: Driving) -> np.ndarray:
        """Returns the motion (ceil(N / 640), 72) of an avatar of `animator`, a keypoint codec, for speech (N,).

        InputError for controls that these weights have not, without an avatar, and without `how.face_models`.
        """
        self._check(controls, avatar, how)
        raw = animator.read(avatar.portrait)
        eyes = _eyes(avatar.portrait, how.face_models)
        audio = self.features(samples)
        schedule = ConditionSchedule(controls, self.trained)
        conditions = self.conditions(audio, schedule.frames("emotion", 0, len(audio)), eyes, raw.keypoints)
        scale = schedule.at("audio_guidance", 0)
        predicted = self.sequence(
            conditions, source_vector(raw), jax.random.key(controls.seed), controls.steps, controls.solver, float(scale)
        )
        amplitude = schedule.frames("pose_amplitude", 0, len(audio))
        blinks = self.blinks(controls.seed)
        closed = blinks.frames(len(audio)) if blinks else None
        moved = from_portrait(raw, predicted, amplitude, controls.animate, blinks=closed)
        networks, openness = retargeting_of(animator, how)
        canonical = np.asarray(avatar.latents.identity[0], np.float64)
        return adjusted_motion(canonical, avatar.motion, portrait_vectors(raw, moved), how, networks, openness)

    def blinks(self, seed: int) -> Blinks | None:
        """Returns blinks as Ditto's settings have them; None where they have none, and the network moves the eyes."""
        return None if self._blink is None else Blinks(self._blink, seed)

    def features(self, samples: Float[np.ndarray, "N"]) -> Float[np.ndarray, "T 1024"]:
        """Returns what Ditto's HuBERT makes of speech, T = ceil(N / 640) frames, 5 of them at once."""
        _, kept, after = CHUNK
        frames = frame_count(len(samples))
        chunks = -(-frames // kept)
        first = CHUNK_SAMPLES - (kept + after) * SAMPLES_PER_FRAME  # 80 samples more than the frames before
        sound = np.zeros(first + chunks * kept * SAMPLES_PER_FRAME + CHUNK_SAMPLES, np.float32)
        sound[first : first + len(samples)] = samples
        made = []
        for i in range(chunks):
            start = i * kept * SAMPLES_PER_FRAME
            heard = self._audio_encoder(sound[None, start : start + CHUNK_SAMPLES])[0].reshape(-1, CHUNK_WIDTH)
            made.append(heard[-2 * (kept + after) : -2 * after].reshape(kept, 2, -1).mean(1))
        return np.concatenate(made)[:frames]

    def conditions(
        self, audio: np.ndarray, emotion: np.ndarray | None, eyes: EyeState, keypoints: np.ndarray
    ) -> Float[np.ndarray, "T conditions"]:
        """Joins sound (T, 1024), our emotion (T, 8), None = neutral, the portrait's eyes and canonical keypoints."""
        frames = len(audio)
        if emotion is None:
            emotion = np.tile(np.eye(len(EMOTIONS))[EMOTIONS.index("neutral")], (frames, 1))
        still = np.concatenate([eyes.open, eyes.ball, np.asarray(keypoints).reshape(-1)])
        return np.concatenate([audio, emotion_weights(emotion), np.tile(still, (frames, 1))], 1).astype(np.float32)

    def sequence(
        self,
        conditions: Float[np.ndarray, "T conditions"],
        source: Float[np.ndarray, "motion_dim"],
        key: jax.Array,
        steps: int,
        solver: str,
        guidance: float,
        overlap: Overlap = OFFLINE,
        diffusion: VASADiffusion | None = None,
    ) -> Float[np.ndarray, "T motion_dim"]:
        """Returns what the network predicts for T frames, window after window, from the portrait's own motion `source`.

        The noise of the steps is that of `key` in all windows, the first noise that of `key` folded with the window's
        number.
        """
        width, frames = self.transformer.window, len(conditions)
        start, motion = source, None
        for number, first in enumerate(range(0, frames, width - overlap.frames)):
            part = conditions[first : first + width]
            part = np.concatenate([part, np.repeat(part[-1:], width - len(part), 0)])
            keys = NoiseKeys(jax.random.fold_in(key, number), key)
            scales = {"audio": np.float32(guidance)} if guidance else {}
            made = np.asarray(_window(
                self.transformer, diffusion or self._diffusion, steps, solver, self._params, keys, part[None],
                start[None], scales,
            ))  # fmt: skip
            motion = joined(motion, made, overlap)
            start = motion[len(motion) - overlap.frames - 1]
            if overlap.restarted is not None:
                start, last = source.copy(), start
                start[overlap.restarted] = last[overlap.restarted]
        motion = motion[:frames]
        return self.limited(steadied(motion, 0, len(motion)))

    def limited(self, motion: Float[np.ndarray, "T motion_dim"]) -> Float[np.ndarray, "T motion_dim"]:
        """Returns the motion within the limits of Ditto's settings, where they have some."""
        return motion if self._limits is None else np.clip(motion, *self._limits)

    def _audio_encoder(self, sound: np.ndarray) -> list[np.ndarray]:
        if self._encoder is None:
            path = self._folder / DITTO_AUDIO
            if not path.is_file():
                raise InputError(
                    f"{path}: does not exist; Ditto was trained on what this file hears, other encoders do not replace "
                    "it: put it there (docs/weights.md)"
                )
            self._encoder = OnnxModel(path, "Ditto's HuBERT,", [(1, CHUNK_SAMPLES)])
        return self._encoder(sound)

    def _check(self, controls: Controls, avatar: Any, how: Driving) -> None:
        if controls.hop:
            raise InputError("config.hop: Ditto's windows are made of whole sound here; leave it out")
        if controls.head_pose is not None:
            raise InputError("config.head_pose: Ditto's heads turn as it says; set config.pose_amplitude=0, or none")
        if avatar is None:
            raise InputError("motion: Ditto has to see the portrait; give an avatar")
        if not how.face_models:
            raise InputError(
                "config.face_models: Ditto has to see how open the portrait's eyes are; give the folder of graph files "
                "(vasa_jax/preparation/face_backends/litert.py)"
            )


def joined(
    motion: Float[np.ndarray, "T D"] | None, window: Float[np.ndarray, "W D"], overlap: Overlap
) -> Float[np.ndarray, "longer D"]:
    """Returns the motion so far with the next window, blended where they overlap, its pose smoothed over 3 frames."""
    if motion is None:
        return steadied(window, 0, len(window))
    shared, blended = overlap.frames, overlap.blended
    share = (np.arange(blended, dtype=np.float32) / blended)[:, None]
    result = np.concatenate([motion, window[shared:]])
    mixed = slice(len(motion) - blended, len(motion))
    result[mixed] = motion[mixed] * (1.0 - share) + window[shared - blended : shared] * share
    return steadied(result, len(motion) - blended, len(motion) + 1)


def steadied(motion: Float[np.ndarray, "T D"], first: int, last: int) -> Float[np.ndarray, "T D"]:
    """Returns the motion with the pose of frames [first, last) as the mean of each and its neighbours."""
    result = motion.copy()
    for i in range(first, min(last, len(motion))):
        result[i, :POSE_DIMS] = motion[max(i - 1, 0) : i + 2, :POSE_DIMS].mean(0)
    return result


def emotion_weights(emotion: Float[np.ndarray, "T 8"]) -> Float[np.ndarray, "T 8"]:
    """Turns shares of our emotions into Ditto's: of each alone a softmax of 8 and zeros."""
    one = np.exp(EMOTION_LOGIT * np.eye(len(_EMOTIONS)))
    rows = one / one.sum(1, keepdims=True)
    return emotion @ rows[[_EMOTIONS.index(name) for name in EMOTIONS]]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _window(
    model: DittoTransformer,
    diffusion: VASADiffusion,
    steps: int,
    solver: str,
    params: dict,
    keys: NoiseKeys,
    frames: Float[Array, "1 window conditions"],
    start: Float[Array, "1 motion_dim"],
    guidance: dict[str, Array],
) -> Float[Array, "window motion_dim"]:
    """Samples one window, in one scan over steps."""
    copies = 1 + len(guidance)  # the second does not know the conditions of frames
    conditions = DittoConditions(
        jnp.repeat(frames, copies, 0), jnp.repeat(start, copies, 0), jnp.arange(copies) == 0
    )
    context = model.apply({"params": params}, conditions, method="context")

    def apply(params, noisy, t, context):
        return model.apply({"params": params}, noisy, t, context, method="denoise")

    def denoise(x_t, t):
        return diffusion.guided(apply, params, x_t, t, context, guidance)

    noise = diffusion.initial_noise(keys.initial, (1, model.window, model.motion_dim))
    return diffusion.solve(solver, denoise, noise, steps, keys.steps)[0]


def _eyes(portrait: np.ndarray, face_models: str) -> EyeState:
    found = LitertAnalyzer(face_models).landmarks(portrait)
    if found is None:
        raise InputError("config.face_models: no face was found in the portrait's square; set config.crop")
    return eye_state(found.points / len(portrait))

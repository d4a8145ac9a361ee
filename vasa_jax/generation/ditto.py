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
from vasa_jax.filling import filled_up
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.ditto_motion import Blinks, EyeState, eye_state, from_portrait, portrait_vectors, source_vector
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.keypoint_driving import adjusted_motion
from vasa_jax.generation.reenactment import retargeting_of
from vasa_jax.generation.schedule import ConditionSchedule
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.models.ditto import DittoConditions, DittoTransformer
from vasa_jax.preparation.face_backends.litert import LitertAnalyzer
from vasa_jax.preparation.onnx_labels.onnx_file import OnnxModel
from vasa_jax.weights.open_files import DITTO_AUDIO

CHUNK = (3, 5, 2)  # frames of sound that are heard before, those that are kept, and after
CHUNK_SAMPLES, CHUNK_WIDTH = sum(CHUNK) * SAMPLES_PER_FRAME + 80, 1024
CHUNK_STEP = CHUNK[1] * SAMPLES_PER_FRAME
BEFORE = CHUNK_SAMPLES - (CHUNK[1] + CHUNK[2]) * SAMPLES_PER_FRAME  # 80 samples more than the frames before
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
LIVE = Overlap(70, 10, slice(0, 202))  # as its program streams: 10 frames of 80 are new, and the head's motion goes on
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

    def motion(
        self, animator: Any, samples: np.ndarray, controls: Controls, avatar: Any, how: Driving,
        watch: Watch = unwatched,
    ) -> np.ndarray:  # fmt: skip
        """Returns the motion (ceil(N / 640), 72) of an avatar of `animator`, a keypoint codec, for speech (N,).

        watch: sees the chunks of sound pass, then the windows.

        InputError for controls that these weights have not, without an avatar, and without `how.face_models`.
        """
        face = DrivenFace(self, animator, avatar, controls, how)
        conditions = face.conditions(self.features(samples, watch), 0)
        predicted = self.sequence(
            conditions, face.source, jax.random.key(controls.seed), controls.steps, controls.solver, face.guidance,
            watch=watch,
        )  # fmt: skip
        return face.motion(predicted)

    def blinks(self, seed: int) -> Blinks | None:
        """Returns blinks as Ditto's settings have them; None where they have none, and the network moves the eyes."""
        return None if self._blink is None else Blinks(self._blink, seed)

    def features(self, samples: Float[np.ndarray, "N"], watch: Watch = unwatched) -> Float[np.ndarray, "T 1024"]:
        """Returns what Ditto's HuBERT makes of speech, T = ceil(N / 640) frames, 5 of them at once."""
        frames = frame_count(len(samples))
        chunks = -(-frames // CHUNK[1])
        sound = np.zeros(BEFORE + chunks * CHUNK_STEP + CHUNK_SAMPLES, np.float32)
        sound[BEFORE : BEFORE + len(samples)] = samples
        starts = range(0, chunks * CHUNK_STEP, CHUNK_STEP)
        made = [self.chunk(sound[start : start + CHUNK_SAMPLES]) for start in watch(iter(starts), chunks)]
        return np.concatenate(made)[:frames]

    def chunk(self, sound: Float[np.ndarray, "samples"]) -> Float[np.ndarray, "frames 1024"]:
        """Returns features of the frames of one chunk that are kept; BEFORE samples of it are before them."""
        _, kept, after = CHUNK
        heard = self._audio_encoder(sound[None])[0].reshape(-1, CHUNK_WIDTH)
        return heard[-2 * (kept + after) : -2 * after].reshape(kept, 2, -1).mean(1)

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
        watch: Watch = unwatched,
    ) -> Float[np.ndarray, "T motion_dim"]:
        """Returns what the network predicts for T frames, window after window, from the portrait's own motion `source`.

        The noise of the steps is that of `key` in all windows, the first noise that of `key` folded with the window's
        number.
        """
        width, frames = self.transformer.window, len(conditions)
        start, motion = source, None
        starts = range(0, frames, width - overlap.frames)
        for number, first in enumerate(watch(iter(starts), len(starts))):
            part = filled_up(conditions[first : first + width], width)
            made = self.window(part, start, key, number, steps, solver, guidance, diffusion)
            motion = joined(motion, made, overlap)
            start = following_start(motion, source, overlap)
        motion = motion[:frames]
        return self.limited(steadied(motion, 0, len(motion)))

    def window(
        self,
        conditions: Float[np.ndarray, "W conditions"],
        start: Float[np.ndarray, "motion_dim"],
        key: jax.Array,
        number: int,
        steps: int,
        solver: str,
        guidance: float,
        diffusion: VASADiffusion | None = None,
    ) -> Float[np.ndarray, "W motion_dim"]:
        """Returns what the network predicts for the window of a number, which follows the frame `start`."""
        keys = NoiseKeys(jax.random.fold_in(key, number), key)
        scales = {"audio": np.float32(guidance)} if guidance else {}
        return np.asarray(_window(
            self.transformer, diffusion or self._diffusion, steps, solver, self._params, keys, conditions[None],
            start[None], scales,
        ))  # fmt: skip

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

    def check(self, controls: Controls, avatar: Any, how: Driving) -> None:
        """Raises InputError for what these weights cannot do, and for what they have to be given."""
        if controls.hop:
            raise InputError("config.hop: Ditto's windows are made of whole sound here; leave it out")
        if controls.head_pose is not None:
            raise InputError("config.head_pose: Ditto's heads turn as it says; set config.pose_amplitude=0, or none")
        if avatar is None:
            raise InputError("motion: Ditto has to see the portrait; give an avatar")
        self.check_models(how)

    def check_models(self, how: Driving) -> None:
        """Raises InputError without what reads the portrait's eyes."""
        if not how.face_models:
            raise InputError(
                "config.face_models: Ditto has to see how open the portrait's eyes are; give the folder of graph files "
                "(vasa_jax/preparation/face_backends/litert.py)"
            )


class DrivenFace:
    """One portrait's side of a motion: what the network is told of it, and how it takes what the network predicts.

    Attributes:
      source: its motion vector; guidance: scale of the branch with the sound.
    """

    def __init__(self, sampler: DittoSampler, animator: Any, avatar: Any, controls: Controls, how: Driving):
        """InputError as of `DittoSampler.check`, and where no face is found in the portrait."""
        sampler.check(controls, avatar, how)
        self._sampler, self._avatar, self._controls, self._how = sampler, avatar, controls, how
        self._raw, self._eyes = animator.read(avatar.portrait), _eyes(avatar.portrait, how.face_models)
        self._schedule = ConditionSchedule(controls, sampler.trained)
        self._blinks, self._networks = sampler.blinks(controls.seed), retargeting_of(animator, how)
        self._first: np.ndarray | None = None
        self._done = 0
        self.source = source_vector(self._raw)
        self.guidance = float(self._schedule.at("audio_guidance", 0))

    def conditions(self, audio: Float[np.ndarray, "T 1024"], first: int) -> Float[np.ndarray, "T conditions"]:
        """Returns what the network is told of frames from `first` on; those before the sound count as the first."""
        emotion = self._schedule.frames("emotion", max(first, 0), len(audio))
        return self._sampler.conditions(audio, emotion, self._eyes, self._raw.keypoints)

    def begin(self, predicted: Float[np.ndarray, "motion_dim"]) -> None:
        """Sets the frame from which changes count; else it is the first that `motion` gets."""
        self._first = predicted

    def motion(self, predicted: Float[np.ndarray, "T motion_dim"]) -> Float[np.ndarray, "T 72"]:
        """Returns the portrait's motion of the next frames, of what the network predicts for them."""
        if self._first is None and len(predicted):
            self._first = predicted[0]
        count = len(predicted)
        amplitude = self._schedule.frames("pose_amplitude", self._done, count)
        closed = self._blinks.frames(count) if self._blinks else None
        moved = from_portrait(self._raw, predicted, amplitude, self._controls.animate, self._first, closed)
        self._done += count
        canonical = np.asarray(self._avatar.latents.identity[0], np.float64)
        return adjusted_motion(
            canonical, self._avatar.motion, portrait_vectors(self._raw, moved), self._how, *self._networks
        )


def following_start(
    motion: Float[np.ndarray, "T D"], source: Float[np.ndarray, "D"], overlap: Overlap
) -> Float[np.ndarray, "D"]:
    """Returns the frame that the next window follows, of the motion so far."""
    last = motion[len(motion) - overlap.frames - 1]
    if overlap.restarted is None:
        return last
    start = source.copy()
    start[overlap.restarted] = last[overlap.restarted]
    return start


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

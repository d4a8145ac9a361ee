"""MotionSampler: the trained transformer at work, from features and conditions to motion (VASA-1 section 3.3)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from vasa_jax.diffusion import VASADiffusion
from vasa_jax.generation.animator import Avatar
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.lip_guide import LipGuide, Lips
from vasa_jax.generation.motion_edit import anchor_turn, finish_motion
from vasa_jax.generation.schedule import ConditionSchedule
from vasa_jax.generation.speech_features import SpeechFeatures
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.generation.windows import Past, sample_sequence, sample_windows
from vasa_jax.models.motion import MotionConditions, VASADiffusionTransformer, cast_products


class MotionSampler:
    """The transformer, its solver, the statistics of its motion, and the audio encoder that it hears through.

    Attributes:
      transformer: the network; another one compiles anew.
      speech: sound to features.
      trained: the conditions that the weights know, and "lips" with a reader of them.
      lips: what makes the lips follow; None without its weights.
    """

    def __init__(
        self,
        motion: tuple[dict[str, Any], dict],
        audio: tuple[dict[str, Any], dict],
        dtype=jnp.float32,
        lips: Lips | None = None,
    ):
        """motion, audio, lips: (parameters, metadata), as `load_part` gives them; `dtype` of the computation."""
        params, metadata = motion
        self.speech = SpeechFeatures(audio[0], audio[1]["fields"], dtype)
        self.transformer = VASADiffusionTransformer(**metadata["fields"], dtype=dtype)
        self.trained = (*metadata.get("trained_controls", ()), *(() if lips is None else ("lips",)))
        self._params = cast_products(params["transformer"], dtype)
        self._mean, self._std = params["statistics"]["mean"], params["statistics"]["std"]
        self._diffusion = VASADiffusion()
        self.lips = None if lips is None else LipGuide(lips, self._mean, self._std)

    def schedule(self, controls: Controls) -> ConditionSchedule:
        """Returns what these weights are asked for by `controls`; InputError for bad ones."""
        return ConditionSchedule(controls, self.trained)

    def whole_motion(
        self, samples: Float[np.ndarray, "N"], controls: Controls, avatar: Avatar | None = None,
        watch: Watch = unwatched,
    ) -> Float[np.ndarray, "T motion"]:  # fmt: skip
        """Returns the motion of a whole sound, T = ceil(N / 640) frames, in whole windows.

        watch: sees the pieces of sound pass, then the windows.
        """
        schedule = self.schedule(controls)

        def sample(past, count, keep, keys, conditions, centres):
            scales = [schedule.guidance(centre) for centre in centres]
            guidance = {name: np.array([scale[name] for scale in scales], np.float32) for name in schedule.guided}
            return self.sample_windows(past, count, keep, keys, conditions, guidance, controls)

        motion = sample_sequence(
            sample,
            jax.random.key(controls.seed),
            self.speech(samples, watch)[None],
            functools.partial(schedule.conditions, turn=self.turn(schedule, avatar)),
            window=self.transformer.window,
            previous=self.transformer.previous,
            motion_dim=self.transformer.motion_dim,
            watch=watch,
        )[0]
        if self.guides_lips(controls):
            motion = self.lips.laid_on(motion, self.lips.heard(samples), schedule.frames("lips", 0, len(motion)))
        return self.finish(motion, 0, schedule, avatar)

    def guides_lips(self, controls: Controls) -> bool:
        """Returns whether the lips follow what the reader hears, at any time."""
        return self.lips is not None and bool(np.any(controls.lips))

    def sample_windows(
        self,
        past: Past,
        count: int,
        keep: Shaped[np.ndarray, "windows"],
        keys: jax.Array,
        conditions: MotionConditions,
        guidance: dict[str, np.ndarray],
        controls: Controls,
    ) -> Float[Array, "windows B W motion"]:
        """Returns z-scored motion of windows in a row, by the solver and steps of `controls`.

        The other arguments are those of `windows.sample_windows`.
        """
        return sample_windows(
            self.transformer, self._diffusion, controls.steps, controls.solver, self._params, past,
            np.int32(count), np.asarray(keep, np.int32), keys, conditions, guidance,
        )  # fmt: skip

    def turn(self, schedule: ConditionSchedule, avatar: Avatar | None) -> Float[np.ndarray, "3 3"] | None:
        """Returns the rotation that `finish` gives the avatar's heads, see `anchor_turn`; or None."""
        return anchor_turn(schedule.controls, self._mean, None if avatar is None else avatar.motion)

    def finish(
        self,
        sample: Float[np.ndarray, "T motion"],
        first: int,
        schedule: ConditionSchedule,
        avatar: Avatar | None = None,
    ) -> Float[np.ndarray, "T motion"]:
        """Returns the avatar's motion of z-scored motion, frames `first`... of the video."""
        portrait = None if avatar is None else avatar.motion
        return finish_motion(sample, first, schedule, self._mean, self._std, portrait)

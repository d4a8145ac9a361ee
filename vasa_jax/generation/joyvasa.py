"""JoyVASASampler: speech to the motion of a keypoint codec, by JoyVASA's weights (arXiv 2411.09209).

As its program works: windows of 100 frames that do not overlap, each with the last 10 of the one before; every window
starts from the same noise; sound enters as it is, 2 frames of silence before it. The frames of that silence, which its
program leaves in, are taken away: they would delay the mouth.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME, TAIL, frame_count
from vasa_jax.diffusion import NoiseKeys, VASADiffusion
from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import DrivingMotion
from vasa_jax.generation.motion_edit import scaled_rotation
from vasa_jax.generation.reenactment import drive
from vasa_jax.generation.schedule import ConditionSchedule
from vasa_jax.generation.speech_features import SpeechFeatures
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.generation.windows import Past, Window, sample_sequence, sample_windows, window_conditions
from vasa_jax.models.joyvasa import JoyVASATransformer
from vasa_jax.models.keypoints import rotation_from_angles
from vasa_jax.weights.motion_generators import SMALLEST_BETA

LEAD = 2  # frames of silence before the sound
SMALLEST_SCALE = 1e-3
_PLACE = slice(63, 70)  # of its motion: scale, t, pitch, yaw, roll; before them the expression


class JoyVASASampler:
    """JoyVASA's network, its statistics, and the audio encoder that it hears through.

    Attributes:
      transformer: the network.
      trained: the conditions that the weights know: none but the sound.
      steps: of the diffusion that it was trained on.
    """

    trained = ()

    def __init__(self, motion: tuple[dict[str, Any], dict], audio: tuple[dict[str, Any], dict], dtype=jnp.float32):
        """motion: as `load_joyvasa` gives it; audio: its encoder; `dtype` of the computation."""
        params, metadata = motion
        self.transformer = JoyVASATransformer(**metadata["fields"], dtype=dtype)
        self.steps = metadata["steps"]
        self._speech = SpeechFeatures(audio[0], audio[1]["fields"], dtype)
        self._params, self._statistics = jax.device_put(params["transformer"]), params["statistics"]
        self._diffusion = VASADiffusion(self.steps, smallest_beta=SMALLEST_BETA)

    def driving_motion(
        self, samples: Float[np.ndarray, "N"], controls: Controls, watch: Watch = unwatched
    ) -> DrivingMotion:
        """Returns the motion of 16 kHz mono speech, ceil(N / 640) frames; the lips are those of any face.

        watch: sees the windows pass, when they are heard and when they are made.
        InputError for controls that these weights have not.
        """
        controls = self.checked(controls)
        schedule = ConditionSchedule(controls, self.trained)
        frames = frame_count(len(samples)) + LEAD
        audio = self.features(np.concatenate([np.zeros(LEAD * SAMPLES_PER_FRAME, np.float32), samples]), watch)
        first = jax.random.key(controls.seed)

        def sample(past, count, keep, keys, conditions, centres):
            scales = [schedule.guidance(centre) for centre in centres]
            guidance = {name: np.array([scale[name] for scale in scales], np.float32) for name in schedule.guided}
            keys = NoiseKeys(jnp.broadcast_to(first, keys.shape), keys)
            return sample_windows(
                self.transformer, self._diffusion, controls.steps, controls.solver, self._params, past,
                np.int32(count), np.asarray(keep, np.int32), keys, conditions, guidance,
            )  # fmt: skip

        net = self.transformer
        motion = sample_sequence(
            sample, first, audio[None], schedule.conditions, window=net.window, previous=net.previous,
            motion_dim=net.motion_dim, watch=watch,
        )[0, :frames]  # fmt: skip
        amplitude = schedule.frames("pose_amplitude", 0, frames - LEAD)
        return Units(self._statistics, controls.head_smoothing)(motion, amplitude)

    def features(
        self, samples: Float[np.ndarray, "N"], watch: Watch = unwatched
    ) -> Float[np.ndarray, "T audio_dim"]:
        """Returns 25 Hz features of sound in whole windows, silence after it; each window is encoded alone."""
        length = self.transformer.window * SAMPLES_PER_FRAME
        windows = -(-len(samples) // length)
        sound = np.pad(np.asarray(samples, np.float32), (0, windows * length - len(samples))).reshape(-1, length)
        return np.concatenate([self._speech.recent(reflected(part)[None])[0] for part in watch(iter(sound), windows)])

    def motion(
        self, animator: Any, samples: np.ndarray, controls: Controls, avatar: Any, how: Driving,
        watch: Watch = unwatched,
    ) -> np.ndarray:  # fmt: skip
        """Returns the motion of an avatar of `animator`, a keypoint codec; without one that of JoyVASA's own face.

        InputError as of `driving_motion`.
        """
        driving = self.driving_motion(samples, controls, watch)
        if avatar is None:
            return driving.vectors
        return drive(animator, avatar, driving, driving_of(how, controls))

    def units(self, smoothing: float) -> "Units":
        """Returns what turns the network's numbers into motion, from a first frame on."""
        return Units(self._statistics, smoothing)

    def window(
        self, past: Past, number: int, sound: Float[np.ndarray, "samples"],
        before: Float[np.ndarray, "T audio_dim"] | None, controls: Controls, schedule: ConditionSchedule,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Returns (motion (W, motion_dim), features (W, audio_dim)) of the window of a number, in the network's units.

        sound: of the window; past, before: motion and features of the windows before, None for the first.
        """
        net = self.transformer
        heard = self.features(sound)
        before = heard[:0] if before is None else before
        window = Window(number * net.window, net.window, net.window)
        asked = schedule.conditions(window, net.window)
        conditions = window_conditions(heard[None], before[None], net.window, net.previous, asked)
        first = jax.random.key(controls.seed)
        keys = NoiseKeys(first[None], jax.random.fold_in(first, number)[None])
        guidance = {name: np.array([scale], np.float32) for name, scale in schedule.guidance(window.centre).items()}
        motion = sample_windows(
            net, self._diffusion, controls.steps, controls.solver, self._params, past, np.int32(1),
            np.full((1,), net.window, np.int32), keys, jax.tree.map(lambda leaf: leaf[None], conditions), guidance,
        )  # fmt: skip
        return np.asarray(motion)[0, 0], heard

    def checked(self, controls: Controls) -> Controls:
        """Returns controls that these weights have; InputError for others."""
        if controls.hop:
            raise InputError("config.hop: JoyVASA hears windows of 4 s and makes no shorter ones; leave it out")
        if controls.head_pose is not None:
            raise InputError("config.head_pose: JoyVASA's heads turn as it says; set config.pose_amplitude=0, or none")
        if controls.steps > self.steps:  # the default of other weights may be more than all of them
            return dataclasses.replace(controls, steps=self.steps)
        return controls


def driving_of(how: Driving, controls: Controls) -> Driving:
    """Returns how a portrait takes JoyVASA's motion."""
    region = {"pose": "pose", "dynamics": "expression"}.get(controls.animate, how.region)
    return dataclasses.replace(how, region=region, expression_friendly=False)


class Units:
    """Turns the network's numbers into motion, part after part of one sequence."""

    def __init__(self, statistics: dict[str, np.ndarray], smoothing: float):
        self._statistics, self._smoothing = statistics, smoothing
        self._place: np.ndarray | None = None  # of the frame before: scale, t, angles, held back
        self._first: np.ndarray | None = None  # pose
        self._lead = LEAD

    def __call__(self, motion: Float[np.ndarray, "T motion_dim"], amplitude: Float[np.ndarray, "T2"]) -> DrivingMotion:
        """Returns the motion of the next frames, the LEAD first of all left out; the head turns less about its first.

        amplitude: of the frames that are returned.
        """
        motion = self._statistics["offset"] + self._statistics["scale"] * motion[:, :70]
        motion[:, _PLACE] = held_back(motion[:, _PLACE], self._smoothing, self._place)
        self._place = motion[-1, _PLACE]
        motion, self._lead = motion[self._lead :], max(self._lead - len(motion), 0)
        expression, scale, shift, angles = np.split(motion, (63, 64, 67), axis=1)
        rotation = np.asarray(rotation_from_angles(*np.radians(angles).T))
        size = np.log(np.maximum(scale, SMALLEST_SCALE))
        pose = np.concatenate([rotation[..., 0], rotation[..., 1], size, shift[:, :2]], axis=1)
        if self._first is None and len(pose):
            self._first = pose[0].copy()
        if np.any(amplitude != 1.0):
            first = self._first
            pose[:, 6:] = first[6:] + amplitude[:, None] * (pose[:, 6:] - first[6:])
            pose[:, :6] = scaled_rotation(pose[:, :6], first[:6], amplitude)
        return DrivingMotion(
            pose.astype(np.float32), expression.astype(np.float32), float(FPS), "keypoint", absolute_lips=True
        )


def reflected(window: Float[np.ndarray, "N"]) -> Float[np.ndarray, "longer"]:
    """Continues a window's sound at both ends by TAIL / 2 samples as JoyVASA does: reflected by half of it, twice."""
    half = TAIL // 4
    return np.pad(np.pad(window, half, "reflect"), half, "reflect")


def held_back(
    values: Float[np.ndarray, "T N"], share: float, before: Float[np.ndarray, "N"] | None = None
) -> Float[np.ndarray, "T N"]:
    """Returns a moving average of columns in which the frame before has this share.

    before: the average so far; without it the first frame begins one.
    """
    result = values.copy()
    for i in range(len(values) if share else 0):
        before = result[i] = values[i] if before is None else share * before + (1.0 - share) * values[i]
    return result

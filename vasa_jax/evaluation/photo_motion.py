"""The fixed motion of `evaluate_photos`: one performance that every portrait, codec and photo head is asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.conventions import CORPUS, FPS, POSE_DIM
from vasa_jax.corpus.performance.muscles import MOTION_NAMES, neutral_motion
from vasa_jax.corpus.photos.build import PhotoHead
from vasa_jax.corpus.photos.draw import PhotoRenderer
from vasa_jax.corpus.photos.groups import usual_poses
from vasa_jax.data.face_crop import corpus_box, crop_square
from vasa_jax.errors import InputError
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.files import read_array
from vasa_jax.generation.driving_motion import SUFFIXES, DrivingMotion, checked_motion, read_motion
from vasa_jax.generation.framing import VideoFraming
from vasa_jax.generation.motion_edit import about_portrait

TURN, NOD, TILT, LOOK = 0.17, 0.06, 0.05, 0.28  # radians, largest
JAW, SYLLABLES = 0.95, 5  # how far and how often the mouth opens
BLINKS, BLINK_FRAMES = (0.28, 0.74), 7  # where in the performance; from open to open
LEAST_FRAMES = 3  # of a file's motion


@dataclasses.dataclass(frozen=True)
class FixedMotion:
    """What is asked for, T frames.

    Of a file only its `motion` is known; of the built-in performance `curves`, its rendered `driver` and `pose`.
    """

    curves: dict[str, np.ndarray] | None  # 27 numbers (T,) by name
    driver: UInt8[np.ndarray, "T n n 3"] | None  # a rendered head that performs it
    pose: Float[np.ndarray, "T 9"]  # as asked, about the mean place
    motion: DrivingMotion | None
    mouth: np.ndarray | None  # (T,) true opening of the driver
    lids: np.ndarray | None

    def unfit(self, codec) -> str:
        """Returns why a codec cannot be asked for it, "" where it can: a file's numbers are one codec's."""
        return "" if self.motion is None else self.motion.unfit(codec)

    def of(self, codec, avatar) -> Float[np.ndarray, "T numbers"]:
        """Returns the motion for a codec's avatar: as asked, about the portrait's own turn and place."""
        if self.motion is None:
            seen = _as_framed(self.driver, codec.framing)
            vectors = np.concatenate([self.pose, codec.encode_motion(seen)[:, POSE_DIM:]], 1)
        else:
            vectors = self.motion.vectors
        return about_portrait(vectors, avatar.motion).astype(np.float32)


def performance(frames: int) -> dict[str, np.ndarray]:
    """Returns the built-in performance, float32 (T,) by name: turns, an opening mouth, two blinks, wandering eyes."""
    t = np.arange(frames) / frames
    round_ = 2.0 * np.pi * t
    motion = {name: np.full(frames, float(value)) for name, value in neutral_motion().items()}
    motion["yaw"], motion["pitch"] = TURN * np.sin(round_), NOD * np.sin(2 * round_ + 1.0)
    motion["roll"], motion["gaze_yaw"] = TILT * np.sin(round_ + 2.0), LOOK * np.sin(2 * round_ + 0.5)
    wave = 0.5 - 0.5 * np.cos(SYLLABLES * round_)
    motion["jaw"] = JAW * wave * (0.55 + 0.45 * np.sin(round_ + 0.8))
    motion["width"], motion["round"] = 0.4 * np.sin(2 * round_), 0.4 * np.maximum(np.sin(3 * round_ + 2.0), 0.0)
    away = np.min([np.abs(np.arange(frames) - place * (frames - 1)) for place in BLINKS], 0)
    blink = np.clip(1.4 * np.cos(np.pi * np.minimum(away / BLINK_FRAMES, 0.5)), 0.0, 1.0)
    motion["blink_l"] = motion["blink_r"] = np.round(blink, 6)
    return {name: motion[name].astype(np.float32) for name in MOTION_NAMES}


def built_in(frames: int, size: int, seed: int, supersample: int) -> FixedMotion:
    """Returns the performance by a held-out rendered head."""
    heads, curves = HeldOutHeads(size, seed, supersample), performance(frames)
    identity = heads.identity(0)
    truth = heads.label(identity, curves)
    pose = np.asarray(usual_poses({name: jnp.asarray(value) for name, value in curves.items()}))
    driver = heads.render(identity, curves)["rgb"]
    return FixedMotion(curves, driver, pose, None, truth["mouth"], truth["lids"].mean(1))


def from_file(path: str | Path, codec) -> FixedMotion:
    """Returns the motion of a file, one of its frames for each frame, in the numbers of a codec.

    The file is one of saved motion (`read_motion`), or a .npy file of motion vectors, float (T, 9 + Z): pose, then
    dynamics. InputError for another, for one of another codec, and for less than LEAST_FRAMES.
    """
    saved = Path(path).suffix.lower() in SUFFIXES
    motion = read_motion(path) if saved else checked_motion(path, _of_array(path, codec))
    remedy = "give one that reenact saved with this config.checkpoint (config.motion_output)"
    if fault := motion.unfit(codec):
        raise InputError(f"{path}: {fault}; {remedy}")
    if len(motion) < LEAST_FRAMES:
        raise InputError(f"{path}: holds {len(motion)} frames; give at least {LEAST_FRAMES}")
    return FixedMotion(None, None, motion.pose, motion, None, None)


def _of_array(path: str | Path, codec) -> DrivingMotion:
    """The motion of a .npy file, whose numbers do not say whose they are: taken for the codec's own."""
    width = POSE_DIM + codec.dynamics
    vectors = read_array(path, f"give a .npy file of motion, (frames, {width}), or motion that reenact saved")
    if vectors.dtype.kind not in "fiu":
        raise InputError(f"{path}: holds {vectors.dtype}; give numbers, (frames, {width})")
    with np.errstate(over="ignore"):  # too large a number becomes infinite, and is refused
        vectors = vectors.astype(np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != width or len(vectors) < LEAST_FRAMES or not np.isfinite(vectors).all():
        raise InputError(
            f"{path}: holds {vectors.shape}; give finite motion, at least {LEAST_FRAMES} frames of {width} numbers"
        )
    return DrivingMotion(vectors[:, :POSE_DIM], vectors[:, POSE_DIM:], FPS, codec.codec)


def _as_framed(frames: np.ndarray, framing: str) -> np.ndarray:
    """Returns frames of the built-in corpus, uint8 (T, n, n, 3), in the square that a codec's driving videos have."""
    if framing == CORPUS:
        return frames
    side = frames.shape[1]
    square = VideoFraming().square(corpus_box(side))
    return np.stack([crop_square(frame, square, side)[0] for frame in frames])


def drawer(renderer: PhotoRenderer):
    """Returns a compiled function: (head, curves, poses (T, 9)) to uint8 (T, n, n, 3), the head in that motion."""

    @jax.jit
    def draw(head, curves, poses):
        frames = jax.lax.map(lambda at: renderer.draw(head, *at).rgb, (curves, poses))
        return jnp.clip(frames + 0.5, 0, 255).astype(jnp.uint8)

    def drawn(head: PhotoHead, curves: dict[str, np.ndarray], poses: np.ndarray) -> np.ndarray:
        return np.asarray(draw(head, curves, jnp.asarray(poses)))

    return drawn
